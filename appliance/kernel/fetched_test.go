package kernel_test

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"kdht/appliance/kernel"
	"kdht/appliance/nexthop"
	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// elsewhere starts a node without a kernel half, and returns its address.
func elsewhere(t *testing.T) (n *router.Node, addr netip.AddrPort) {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "kdht.db"), store.Options{PeerTTL: time.Hour})
	must(t, err)
	conns, err := router.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	must(t, err)
	n, err = router.New(router.Config{Conns: conns, Store: s, Private: true})
	must(t, err)
	ran := make(chan error)
	go func() { ran <- n.Run(t.Context()) }()
	t.Cleanup(func() {
		must(t, <-ran)
		must(t, s.Close())
	})
	return n, conns[0].LocalAddr()
}

// TestFetchedIsNewerThanStored has a program fetch a newer version of an item than the one that is stored here and hot: the kernel half gives nobody the
// older one any more.
func TestFetchedIsNewerThanStored(t *testing.T) {
	_, addr := elsewhere(t)
	n := newHotNodeWith(t, bpf.Config{}, func(c *router.Config) {
		c.Bootstrap = []string{addr.String()}
		c.Tuning = router.Tuning{QueryRatePerNode: 10_000}
	}, nil)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	k := [32]byte(key.Public().(ed25519.PublicKey))
	get := getOf(krpc.MutableTarget(k[:], nil))
	here, there := n.dial(t), hotNode{addr: addr.String()}.dial(t)
	put(t, here, key, exchange(t, here, get).Token, 1)
	eventually(t, "what is stored is not hot", func() bool {
		exchange(t, here, get)
		r := n.ask(t, get)
		return r != nil && r.Seq == 1
	})
	put(t, there, key, exchange(t, there, get).Token, 2)
	eventually(t, "the newer version is not found elsewhere", func() bool {
		r, err := n.GetMutable(t.Context(), k, nil)
		return err == nil && r.Item.Seq == 2
	})
	if r := n.ask(t, get); r != nil && r.Seq != 2 {
		t.Errorf("seq 2 was fetched, but the kernel half answers with %d", r.Seq)
	}
}

// TestFetchedIsNeverStale has one version after the other of an item fetched that another node holds, while it is asked for all the time: by a
// program, and by what the kernel half has received for a client. Once either has its answer, the kernel half gives nobody an older version.
func TestFetchedIsNeverStale(t *testing.T) {
	other, addr := elsewhere(t)
	n := newHotNodeWith(t, bpf.Config{}, func(c *router.Config) {
		c.Bootstrap = []string{addr.String()}
		c.Recursion = router.Recursion{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		c.Tuning = router.Tuning{QueryRatePerNode: 10_000}
	}, func(c *kernel.Config) {
		f := newFake()
		f.rec = recursive{nexthops: make(chan nexthop.Changes)}
		c.Clients = []netip.Prefix{netip.PrefixFrom(asker.Addr(), 32)}
		c.NextHops = func() (kernel.NextHops, error) { return nextHops{f}, nil }
	})
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	k := [32]byte(key.Public().(ed25519.PublicKey))
	target := krpc.MutableTarget(k[:], nil)
	there := hotNode{addr: addr.String()}.dial(t)
	token := exchange(t, there, getOf(target)).Token
	put(t, there, key, token, 1)
	get := getOf(target)
	get.Recursive = true
	eventually(t, "the item is not found elsewhere", func() bool {
		r, err := n.GetMutable(t.Context(), k, nil)
		return err == nil && r.Item.Seq == 1
	})
	if r := exchange(t, n.dial(t), get); r.Seq != 1 {
		t.Fatalf("%+v", r)
	}
	hot := func(seq int64) func() bool {
		return func() bool { r := n.ask(t, get); return r != nil && r.Seq == seq }
	}
	eventually(t, "what was fetched is not hot", hot(1))

	client := n.dial(t)
	fetch := []struct {
		what string
		seq  func(put int64) int64
	}{
		{"a program's get", func(int64) int64 {
			r, err := n.GetMutable(t.Context(), k, nil)
			must(t, err)
			return r.Item.Seq
		}},
		{"what the kernel half has received", func(seq int64) int64 {
			v := fmt.Appendf(nil, "i%de", seq)
			reply, err := (&krpc.Message{
				Type: krpc.TypeResponse, TID: []byte("krnl"), ID: other.ID(router.IPv4), HasID: true,
				V: v, K: k[:], Seq: seq, HasSeq: true, Sig: krpc.Sign(key, nil, seq, v),
			}).Append(nil)
			must(t, err)
			must(t, n.Resume(router.RecursionState{
				Client: netip.MustParseAddrPort(client.LocalAddr().String()), TID: fmt.Append(nil, seq), Method: krpc.MethodGet, Target: target,
				Started: time.Now(), Reply: reply, ReplyFrom: addr,
			}))
			b := make([]byte, 2048)
			must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
			size, err := client.Read(b)
			must(t, err)
			var m krpc.Message
			must(t, krpc.Decode(b[:size], &m))
			return m.Seq
		}},
	}
	asking := n.askAlways(t, get)
	seq := int64(1)
	for range 20 {
		for _, f := range fetch {
			seq++
			put(t, there, key, token, seq)
			if got := f.seq(seq); got != seq {
				t.Fatalf("%s: seq %d, want %d", f.what, got, seq)
			}
			asking.acknowledged.Store(seq)
			if r := n.ask(t, get); r != nil && r.Seq < seq {
				t.Errorf("%s has brought seq %d, but the kernel half answers with %d", f.what, seq, r.Seq)
			}
			eventually(t, "the version that "+f.what+" has brought does not become hot", hot(seq))
		}
	}
	asking.stop(t)
}
