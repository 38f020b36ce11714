package discover_test

import "testing"

// TestIPv4LinkLocal forms a network where nodes have no addresses but those that they gave themselves (RFC 3927), as on a cable
// between two machines without a DHCP server.
func TestIPv4LinkLocal(t *testing.T) {
	l := newLAN(t)
	a, b := newBox(t, "a"), newBox(t, "b")
	l.plug(a.ns, "eth0", "169.254.7.1/16")
	l.plug(b.ns, "eth0", "169.254.8.2/16")
	a.start()
	b.start()
	know(t, a, b)
	shares(t, a, b)
}
