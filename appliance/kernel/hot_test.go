package kernel_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"kdht/appliance/kernel"
	"kdht/appliance/link"
	"kdht/bpf"
	"kdht/bpf/testenv"
	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// hotNode is a node with a real store and a real kernel half, which frames are given to by hand.
type hotNode struct {
	*router.Node
	addr    string
	half    *kernel.Half
	program *bpf.Program
	ahead   *atomic.Int64 // of the store's clock, ns
	store   *store.Store
}

func newHotNode(t *testing.T, c bpf.Config) hotNode {
	t.Helper()
	return newHotNodeWith(t, c, nil, nil)
}

// newHotNodeWith changes the configuration of node and kernel half first, if there is something to change.
func newHotNodeWith(t *testing.T, c bpf.Config, change func(*router.Config), changeHalf func(*kernel.Config)) hotNode {
	t.Helper()
	testenv.NeedXDP(t)
	n := hotNode{ahead: new(atomic.Int64)}
	s, err := store.Open(filepath.Join(t.TempDir(), "kdht.db"), store.Options{
		PeerTTL: time.Hour,
		Now:     func() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) },
	})
	must(t, err)
	conns, err := router.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	must(t, err)
	n.addr, n.store = conns[0].LocalAddr().String(), s
	config := router.Config{Conns: conns, Store: s, Private: true}
	if change != nil {
		change(&config)
	}
	n.Node, err = router.New(config)
	must(t, err)
	f := newFake()
	h, endHalf := f.start(t, func(k *kernel.Config) {
		k.Listen, k.Node, k.Keys = []netip.AddrPort{asked}, n.Node, s.Keys
		k.PinDir = func(string) (string, error) { return "", errors.New("not wanted") }
		k.Load = func(loaded bpf.Config) (kernel.Program, error) {
			loaded.HotBytes = c.HotBytes
			n.program, err = bpf.Load(loaded)
			return n.program, err
		}
		if changeHalf != nil {
			changeHalf(k)
		}
	})
	n.half = h
	f.links <- []link.Link{}
	<-h.Ready()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, errors.Join(<-ran, endHalf(), s.Close()))
	})
	return n
}

// dial opens a socket to the node.
func (n hotNode) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", n.addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask gives the kernel half a query and returns its reply, or nil if it passes.
func (n hotNode) ask(t *testing.T, q krpc.Message) *krpc.Message {
	t.Helper()
	q.Type, q.TID, q.ID, q.HasID = krpc.TypeQuery, []byte("aa"), krpc.ID{1}, true
	payload, err := q.Append(nil)
	must(t, err)
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: asker.Addr().AsSlice(), DstIP: asked.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(asker.Port()), DstPort: layers.UDPPort(asked.Port())}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload)))
	v, out, err := n.program.Run(b.Bytes())
	must(t, err)
	if v != xdpTX {
		return nil
	}
	r := new(krpc.Message)
	must(t, krpc.Decode(out[14+20+8:], r))
	return r
}

// eventually waits until a condition holds, at most ten seconds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func getOf(target krpc.ID) krpc.Message {
	return krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}
}

// heat asks user space for something until the kernel half answers.
func (n hotNode) heat(t *testing.T, c net.Conn, q krpc.Message) {
	t.Helper()
	for range 8 {
		exchange(t, c, q)
	}
	eventually(t, "it does not become hot", func() bool { r := n.ask(t, q); return r != nil && (r.V != nil || r.Values != nil) })
}

// put signs and puts a version of an item, and returns once that is acknowledged.
func put(t *testing.T, c net.Conn, key ed25519.PrivateKey, token []byte, seq int64) {
	t.Helper()
	v := fmt.Appendf(nil, "i%de", seq)
	exchange(t, c, krpc.Message{
		Method: krpc.MethodPut, Token: token, V: v, Seq: seq, HasSeq: true,
		K: key.Public().(ed25519.PublicKey), Sig: krpc.Sign(key, nil, seq, v),
	})
}

// hotSoon is how long it takes in the median, at most, until what has changed is what the kernel half answers.
const hotSoon = 100 * time.Millisecond

// inTime fails the test unless half of what was waited for came in hotSoon: of single waits a busy machine decides.
func inTime(t *testing.T, what string, waits []time.Duration) {
	t.Helper()
	slices.Sort(waits)
	median := waits[len(waits)/2]
	t.Logf("%s: within %v in the median, %v at most", what, median, waits[len(waits)-1])
	if median > hotSoon {
		t.Errorf("%s: %v in the median, want %v", what, median, hotSoon)
	}
}

// asking asks the kernel half for a mutable item all the time.
type asking struct {
	acknowledged atomic.Int64 // the version that it must not be older than; the first is 1
	answers, up  atomic.Int64 // what the kernel half has answered, and what has gone up

	done   chan struct{}
	askers sync.WaitGroup
}

// askAlways asks from two goroutines until it is stopped, and has no answer be older than what was acknowledged before it was asked for.
func (n *hotNode) askAlways(t *testing.T, get krpc.Message) *asking {
	a := &asking{done: make(chan struct{})}
	a.acknowledged.Store(1)
	for range 2 {
		a.askers.Go(func() {
			for {
				select {
				case <-a.done:
					return
				default:
				}
				least := a.acknowledged.Load()
				r := n.ask(t, get)
				if r == nil {
					a.up.Add(1)
					continue
				}
				a.answers.Add(1)
				if r.V == nil || r.Seq < least || !bytes.Equal(r.V, fmt.Appendf(nil, "i%de", r.Seq)) {
					t.Errorf("seq %d with value %q, though %d was acknowledged", r.Seq, r.V, least)
					return
				}
			}
		})
	}
	return a
}

// stop ends it.
func (a *asking) stop(t *testing.T) {
	close(a.done)
	a.askers.Wait()
	t.Logf("%d answers by the kernel half, %d queries went up", a.answers.Load(), a.up.Load())
}

// TestHotIsNeverStale puts one version after the other of an item that is asked for all the time. The kernel half answers
// with the newest soon, and from the moment when a put is acknowledged never with an older version.
func TestHotIsNeverStale(t *testing.T) {
	n := newHotNode(t, bpf.Config{})
	c := n.dial(t)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	target := krpc.MutableTarget(key.Public().(ed25519.PublicKey), nil)
	token := exchange(t, c, getOf(target)).Token
	put(t, c, key, token, 1)
	n.heat(t, c, getOf(target))

	asking := n.askAlways(t, getOf(target))
	var waits []time.Duration
	for seq := int64(2); seq <= 60; seq++ {
		put(t, c, key, token, seq)
		asking.acknowledged.Store(seq)
		start := time.Now()
		eventually(t, "the new version does not become hot", func() bool {
			r := n.ask(t, getOf(target))
			return r != nil && r.Seq == seq
		})
		waits = append(waits, time.Since(start))
	}
	inTime(t, "the next version of an item", waits)
	asking.stop(t)
	if n := asking.answers.Load(); n < 60 {
		t.Errorf("the kernel half answered %d times", n)
	}
}

// TestHotPeers makes sure that a peer that is announced for a hot infohash is soon in the kernel half's answers, and that
// what has expired is not.
func TestHotPeers(t *testing.T) {
	n := newHotNode(t, bpf.Config{})
	c := n.dial(t)
	q := krpc.Message{Method: krpc.MethodGetPeers, InfoHash: krpc.ID{7}, HasInfoHash: true}
	token := exchange(t, c, q).Token
	announce := func(port uint16) {
		exchange(t, c, krpc.Message{Method: krpc.MethodAnnouncePeer, Token: token, InfoHash: q.InfoHash, HasInfoHash: true, Port: port, HasPort: true})
	}
	announce(1000)
	n.heat(t, c, q)
	var waits []time.Duration
	for port := uint16(1001); port < 1020; port++ {
		announce(port)
		start := time.Now()
		eventually(t, "a new peer does not come to the kernel half", func() bool {
			r := n.ask(t, q)
			return r != nil && len(r.Values) == 8*int(port-999)
		})
		waits = append(waits, time.Since(start))
	}
	inTime(t, "another peer", waits)
	n.ahead.Add(int64(2 * time.Hour))
	_, err := n.store.Expire(time.Now().Add(2 * time.Hour))
	must(t, err)
	if r := n.ask(t, q); r == nil || r.Values != nil || r.Token == nil {
		t.Errorf("all peers have expired, but the answer is %+v", r)
	}
}

// TestHotItemEnds makes sure that the kernel half answers with an item until it is removed, and no longer.
func TestHotItemEnds(t *testing.T) {
	n := newHotNode(t, bpf.Config{})
	c := n.dial(t)
	v := []byte("5:hello")
	target := krpc.ImmutableTarget(v)
	exchange(t, c, krpc.Message{Method: krpc.MethodPut, Token: exchange(t, c, getOf(target)).Token, V: v})
	n.heat(t, c, getOf(target))
	n.ahead.Add(int64(24 * time.Hour))
	removed, err := n.store.Expire(time.Now().Add(24 * time.Hour))
	must(t, err)
	if r := n.ask(t, getOf(target)); r == nil || r.V != nil || r.Token == nil {
		t.Errorf("%d keys have expired, but the answer is %+v", removed, r)
	}
}

// TestHotRoom has more keys asked for than there is room for: what is asked for most is hot, and what nobody asks for any
// more makes room.
func TestHotRoom(t *testing.T) {
	n := newHotNode(t, bpf.Config{HotBytes: 4 << 10})
	c := n.dial(t)
	room := n.program.Hot().Room
	var targets []krpc.ID
	token := exchange(t, c, getOf(krpc.ID{})).Token
	for i := range 3 * room {
		v := fmt.Appendf(nil, "i%de", i)
		exchange(t, c, krpc.Message{Method: krpc.MethodPut, Token: token, V: v})
		targets = append(targets, krpc.ImmutableTarget(v))
	}
	for i := range room {
		n.heat(t, c, getOf(targets[i]))
	}
	for range 20 {
		for i := room; i < 2*room; i++ {
			exchange(t, c, getOf(targets[i]))
		}
	}
	eventually(t, "what is asked for more does not become hot", func() bool {
		for i := room; i < 2*room; i++ {
			if r := n.ask(t, getOf(targets[i])); r == nil {
				exchange(t, c, getOf(targets[i]))
				return false
			}
		}
		return true
	})
	if h := n.program.Hot(); h.Keys != room || h.Small != room {
		t.Errorf("%+v, want %d keys", h, room)
	}
	for _, target := range targets[2*room:] {
		if r := n.ask(t, getOf(target)); r != nil {
			t.Errorf("what nobody asks for is hot: %+v", r)
		}
	}
}

// TestHotRoomOfAnotherVersion fills the hot map with swarms and has one grow: it takes the room that it had, and nobody else's.
func TestHotRoomOfAnotherVersion(t *testing.T) {
	n := newHotNode(t, bpf.Config{HotBytes: 8 << 10})
	c := n.dial(t)
	ask := func(i int) krpc.Message {
		return krpc.Message{Method: krpc.MethodGetPeers, InfoHash: krpc.ID{7, byte(i)}, HasInfoHash: true}
	}
	announce := func(i int, port uint16) {
		q := ask(i)
		token := exchange(t, c, q).Token
		exchange(t, c, krpc.Message{Method: krpc.MethodAnnouncePeer, Token: token, InfoHash: q.InfoHash, HasInfoHash: true, Port: port, HasPort: true})
	}
	swarms := n.program.Hot().Room / 2 // an entry for each family
	for i := range swarms {
		announce(i, 1000)
		n.heat(t, c, ask(i))
	}
	for port := uint16(1001); port < 1010; port++ {
		announce(0, port)
		eventually(t, "a new peer does not come to the kernel half", func() bool {
			r := n.ask(t, ask(0))
			return r != nil && len(r.Values) == 8*int(port-999)
		})
		for i := range swarms {
			if r := n.ask(t, ask(i)); r == nil || r.Values == nil {
				t.Fatalf("of %d swarms, number %d is not hot any more after another one grew: %+v", swarms, i, r)
			}
		}
	}
	if h := n.program.Hot(); h.Keys != swarms || h.Small != 2*swarms {
		t.Errorf("%+v, want %d keys", h, swarms)
	}
}
