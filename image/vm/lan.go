package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"kdht/bpf/netns"
)

// Addresses of a LAN: those of the host, of the range that DHCP hands out, and the one for IPv6, where addresses are made
// from what the router advertises.
var (
	LANHost   = netip.MustParseAddr("198.18.0.1")
	LANPrefix = netip.MustParsePrefix("198.18.0.0/16")
	LANHost6  = netip.MustParseAddr("fd00:6b64:6874::1")
)

// LAN is a network in a namespace of its own: a bridge that machines plug in to, with a DHCP server and a router's
// advertisements (dnsmasq) on the host's side of it. Tests talk to machines from inside the namespace.
type LAN struct {
	// NS is the namespace; its interface is br0. More addresses may be added to that.
	NS *netns.NS

	dnsmasq *exec.Cmd
	log     lockedBuffer
	mu      sync.Mutex
	taps    int
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// leased is how dnsmasq logs that it gave somebody an address.
var leased = regexp.MustCompile(`DHCPACK\(br0\) (\S+) (\S+)`)

// queues is how many queues a card has: as many as native XDP wants of a machine with two CPUs: one for each to receive
// with, and one for each to send with from the program.
const queues = 4

// NewLAN makes a network. dir is for files.
func NewLAN(label, dir string) (*LAN, error) {
	ns, err := netns.Make(label)
	if err != nil {
		return nil, err
	}
	l := &LAN{NS: ns}
	if err := l.setUp(dir); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *LAN) setUp(dir string) error {
	err := l.NS.Batch(
		"link add br0 type bridge forward_delay 0 stp_state 0",
		"link set br0 up",
		fmt.Sprintf("addr add %s/%d dev br0", LANHost, LANPrefix.Bits()),
		fmt.Sprintf("addr add %s/64 dev br0 nodad", LANHost6))
	if err != nil {
		return err
	}
	l.dnsmasq = exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--no-poll",
		"--user=root", "--port=0", "--log-facility=-", "--log-dhcp", "--interface=br0", "--bind-interfaces", "--pid-file=",
		"--dhcp-leasefile="+filepath.Join(dir, "leases"), "--dhcp-authoritative", "--dhcp-sequential-ip", "--no-ping",
		"--dhcp-range=198.18.1.1,198.18.1.200,255.255.0.0,12h", "--dhcp-option=option:router,198.18.0.1",
		"--enable-ra", "--dhcp-range=fd00:6b64:6874::,ra-only,64", "--ra-param=br0,10")
	l.dnsmasq.Stdout, l.dnsmasq.Stderr = &l.log, &l.log
	if err := l.NS.Start(l.dnsmasq); err != nil {
		return fmt.Errorf("DHCP server: %w (on Debian: .ci/setup)", err)
	}
	return nil
}

// Close removes the network; machines on it lose theirs.
func (l *LAN) Close() error {
	if l.dnsmasq != nil && l.dnsmasq.Process != nil {
		_ = l.dnsmasq.Process.Kill()
		_ = l.dnsmasq.Wait() // it was killed
	}
	return l.NS.Close()
}

// Log is what the DHCP server did.
func (l *LAN) Log() string {
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	return l.log.b.String()
}

// NIC plugs a card in, with the given MAC address and as many queues as native XDP needs. QEMU must run as root.
func (l *LAN) NIC(mac string) (NIC, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tap := fmt.Sprintf("tap%d", l.taps)
	l.taps++
	err := l.NS.Batch(
		"tuntap add dev "+tap+" mode tap multi_queue vnet_hdr",
		"link set "+tap+" master br0",
		"link set "+tap+" up")
	if err != nil {
		return NIC{}, err
	}
	return NIC{
		MAC: mac, queues: queues, lan: l,
		backend: fmt.Sprintf("tap,ifname=%s,script=no,downscript=no,vhost=off,queues=%d", tap, queues),
	}, nil
}

// HTTP returns a client that connects from inside the network.
func (l *LAN) HTTP() *http.Client {
	dial := func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = l.NS.Do(func() error {
			d := net.Dialer{Timeout: 5 * time.Second}
			conn, err = d.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// ListenUDP opens a socket inside the network; addr may have any address of br0, and port 0.
func (l *LAN) ListenUDP(addr netip.AddrPort) (conn *net.UDPConn, err error) {
	err = l.NS.Do(func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// Lease waits until DHCP has given an address to a MAC address, and returns it.
func (l *LAN) Lease(ctx context.Context, mac string) (netip.Addr, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, m := range leased.FindAllStringSubmatch(l.Log(), -1) {
			if m[2] == mac {
				return netip.ParseAddr(m[1])
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return netip.Addr{}, fmt.Errorf("waiting for the DHCP lease of %s: %w", mac, ctx.Err())
		}
	}
}
