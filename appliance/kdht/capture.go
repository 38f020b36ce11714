package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// datagram is a UDP datagram out of a capture.
type datagram struct {
	time     time.Time
	src, dst netip.AddrPort
	payload  []byte
	cut      bool // the capture holds only the beginning of the payload
}

// packetSource reads the packets of a capture; pcapgo has one type for each format.
type packetSource interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

// isCapture says whether a file that begins so is a pcap or pcapng file.
func isCapture(head []byte) bool {
	for _, magic := range []string{
		"\xa1\xb2\xc3\xd4", "\xd4\xc3\xb2\xa1", // pcap, microseconds
		"\xa1\xb2\x3c\x4d", "\x4d\x3c\xb2\xa1", // pcap, nanoseconds
		"\x0a\x0d\x0d\x0a", // pcapng
	} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// readCapture calls f with every UDP datagram of a capture: IPv4 and IPv6, with and without VLAN tags. Fragments are
// left out.
func readCapture(r *bufio.Reader, f func(datagram) error) error {
	src, err := openCapture(r)
	if err != nil {
		return failed(err, "write captures with: tcpdump -w FILE udp", "cannot read the capture")
	}
	for n := 1; ; n++ {
		data, info, err := src.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(err, "the capture is damaged from there on, or was cut off", "packet %d", n)
		}
		if d, ok := udpOf(data, src.LinkType()); ok {
			d.time = info.Timestamp
			if err := f(d); err != nil {
				return err
			}
		}
	}
}

func openCapture(r *bufio.Reader) (packetSource, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("no header: %w", err)
	}
	if string(head) == "\x0a\x0d\x0d\x0a" {
		return pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(r)
}

// udpOf finds the UDP datagram in a packet.
func udpOf(data []byte, link layers.LinkType) (d datagram, ok bool) {
	p := gopacket.NewPacket(data, link, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok {
		return d, false
	}
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		d.src, d.dst = endpoint(ip.SrcIP, udp.SrcPort), endpoint(ip.DstIP, udp.DstPort)
	case *layers.IPv6:
		d.src, d.dst = endpoint(ip.SrcIP, udp.SrcPort), endpoint(ip.DstIP, udp.DstPort)
	default:
		return d, false
	}
	d.payload = udp.Payload
	d.cut = int(udp.Length) > len(udp.Payload)+8 // the length counts the header
	return d, true
}

func endpoint(ip []byte, port layers.UDPPort) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip) // the decoder gives 4 or 16 bytes
	return netip.AddrPortFrom(a, uint16(port))
}
