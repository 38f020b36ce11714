package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
)

func listenOne(t *testing.T, addr string) router.Conn {
	t.Helper()
	conns, err := router.Listen(t.Context(), netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conns[0].Close() })
	return conns[0]
}

func rooms(n, size int) []router.Packet {
	ps := make([]router.Packet, n)
	for i := range ps {
		ps[i].Data = make([]byte, size)
	}
	return ps
}

// More datagrams than fit into one system call arrive whole, in order, and with the right addresses.
func TestBatches(t *testing.T) {
	for _, addrs := range [][2]string{{"127.16.0.1:0", "127.16.0.2:0"}, {"[::1]:0", "[::1]:0"}, {"0.0.0.0:0", "127.16.0.2:0"}} {
		a, b := listenOne(t, addrs[0]), listenOne(t, addrs[1])
		to := a.LocalAddr()
		if to.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(netip.MustParseAddr("127.16.0.9"), to.Port())
		}
		const total = 150
		var out []router.Packet
		for i := range total {
			out = append(out, router.Packet{Data: fmt.Appendf(nil, "datagram %d", i), Addr: to})
		}
		if n, err := b.WriteBatch(out); n != total || err != nil {
			t.Fatalf("sent %d: %v", n, err)
		}
		in := rooms(total, 64)
		for got := 0; got < total; {
			n, err := a.ReadBatch(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range in[:n] {
				if want := fmt.Sprintf("datagram %d", got); string(p.Data) != want || p.Addr != b.LocalAddr() {
					t.Fatalf("got %q from %v, want %q from %v", p.Data, p.Addr, want, b.LocalAddr())
				}
				if a.LocalAddr().Addr().IsUnspecified() && p.Local != to.Addr() {
					t.Fatalf("it was for %v, not %v", to.Addr(), p.Local)
				}
				got++
			}
		}
	}
}

// A datagram that cannot be sent is dropped; those after it are sent.
func TestUnsendableIsDropped(t *testing.T) {
	a, b := listenOne(t, "127.16.1.1:0"), listenOne(t, "127.16.1.2:0")
	good := router.Packet{Data: []byte("good"), Addr: a.LocalAddr()}
	bad := router.Packet{Data: []byte("bad"), Addr: netip.AddrPortFrom(a.LocalAddr().Addr(), 0)}
	n, err := b.WriteBatch([]router.Packet{bad, good, bad, bad, good, bad})
	if n != 2 || err == nil {
		t.Errorf("sent %d: %v", n, err)
	}
	for got := 0; got < 2; {
		in := rooms(4, 64)
		n, err := a.ReadBatch(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range in[:n] {
			if string(p.Data) != "good" {
				t.Errorf("got %q", p.Data)
			}
			got++
		}
	}
}

func TestCloseUnblocksRead(t *testing.T) {
	a := listenOne(t, "127.16.2.1:0")
	done := make(chan error)
	go func() {
		_, err := a.ReadBatch(rooms(1, 64))
		done <- err
	}()
	_ = a.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := a.WriteBatch([]router.Packet{{Data: []byte("x"), Addr: a.LocalAddr()}}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// A port whose owner is on its way out is waited for; one that stays in use is an error.
func TestListenWaitsForThePort(t *testing.T) {
	a := listenOne(t, "127.16.3.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := router.Listen(ctx, a.LocalAddr()); err == nil {
		t.Fatal("two sockets on one port")
	}
	type result struct {
		conns []router.Conn
		err   error
	}
	done := make(chan result)
	go func() {
		conns, err := router.Listen(t.Context(), a.LocalAddr())
		done <- result{conns, err}
	}()
	_ = a.Close()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	_ = r.conns[0].Close()
}
