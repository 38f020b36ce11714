package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A peer record is an entry of bucketPeers: expires(4) serial(4) → infohash(20)
// flags(1) source(8) port(2) address(4 or 16).
const (
	peerSeed = 1
	peerIPv6 = 2

	peerKeySize   = 4 + 4
	peerValueSize = 20 + 1 + 8 + 2

	// peerCost is what a peer is charged.
	peerCost = 64
)

// peer is a peer in memory. 40 bytes without pointers: there may be many.
type peer struct {
	addr            [16]byte // IPv4 mapped
	source          source
	expires, serial uint32
	port            uint16
	seed            bool
}

func (p *peer) key() []byte {
	k := make([]byte, 0, peerKeySize)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(k, p.expires), p.serial)
}

func (p *peer) ip() netip.Addr { return netip.AddrFrom16(p.addr).Unmap() }

func (p *peer) encode(infohash Key) []byte {
	v := make([]byte, 0, peerValueSize+16)
	v = append(v, infohash[:]...)
	var flags byte
	if p.seed {
		flags |= peerSeed
	}
	ip := p.ip()
	if ip.Is6() {
		flags |= peerIPv6
	}
	v = append(v, flags)
	v = binary.BigEndian.AppendUint64(v, uint64(p.source))
	v = binary.BigEndian.AppendUint16(v, p.port)
	return append(v, ip.AsSlice()...)
}

func parsePeer(k, v []byte) (infohash Key, p peer, err error) {
	bad := fmt.Errorf("%w: peer entry of %d and %d bytes", ErrDamaged, len(k), len(v))
	if len(k) != peerKeySize || len(v) < peerValueSize {
		return infohash, p, bad
	}
	ip, ok := netip.AddrFromSlice(v[peerValueSize:])
	if !ok || ip.Is6() != (v[20]&peerIPv6 != 0) {
		return infohash, p, bad
	}
	return Key(v), peer{
		addr:    ip.As16(),
		source:  source(binary.BigEndian.Uint64(v[21:])),
		expires: binary.BigEndian.Uint32(k),
		serial:  binary.BigEndian.Uint32(k[4:]),
		port:    binary.BigEndian.Uint16(v[29:]),
		seed:    v[20]&peerSeed != 0,
	}, nil
}
