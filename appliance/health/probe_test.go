package health_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"kdht/appliance/health"
	"kdht/bpf/testenv"
)

// answerer listens on an address of this machine and answers each datagram with what f makes of it.
func answerer(t *testing.T, f func([]byte) []byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := f(buf[:n]); out != nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// node answers a ping as a node does.
func node(q []byte) []byte {
	id := q[bytes.Index(q, []byte("1:t3:"))+5:][:3]
	return []byte("d1:rd2:id20:01234567890123456789e1:t3:" + string(id) + "1:y1:re")
}

func TestAsk(t *testing.T) {
	well := answerer(t, node)
	drops := 0
	lossy := answerer(t, func(q []byte) []byte {
		if drops++; drops == 1 {
			return nil
		}
		return node(q)
	})
	refuses := answerer(t, func(q []byte) []byte {
		return bytes.Replace(node(q), []byte("1:rd2:id20:01234567890123456789e"), []byte("1:eli201e1:xe"), 1)
	})
	noise := answerer(t, func([]byte) []byte { return []byte("noise") })
	gone := netip.MustParseAddrPort(testenv.FreeAddress(t))
	for name, c := range map[string]struct {
		listen []netip.AddrPort
		some   bool
		err    string // of the probe; "" for none
	}{
		"answers":                {[]netip.AddrPort{well}, true, ""},
		"on all addresses":       {[]netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), well.Port())}, true, ""},
		"loses one":              {[]netip.AddrPort{lossy}, true, ""},
		"answers with an error":  {[]netip.AddrPort{refuses}, false, "an odd answer"},
		"answers with noise":     {[]netip.AddrPort{noise}, false, "an odd answer"},
		"is not there":           {[]netip.AddrPort{gone}, false, "connection refused"},
		"one of two is there":    {[]netip.AddrPort{well, gone}, true, "connection refused"},
		"address of nobody here": {[]netip.AddrPort{netip.MustParseAddrPort("[fe80::1%25none]:1")}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := health.Ask(t.Context(), c.listen)
			if p.Some != c.some || (p.Error == "") != (c.err == "") || !strings.Contains(p.Error, c.err) || p.At.IsZero() {
				t.Errorf("%+v", p)
			}
			if (p.Err() == nil) != c.some {
				t.Errorf("error %v", p.Err())
			}
		})
	}
}

// A prober goes on when the node has gone and comes again.
func TestProberOutlivesTheNode(t *testing.T) {
	addr := netip.MustParseAddrPort(testenv.FreeAddress(t))
	p := health.NewProber([]netip.AddrPort{addr})
	defer p.Close()
	if r := p.Ask(t.Context()); r.Err() == nil {
		t.Fatal("nobody answers, and it is well")
	}
	c, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(node(buf[:n]), from)
		}
	}()
	if r := p.Ask(t.Context()); r.Err() != nil {
		t.Error(r.Err())
	}
}
