package conformance_test

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// frame is a UDP datagram to the node in its frame, whose headers can be spoilt.
type frame struct {
	eth     layers.Ethernet
	ip4     *layers.IPv4
	ip6     *layers.IPv6
	ext     []gopacket.SerializableLayer // IPv6 extension headers
	udp     layers.UDP
	payload []byte
}

// newFrame makes a frame with nothing wrong.
func newFrame(from, to netip.AddrPort, payload []byte) *frame {
	src, _ := net.ParseMAC(clientMAC)
	dst, _ := net.ParseMAC(nodeMAC)
	f := &frame{
		eth: layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: layers.EthernetTypeIPv4},
		udp: layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}, payload: payload,
	}
	if to.Addr().Is6() {
		f.eth.EthernetType = layers.EthernetTypeIPv6
		f.ip6 = &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, HopLimit: 64, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	} else {
		f.ip4 = &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: 4711, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	}
	return f
}

// bytes is the frame with right lengths and checksums.
func (f *frame) bytes() []byte { return f.serialize(f.payload) }

func (f *frame) serialize(payload []byte) []byte {
	all := []gopacket.SerializableLayer{&f.eth}
	if f.ip4 != nil {
		_ = f.udp.SetNetworkLayerForChecksum(f.ip4) // an IPv4 layer will do
		all = append(all, f.ip4)
	} else {
		_ = f.udp.SetNetworkLayerForChecksum(f.ip6) // so will an IPv6 one
		all = append(append(all, f.ip6), f.ext...)
	}
	all = append(all, &f.udp, gopacket.Payload(payload))
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

const ethLen, ip4Len, ip6Len, udpLen = 14, 20, 40, 8

// l3 is where the network header of a frame begins.
func l3(b []byte) []byte { return b[ethLen:] }

// l4 is where the UDP header of a frame without options begins.
func l4(b []byte) []byte {
	if b[12] == 0x86 {
		return b[ethLen+ip6Len:]
	}
	return b[ethLen+ip4Len:]
}

// sum4 makes the checksum of an IPv4 header without options right again.
func sum4(b []byte) []byte {
	h := l3(b)[:ip4Len]
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], ^checksum(h))
	return b
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// fragments cuts the frame into IPv4 or IPv6 fragments, the first of which has at bytes after the IP header.
func (f *frame) fragments(id uint32, at int) [][]byte {
	whole := f.bytes()
	body := whole[len(whole)-udpLen-len(f.payload):]
	var out [][]byte
	for i, part := range [][]byte{body[:at], body[at:]} {
		b := gopacket.NewSerializeBuffer()
		var ls []gopacket.SerializableLayer
		if f.ip4 != nil {
			h := *f.ip4
			h.Id, h.FragOffset = uint16(id), uint16(i*at/8)
			if i == 0 {
				h.Flags = layers.IPv4MoreFragments
			}
			ls = []gopacket.SerializableLayer{&f.eth, &h}
		} else {
			h := *f.ip6
			h.NextHeader = layers.IPProtocolIPv6Fragment
			ext := make([]byte, 8)
			ext[0] = byte(layers.IPProtocolUDP)
			binary.BigEndian.PutUint16(ext[2:], uint16(i*at)|uint16(1-i))
			binary.BigEndian.PutUint32(ext[4:], id)
			ls = []gopacket.SerializableLayer{&f.eth, &h, gopacket.Payload(append(ext, part...))}
			part = nil
		}
		if part != nil {
			ls = append(ls, gopacket.Payload(part))
		}
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
			panic(err)
		}
		out = append(out, b.Bytes())
	}
	return out
}
