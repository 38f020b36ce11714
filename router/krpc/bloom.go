package krpc

import (
	"crypto/sha1" // BEP 33 prescribes SHA-1
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// bloomBits is the size m of a BEP 33 filter in bits; each address sets k = 2 of them.
const bloomBits = 2048

// BloomFilter counts addresses without naming them (BEP 33). The zero value is empty.
type BloomFilter [bloomBits / 8]byte

// Add inserts an IP address. An IPv4-mapped address counts as IPv4.
func (f *BloomFilter) Add(ip netip.Addr) {
	ip = ip.Unmap()
	var sum [sha1.Size]byte
	if ip.Is4() {
		a := ip.As4()
		sum = sha1.Sum(a[:])
	} else {
		a := ip.As16()
		sum = sha1.Sum(a[:])
	}
	for i := 0; i < 4; i += 2 {
		bit := binary.LittleEndian.Uint16(sum[i:]) % bloomBits
		f[bit/8] |= 1 << (bit % 8)
	}
}

// Merge adds all that g holds, so that filters of several nodes can be counted as one.
func (f *BloomFilter) Merge(g *BloomFilter) {
	for i := range f {
		f[i] |= g[i]
	}
}

// Estimate returns about how many different addresses were added: 0 for an empty filter; a full one counts as having
// one bit left.
func (f *BloomFilter) Estimate() float64 {
	zeros := bloomBits
	for _, b := range f {
		zeros -= bits.OnesCount8(b)
	}
	if zeros == bloomBits {
		return 0 // and not -0
	}
	c := float64(max(zeros, 1))
	return math.Log(c/bloomBits) / (2 * math.Log(1-1.0/bloomBits))
}
