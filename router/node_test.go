package router_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// loopbackNode is a node of a private network on an address of 127/8.
type loopbackNode struct {
	*router.Node
	addr  netip.AddrPort
	store *store.Store
	stop  func()
}

// startNode runs a node with a store in dir ("" for a client without one) until the test ends or stop is called.
func startNode(t *testing.T, dir string, c router.Config, addrs ...string) *loopbackNode {
	t.Helper()
	var listen []netip.AddrPort
	for _, a := range addrs {
		listen = append(listen, netip.MustParseAddrPort(a))
	}
	conns, err := router.Listen(t.Context(), listen...)
	if err != nil {
		t.Fatal(err)
	}
	l := &loopbackNode{addr: conns[0].LocalAddr()}
	c.Conns, c.Private = conns, true
	if st, ok := c.Store.(*store.Store); ok {
		l.store = st
	} else if dir != "" {
		l.store = openStore(t, dir, store.Options{})
		c.Store = l.store
	}
	l.Node, err = router.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if l.store != nil {
			if err := l.store.Check(); err != nil {
				t.Errorf("store: %v", err)
			}
			if err := l.store.Close(); err != nil {
				t.Errorf("store: %v", err)
			}
		}
	}
	t.Cleanup(l.stop)
	return l
}

func openStore(t *testing.T, dir string, o store.Options) *store.Store {
	t.Helper()
	o.AnnounceInterval = -1
	st, err := store.Open(filepath.Join(dir, "store.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// ready waits for a node to find its place.
func (l *loopbackNode) ready(t *testing.T) {
	t.Helper()
	select {
	case <-l.Ready():
	case <-time.After(20 * time.Second):
		t.Fatalf("%v is not ready", l.addr)
	}
}

// startFleet runs nodes that know each other through the first.
func startFleet(t *testing.T, n, net int) []*loopbackNode {
	t.Helper()
	var fleet []*loopbackNode
	for i := range n {
		var c router.Config
		if i > 0 {
			c.Bootstrap = []string{fleet[0].addr.String()}
		}
		fleet = append(fleet, startNode(t, t.TempDir(), c, fmt.Sprintf("127.%d.0.%d:0", net, i+1)))
	}
	for _, l := range fleet {
		l.ready(t)
		eventually(t, "nodes know each other", func() bool { return l.Stats().Families[0].Good >= min(n-1, 8) })
	}
	return fleet
}

// eventually waits for something that real sockets and timers bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// signed returns a signed item.
func signed(key ed25519.PrivateKey, salt, v string, seq int64) router.Item {
	it := router.Item{Mutable: true, K: [32]byte(key.Public().(ed25519.PublicKey)), Salt: []byte(salt), Seq: seq, V: []byte(v)}
	it.Sig = [64]byte(krpc.Sign(key, it.Salt, seq, it.V))
	return it
}

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func TestFleetOnLoopback(t *testing.T) {
	fleet := startFleet(t, 12, 10)
	client := startNode(t, "", router.Config{ReadOnly: true, Bootstrap: []string{fleet[3].addr.String()}}, "127.10.1.1:0")
	client.ready(t)
	ctx := t.Context()

	pong, err := client.Ping(ctx, fleet[5].addr)
	if err != nil || pong.ID != fleet[5].ID(router.IPv4) || pong.IP != client.addr || string(pong.Version) != krpc.Version {
		t.Errorf("ping: %+v, %v", pong, err)
	}

	v := []byte("5:hello")
	put, err := client.PutImmutable(ctx, v)
	if err != nil || len(put.Stored) != 8 {
		t.Fatalf("put: %+v, %v", put, err)
	}
	key := testKey()
	first := signed(key, "salt", "3:one", 1)
	if _, err := fleet[2].PutMutable(ctx, first, nil); err != nil {
		t.Fatal(err)
	}
	infohash := router.ID{1, 2, 3}
	if r, err := fleet[7].Announce(ctx, infohash, 4242, true); err != nil || len(r.Stored) != 8 {
		t.Fatalf("announce: %+v, %v", r, err)
	}
	for _, l := range append(fleet, client) {
		if got, err := l.GetImmutable(ctx, put.Target); err != nil || !bytes.Equal(got.Item.V, v) {
			t.Errorf("%v gets %+v, %v", l.addr, got, err)
		}
		got, err := l.GetMutable(ctx, first.K, first.Salt)
		if err != nil || got.Item.Seq != 1 || !bytes.Equal(got.Item.V, first.V) {
			t.Errorf("%v gets %+v, %v", l.addr, got, err)
		}
		peers, err := l.Peers(ctx, infohash)
		want := netip.AddrPortFrom(fleet[7].addr.Addr(), 4242)
		if err != nil || len(peers.Peers) != 1 || peers.Peers[0] != want {
			t.Errorf("%v finds %+v, %v", l.addr, peers, err)
		}
		found, err := l.FindNode(ctx, fleet[0].ID(router.IPv4))
		if err != nil || len(found.Nodes) != 8 || l != fleet[0] && found.Nodes[0].ID != fleet[0].ID(router.IPv4) {
			t.Errorf("%v finds %+v, %v", l.addr, found, err)
		}
	}

	old := int64(9)
	var refused *krpc.Error
	if _, err := client.PutMutable(ctx, signed(key, "salt", "3:two", 2), &old); !errors.As(err, &refused) || refused.Code != krpc.ErrCodeCAS {
		t.Errorf("put with a wrong cas: %v", err)
	}
	if _, err := client.PutMutable(ctx, signed(key, "salt", "3:two", 0), nil); !errors.As(err, &refused) || refused.Code != krpc.ErrCodeSeq {
		t.Errorf("put with an old seq: %v", err)
	}
	second, err := client.UpdateMutable(ctx, first.K, first.Salt, func(current *router.Item) (router.Item, *int64, error) {
		return signed(key, "salt", "3:two", current.Seq+1), &current.Seq, nil
	})
	if err != nil || len(second.Stored) == 0 {
		t.Errorf("update: %+v, %v", second, err)
	}
	if got, err := fleet[9].GetMutable(ctx, first.K, first.Salt); err != nil || got.Item.Seq != 2 {
		t.Errorf("after the update: %+v, %v", got, err)
	}
	if _, err := client.GetImmutable(ctx, router.ID{9}); !errors.Is(err, router.ErrNotFound) {
		t.Errorf("get of nothing: %v", err)
	}
}
