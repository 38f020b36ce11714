package bpf_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	nodeMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	askerMAC = net.HardwareAddr{2, 0, 0, 0, 7, 9}
)

// datagram is a UDP datagram in its frame.
type datagram struct {
	from, to       netip.AddrPort
	fromMAC, toMAC net.HardwareAddr
	vlans          []uint16 // tags, outermost first
	reply          bool     // with the header fields that replies have
	payload        []byte
}

// queryTo is a query from an asker to the node of the same family.
func queryTo(node netip.AddrPort, from netip.AddrPort, payload []byte) datagram {
	return datagram{from: from, to: node, fromMAC: askerMAC, toMAC: nodeMAC, payload: payload}
}

// answer is the datagram that answers d.
func (d datagram) answer(payload []byte) datagram {
	d.from, d.to, d.fromMAC, d.toMAC = d.to, d.from, d.toMAC, d.fromMAC
	d.reply, d.payload = true, payload
	return d
}

// frame serialises d with correct lengths and checksums.
func (d datagram) frame(t testing.TB) []byte {
	t.Helper()
	network := layers.EthernetTypeIPv4
	if d.to.Addr().Is6() {
		network = layers.EthernetTypeIPv6
	}
	next := network
	if len(d.vlans) > 0 {
		next = layers.EthernetTypeDot1Q
	}
	all := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: d.fromMAC, DstMAC: d.toMAC, EthernetType: next}}
	for i, id := range d.vlans {
		next := layers.EthernetTypeDot1Q
		if i == len(d.vlans)-1 {
			next = network
		}
		all = append(all, &layers.Dot1Q{Priority: 3, VLANIdentifier: id, Type: next})
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(d.from.Port()), DstPort: layers.UDPPort(d.to.Port())}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	}
	if d.to.Addr().Is6() {
		v6 := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, HopLimit: 57, TrafficClass: 32, FlowLabel: 0xabcde,
			SrcIP: d.from.Addr().AsSlice(), DstIP: d.to.Addr().AsSlice()}
		if d.reply {
			v6.HopLimit, v6.TrafficClass, v6.FlowLabel = 64, 0, 0
		}
		ip = v6
	} else {
		v4 := &layers.IPv4{Version: 4, IHL: 5, TTL: 57, TOS: 32, Id: 4711, Protocol: layers.IPProtocolUDP,
			SrcIP: d.from.Addr().AsSlice(), DstIP: d.to.Addr().AsSlice()}
		if d.reply {
			v4.TTL, v4.TOS, v4.Id, v4.Flags = 64, 0, 0, layers.IPv4DontFragment
		}
		ip = v4
	}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	all = append(all, ip, udp, gopacket.Payload(d.payload))
	must(t, gopacket.SerializeLayers(b, opts, all...))
	out := b.Bytes()
	if sum := out[len(out)-len(d.payload)-2:][:2]; sum[0]|sum[1] == 0 {
		sum[0], sum[1] = 0xff, 0xff
	}
	return out
}

// l3 is the offset of the IP header of a frame.
func (d datagram) l3() int { return 14 + 4*len(d.vlans) }

// l4 is the offset of the UDP header of a frame.
func (d datagram) l4() int {
	if d.to.Addr().Is6() {
		return d.l3() + 40
	}
	return d.l3() + 20
}

// pseudoSum is the folded sum of the pseudo header: what a local sender leaves in the checksum field.
func (d datagram) pseudoSum() uint16 {
	b := append(d.from.Addr().AsSlice(), d.to.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, 17)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(d.payload)))
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
