package linklocal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/linklocal"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// TestMain is also the program that gives addresses, in a namespace of its own.
func TestMain(m *testing.M) {
	if os.Getenv("KDHT_LINKLOCAL") == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := linklocal.New(0, slog.Default()).Run(ctx); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// host is a namespace with an interface eth0 at a common bridge.
type host struct {
	t  *testing.T
	ns *netns.NS
}

// addrs lists its IPv4 addresses.
func (h *host) addrs() (all []string) {
	out, err := h.ns.Output("ip", "-4", "-o", "addr", "show", "dev", "eth0")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		all = append(all, strings.Fields(line)[3])
	}
	return all
}

// mac is that of eth0.
func (h *host) mac() (mac [6]byte) {
	err := h.ns.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = [6]byte(i.HardwareAddr)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return mac
}

// run gives the host addresses, and gives what stops that.
func (h *host) run() (stop func()) {
	h.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KDHT_LINKLOCAL=1")
	cmd.Stdout, cmd.Stderr = h.t.Output(), h.t.Output()
	if err := h.ns.Start(cmd); err != nil {
		h.t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			h.t.Error(err)
		}
	}
	return stop
}

// reaches checks that the host gets an answer from an address.
func (h *host) reaches(a netip.Addr) {
	h.t.Helper()
	err := h.ns.Do(func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 9).String(), 5*time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	if !errors.Is(err, unix.ECONNREFUSED) {
		h.t.Errorf("%s: %v", a, err)
	}
}

// asks has the host ask for an address that nobody has, and say that it has another one itself.
func (h *host) asks(own, a netip.Addr) {
	h.t.Helper()
	err := h.ns.Do(func() error {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("anybody?"))
		return errors.Join(err, c.Close())
	})
	if err != nil {
		h.t.Error(err)
	}
}

// until waits until the host has just these addresses.
func (h *host) until(want ...string) {
	h.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !slices.Equal(h.addrs(), want); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("addresses %v, want %v", h.addrs(), want)
		}
	}
}

func (h *host) ip(args ...string) {
	h.t.Helper()
	if err := h.ns.IP(args...); err != nil {
		h.t.Fatal(err)
	}
}

// TestClaim gives hosts addresses that nobody has: others than those that are taken at first, or later, and none where there is
// another one.
func TestClaim(t *testing.T) {
	testenv.NeedNetNS(t)
	lan := netns.New(t, "lan")
	if err := lan.Batch("link add br0 type bridge", "link set br0 up"); err != nil {
		t.Fatal(err)
	}
	var hosts []*host
	for i := range 3 {
		h := &host{t, netns.New(t, fmt.Sprintf("h%d", i))}
		netns.Veth(t, netns.End{NS: h.ns, Name: "eth0"}, netns.End{NS: lan, Name: fmt.Sprintf("p%d", i)})
		if err := lan.IP("link", "set", fmt.Sprintf("p%d", i), "master", "br0"); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	a, b, other := hosts[0], hosts[1], hosts[2]
	addr := func(h *host, n int) string { return netip.PrefixFrom(linklocal.Candidate(h.mac(), n), 16).String() }
	other.ip("addr", "add", addr(b, 0), "dev", "eth0")
	stopA, stopB := a.run(), b.run()
	a.until(addr(a, 0))
	b.until(addr(b, 1))
	a.reaches(linklocal.Candidate(b.mac(), 1))

	// A conflict is defended against once, and not twice.
	other.ip("addr", "add", addr(a, 0), "dev", "eth0")
	for n := byte(0); !slices.Equal(a.addrs(), []string{addr(a, 1)}); n++ {
		if n == 100 {
			t.Fatalf("addresses %v, want %s", a.addrs(), addr(a, 1))
		}
		other.asks(linklocal.Candidate(a.mac(), 0), netip.AddrFrom4([4]byte{169, 254, 255, n}))
		time.Sleep(100 * time.Millisecond) // until the next question
	}

	b.ip("addr", "add", "10.0.0.1/24", "dev", "eth0") // DHCP was late
	b.until("10.0.0.1/24")
	b.ip("addr", "del", "10.0.0.1/24", "dev", "eth0")
	b.until(addr(b, 1))
	stopA()
	stopB()
	a.until()
}

// TestCandidates keeps to the addresses that may be taken (section 2.1), and gives an interface the same ones again.
func TestCandidates(t *testing.T) {
	seen := make(map[netip.Addr]bool)
	for n := range 2000 {
		a := linklocal.Candidate([6]byte{2, 0, 0, 0, 0, 1}, n)
		if b := a.As4(); b[0] != 169 || b[1] != 254 || b[2] < 1 || b[2] > 254 || a != linklocal.Candidate([6]byte{2, 0, 0, 0, 0, 1}, n) {
			t.Fatalf("%d: %s", n, a)
		}
		seen[a] = true
	}
	if len(seen) < 1900 {
		t.Errorf("%d addresses of 2000 tries", len(seen))
	}
	if linklocal.Candidate([6]byte{2, 0, 0, 0, 0, 1}, 0) == linklocal.Candidate([6]byte{2, 0, 0, 0, 0, 2}, 0) {
		t.Error("two interfaces have the same first candidate")
	}
}
