package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// kind is a query that the generator sends, as libtorrent writes it: 4 bytes of
// transaction ID, 4 bytes of version.
type kind struct {
	name   string
	method string
	// arg is the key that holds the target, empty for ping.
	arg string
	// value is the size of the items that are asked for, in bytes bencoded. Where it is 0, targets are random.
	value int
}

var kinds = []kind{
	{name: "ping", method: "ping"},
	{name: "find_node", method: "find_node", arg: "target"},
	{name: "get_peers", method: "get_peers", arg: "info_hash"},
	{name: "get", method: "get", arg: "target"},
	{name: "get 100 B", method: "get", arg: "target", value: 100},
	{name: "get 1000 B", method: "get", arg: "target", value: 1000},
}

// template is the datagram of a query and where its changing parts are.
type template struct {
	payload     []byte
	target, tid int // offsets in payload; target is 0 where there is none
}

func (k kind) template(rng *rand.Rand) template {
	id := make([]byte, 20)
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	var t template
	b := append([]byte("d1:ad2:id20:"), id...)
	if k.arg != "" {
		b = append(b, lengthPrefix(len(k.arg))+k.arg+"20:"...)
		t.target = len(b)
		b = append(b, make([]byte, 20)...)
	}
	b = append(b, "e1:q"+lengthPrefix(len(k.method))+k.method+"1:t4:"...)
	t.tid = len(b)
	t.payload = append(b, "\x00\x00\x00\x001:v4:LT\x02\x081:y1:qe"...)
	return t
}

func lengthPrefix(n int) string {
	if n > 9 {
		panic("a name of one digit's length is expected")
	}
	return string(rune('0'+n)) + ":"
}

// Sizes of the headers before the payload.
const (
	ethLen     = 14
	ipLen      = 20
	udpLen     = 8
	headersLen = ethLen + ipLen + udpLen
)

// endpoint is one side of the wire.
type endpoint struct {
	mac  [6]byte
	addr netip.AddrPort // IPv4
}

// appendHeaders writes Ethernet, IPv4 and UDP headers for a payload of n bytes,
// with the IPv4 checksum but without UDP's.
func appendHeaders(b []byte, from, to endpoint, n int) []byte {
	b = append(b, to.mac[:]...)
	b = append(b, from.mac[:]...)
	b = append(b, 0x08, 0x00)
	ip := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipLen+udpLen+n))
	b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(b, from.addr.Addr().AsSlice()...)
	b = append(b, to.addr.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[ip+10:], ^fold(sum(0, b[ip:ip+ipLen])))
	b = binary.BigEndian.AppendUint16(b, from.addr.Port())
	b = binary.BigEndian.AppendUint16(b, to.addr.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+n))
	return append(b, 0, 0)
}

// udpChecksum fills in the checksum of the datagram in frame (RFC 768).
func udpChecksum(frame []byte) {
	udp := frame[ethLen+ipLen:]
	udp[6], udp[7] = 0, 0
	s := sum(uint64(17)+uint64(len(udp)), frame[ethLen+12:ethLen+20])
	c := ^fold(sum(s, udp))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], c)
}

// sum adds big-endian 16-bit words, as 32-bit ones, to s (RFC 1071).
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 4; b = b[4:] {
		s += uint64(binary.BigEndian.Uint32(b))
	}
	switch len(b) {
	case 3:
		s += uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8
	case 2:
		s += uint64(b[0])<<24 | uint64(b[1])<<16
	case 1:
		s += uint64(b[0]) << 24
	}
	return s
}

func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// replyTID finds the transaction ID of 4 bytes in a reply.
func replyTID(payload []byte) (uint32, bool) {
	// It comes after everything long, so the search starts near the end.
	tail := payload[max(0, len(payload)-64):]
	i := bytes.LastIndex(tail, []byte("1:t4:"))
	if i < 0 || i+9 > len(tail) {
		return 0, false
	}
	return binary.BigEndian.Uint32(tail[i+5:]), true
}
