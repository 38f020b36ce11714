package limit

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

const cookieShift = 33 // the period of cookies is 2^33 ns, 8.6 s

// Cookie returns the transaction ID of a challenge to an address: 8 bits of the period, and 56 of SipHash-2-4 over address,
// port and period. It is good in this period and the next.
func (c *Config) Cookie(a netip.AddrPort, t Time) [8]byte {
	return c.cookie(a, uint64(t)>>cookieShift)
}

func (c *Config) cookie(a netip.AddrPort, period uint64) (out [8]byte) {
	var b [24]byte
	addr := a.Addr().As16()
	copy(b[:], addr[:])
	binary.LittleEndian.PutUint64(b[16:], period<<16)
	binary.BigEndian.PutUint16(b[16:], a.Port())
	h := siphash.Hash(binary.LittleEndian.Uint64(c.Secret[:8]), binary.LittleEndian.Uint64(c.Secret[8:]), b[:])
	binary.LittleEndian.PutUint64(out[:], h)
	out[0] = byte(period)
	return out
}

// IsCookie reports whether a transaction ID is the cookie of an address.
func (c *Config) IsCookie(tid []byte, a netip.AddrPort, t Time) bool {
	if len(tid) != 8 {
		return false
	}
	period := uint64(t) >> cookieShift
	age := uint64(byte(period) - tid[0])
	return age <= 1 && [8]byte(tid) == c.cookie(a, period-age)
}
