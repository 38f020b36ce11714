package fleet_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"kdht/router/krpc"
)

// ids checks that by the deadline every node's ID fits its address, and no node hands out another one under an ID that it
// does not have, but had before it learnt its address.
func (m *mixed) ids(ctx context.Context, t *testing.T, deadline time.Time) {
	ids := make(map[netip.AddrPort]krpc.ID)
	begin := time.Now()
	for {
		for i, n := range m.Nodes {
			r, err := n.Status(ctx)
			must(t, err)
			for k, f := range r.Families {
				addr := []netip.AddrPort{n.Addr4, n.Addr6}[k]
				ids[addr], err = krpc.ParseID(f.ID)
				must(t, err)
				if time.Now().After(deadline) && (f.External == nil || *f.External != addr.Addr() || !f.Secure) {
					t.Errorf("%s, isolated: %t: %+v", n.Name(), i > 0 && i <= isolated, f)
				}
			}
		}
		contacts, stale := 0, 0
		for _, n := range m.Nodes {
			for _, addr := range []netip.AddrPort{n.Addr4, n.Addr6} {
				must(t, m.handedOut(addr, ids, func(c netip.AddrPort, id krpc.ID) {
					want, ours := ids[c]
					contacts++
					if ours && id != want {
						stale++
						if time.Now().After(deadline) {
							t.Errorf("%v hands out %v under ID %v, which is %v", addr, c, id, want)
						}
					}
				}))
			}
		}
		t.Logf("after %v: %d of %d contacts have another ID", time.Since(begin).Round(time.Second/10), stale, contacts)
		if stale == 0 || t.Failed() {
			return
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}

// handedOut asks a node for the nodes closest to each of the IDs, and calls f once for every contact that it names.
func (m *mixed) handedOut(addr netip.AddrPort, ids map[netip.AddrPort]krpc.ID, f func(netip.AddrPort, krpc.ID)) error {
	var conn *net.UDPConn
	err := m.client.NS.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	type contact struct {
		addr netip.AddrPort
		id   krpc.ID
	}
	named := make(map[contact]bool)
	buf := make([]byte, 2048)
	for _, target := range ids {
		q := krpc.Message{
			Type: krpc.TypeQuery, Method: krpc.MethodFindNode, TID: []byte("ids"), ID: krpc.ID{1}, HasID: true,
			Target: target, HasTarget: true, ReadOnly: true,
		}
		b, err := q.Append(nil)
		if err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
		k, err := conn.Read(buf)
		if err != nil {
			return err
		}
		var r krpc.Message
		if err := krpc.Decode(buf[:k], &r); err != nil || r.Type != krpc.TypeResponse {
			return fmt.Errorf("%v answers %q: %w", addr, buf[:k], err)
		}
		for id, a := range krpc.Nodes(r.Nodes) {
			named[contact{a, id}] = true
		}
		for id, a := range krpc.Nodes6(r.Nodes6) {
			named[contact{a, id}] = true
		}
	}
	for c := range named {
		f(c.addr, c.id)
	}
	return nil
}
