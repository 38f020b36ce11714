package appliance_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"kdht/appliance/status"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

// TestSLAAC lets an interface appear while the program runs, as one on USB does, and a router on it later: the node
// answers at the address that the kernel makes then, from the kernel and from user space.
func TestSLAAC(t *testing.T) {
	testenv.NeedXDP(t)
	node, far := netns.New(t, "node"), netns.New(t, "far")
	running := serve(t, node, t.TempDir(), "--xdp", "native")
	netns.Veth(t,
		netns.End{NS: node, Name: "eth0"},
		netns.End{NS: far, Name: "eth0", Addrs: prefixes("2001:db8:0:8::2/64"), Pass: true})
	running.until("an interface without addresses but its own", func(r status.Report) bool {
		return nic(r, "eth0").Mode == "native"
	})
	prefix := netip.MustParsePrefix("2001:db8:0:8::/64")
	var addr netip.AddrPort
	for deadline := time.Now().Add(20 * time.Second); !addr.IsValid(); {
		if time.Now().After(deadline) {
			t.Fatalf("no address of %v among %v", prefix, running.report().XDP.Endpoints)
		}
		// The router's own address is none to send from until the kernel has found that nobody else has it.
		if err := far.Do(func() error { return advertise("eth0", prefix) }); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Fatal(err)
		}
		for _, a := range running.report().XDP.Endpoints {
			if prefix.Contains(a.Addr()) {
				addr = a
			}
		}
	}
	waitNeighbour(t, node, addr.Addr().String())
	before := answered(running.report(), "ping")
	c := dial(t, far, addr)
	if wrong := query(c, 0, patience); wrong != "" {
		t.Error(wrong)
	}
	if n := answered(running.report(), "ping") - before; n != 1 {
		t.Errorf("the kernel half answered %d pings at %v, want 1", n, addr)
	}
	// What is put and got again comes from user space, by the socket that was opened before there was an address.
	_, token := get(c, krpc.ID{}, patience)
	value := []byte("5:SLAAC")
	if m := exchange(c, &krpc.Message{Method: krpc.MethodPut, Token: token, V: value}, patience); m == nil || m.Type != krpc.TypeResponse {
		t.Fatalf("put: %+v", m)
	}
	if v, _ := get(c, krpc.ImmutableTarget(value), patience); string(v) != string(value) {
		t.Errorf("got %q, want %q", v, value)
	}
}

// advertise sends one router advertisement (RFC 4861 section 4.2) for a prefix from which hosts make addresses.
func advertise(name string, prefix netip.Prefix) (err error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	addrs, err := nic.Addrs()
	if err != nil {
		return err
	}
	var from string
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() == nil && ip.IP.IsLinkLocalUnicast() {
			from = ip.IP.String()
		}
	}
	zone := strconv.Itoa(nic.Index) // package net keeps for a minute which index a name has, also that of another namespace
	conn, err := net.ListenPacket("ip6:ipv6-icmp", from+"%"+zone)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := ipv6.NewPacketConn(conn).SetMulticastHopLimit(255); err != nil {
		return err
	}
	ra := []byte{134, 0, 0, 0, 64, 0}                // the kernel fills in the checksum
	ra = binary.BigEndian.AppendUint16(ra, 1800)     // lifetime of the router, seconds
	ra = append(ra, make([]byte, 8)...)              // reachable time, retransmission: unspecified
	ra = append(ra, 3, 4, byte(prefix.Bits()), 0xc0) // prefix information: on-link, autonomous
	ra = binary.BigEndian.AppendUint32(ra, 86400)    // valid, seconds
	ra = binary.BigEndian.AppendUint32(ra, 14400)    // preferred
	ra = append(append(ra, 0, 0, 0, 0), prefix.Addr().AsSlice()...)
	_, err = conn.WriteTo(ra, &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: zone})
	return err
}
