package router_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

// The kernel half answers recursive queries for a mutable item only as long as this node is among those where others put newer
// versions: nodes that are closer may come, and go.
func TestHotItemFollowsTheTable(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 3, router.IPv4)
		time.Sleep(time.Minute)
		n := fleet[1]
		k := hotKernelOf(t, n.Node)
		// One whose target shares no bit with our ID, so that half of all nodes are closer to it.
		var it router.Item
		for i := byte(0); ; i++ {
			it = signedItem(ed25519.NewKeyFromSeed(append(make([]byte, 31), i)), "", "3:one", 1)
			if it.Target[0]>>7 != n.ID(router.IPv4)[0]>>7 {
				break
			}
		}
		if _, err := fleet[0].PutMutable(t.Context(), it, nil); err != nil {
			t.Fatal(err)
		}
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		for range 20 {
			c.send(c.datagram(getItem(it.Target)))
			if r, _ := c.receive(answerTime); r == nil || string(r.V) != "3:one" {
				t.Fatal(brief(r))
			}
		}
		time.Sleep(2 * time.Second)
		if k.item(it.Target) == "" || k.queriesFor(it.Target) != bpf.All {
			t.Fatalf("among the closest: %q for %v", k.item(it.Target), k.queriesFor(it.Target))
		}
		for i := range 20 {
			m := s.start(t, router.Config{Bootstrap: []string{n.addr.String()}, Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 100+i))
			fleet = append(fleet, m)
		}
		time.Sleep(time.Minute)
		if k.item(it.Target) == "" || k.queriesFor(it.Target) != bpf.Plain {
			t.Errorf("with closer nodes: %q for %v", k.item(it.Target), k.queriesFor(it.Target))
		}
		stopAll(fleet)
	})
}

// Of fetched items that wait for the kernel half, the older make room for the newer.
func TestHotItemsMakeRoomWhileTheyWait(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		conn := s.listen(simAddr(router.IPv4, 0))
		n, err := router.New(router.Config{Conns: []router.Conn{conn}, Recursion: recursion}) // they wait until it runs
		if err != nil {
			t.Fatal(err)
		}
		k := hotKernelOf(t, n)
		holder := simAddr(router.IPv4, 10)
		var last router.ID
		for i := range 1200 {
			v := fmt.Appendf(nil, "i%de", i)
			last = krpc.ImmutableTarget(v)
			r := krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: krpc.NodeIDFor(holder.Addr(), 1, anyID()), HasID: true, V: v}
			b, err := r.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			err = n.Resume(router.RecursionState{
				Client: clientAddr(router.IPv4, 0), Local: conn.LocalAddr(), TID: []byte("aa"), Method: krpc.MethodGet, Target: last, Started: time.Now(),
				Reply: b, ReplyFrom: holder,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- n.Run(ctx) }()
		time.Sleep(time.Second)
		if k.item(last) == "" {
			t.Error("the kernel half does not have what was fetched last")
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}
