package fleet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/bpf/testenv"
)

// TestLink sends datagrams between hosts over links that delay and lose them, except those of near hosts.
func TestLink(t *testing.T) {
	testenv.NeedXDP(t)
	network, err := fleet.NewNetwork()
	must(t, err)
	t.Cleanup(func() { must(t, network.Close()) })
	var hosts [3]*fleet.Host
	for i, name := range []string{"echo", "client", "near"} {
		hosts[i], err = network.AddHost(name)
		must(t, err)
	}
	must(t, network.Near(hosts[2]))
	var seen atomic.Int64
	must(t, network.Observe(func(packet []byte) {
		if len(packet) > 0 && packet[len(packet)-1] == 'x' {
			seen.Add(1)
		}
	}))

	// trip sends datagrams to the first host, which sends them back, and returns how many came back, and the least time that
	// one took.
	trip := func(t *testing.T, from *fleet.Host, v6 bool, n int, patience time.Duration) (back int, least time.Duration) {
		echo, client := listen(t, hosts[0], v6), listen(t, from, v6)
		go func() {
			b := make([]byte, 2048)
			for {
				n, a, err := echo.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = echo.WriteToUDPAddrPort(b[:n], a)
			}
		}()
		to := echo.LocalAddr().(*net.UDPAddr).AddrPort()
		least = time.Hour
		for range n {
			begun := time.Now()
			_, err := client.WriteToUDPAddrPort(append(make([]byte, 1000), 'x'), to)
			must(t, err)
			must(t, client.SetReadDeadline(begun.Add(patience)))
			switch _, _, err := client.ReadFromUDPAddrPort(make([]byte, 2048)); {
			case errors.Is(err, os.ErrDeadlineExceeded):
			case err != nil:
				t.Fatal(err)
			default:
				back++
				least = min(least, time.Since(begun))
			}
		}
		return back, least
	}
	for _, v6 := range []bool{false, true} {
		must(t, network.SetLink(fleet.Link{}))
		if back, _ := trip(t, hosts[1], v6, 20, 10*time.Second); back != 20 || seen.Load() != 0 {
			t.Errorf("plain network: %d of 20 came back, %d were observed", back, seen.Load())
		}
		must(t, network.SetLink(fleet.Link{Delay: 5 * time.Millisecond}))
		if back, least := trip(t, hosts[1], v6, 20, 10*time.Second); back != 20 || least < 10*time.Millisecond || seen.Load() != 40 {
			t.Errorf("5 ms each way: %d of 20 came back, the first after %v; %d were observed", back, least, seen.Load())
		}
		must(t, network.SetLink(fleet.Link{Loss: 0.5}))
		if back, _ := trip(t, hosts[1], v6, 200, 20*time.Millisecond); back < 20 || back > 80 {
			t.Errorf("half of the packets lost: %d of 200 came back, want about 50", back)
		}
		must(t, network.SetLink(fleet.Link{Loss: 1}))
		if back, _ := trip(t, hosts[1], v6, 5, 20*time.Millisecond); back != 0 {
			t.Errorf("all packets lost: %d came back", back)
		}
		if back, _ := trip(t, hosts[2], v6, 20, 10*time.Second); back != 20 {
			t.Errorf("near host: %d of 20 came back", back)
		}
		seen.Store(0)
	}
}

// listen opens a socket on a host for the rest of the test.
func listen(t *testing.T, h *fleet.Host, v6 bool) (conn *net.UDPConn) {
	t.Helper()
	addr := h.IPv4
	if v6 {
		addr = h.IPv6
	}
	must(t, h.NS.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
