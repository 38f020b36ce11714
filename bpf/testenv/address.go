package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
)

// firstPort is the first port that FreeAddress gives.
const firstPort = 10000

// FreeAddress returns an address of the loopback interface, as ADDR:PORT, whose UDP and TCP ports are free, and are given to nobody who asks for
// any: they lie below those that Linux takes for that, as it does for other tests all the time.
func FreeAddress(t TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatalf("%v", err)
	}
	var end int
	if _, err := fmt.Sscan(string(b), &end); err != nil || end <= firstPort {
		t.Fatalf("the ports for those who ask for any are %q: %v", b, err)
	}
	for range 100 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(firstPort+rand.IntN(end-firstPort))).String()
		if isFree(addr) {
			return addr
		}
	}
	t.Fatalf("no port of 100 is free")
	return ""
}

// isFree reports whether nobody has the UDP and the TCP port.
func isFree(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
