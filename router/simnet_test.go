package router_test

import (
	"context"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// simNet is a network in memory, with loss and latency, for nodes that live under testing/synctest.
type simNet struct {
	mu      sync.Mutex
	rng     *rand.Rand
	loss    float64 // of datagrams, but for those of reliable addresses
	sure    map[netip.AddrPort]bool
	latency [2]time.Duration
	slower6 time.Duration // what IPv6 takes longer, each way
	conns   map[netip.AddrPort]*simConn
	config  router.Config // of the nodes that startSim runs
	tap     func(from, to netip.AddrPort, b []byte)
}

func newSimNet(seed uint64) *simNet {
	return &simNet{
		rng:     rand.New(rand.NewPCG(seed, seed)),
		latency: [2]time.Duration{5 * time.Millisecond, 120 * time.Millisecond},
		conns:   make(map[netip.AddrPort]*simConn),
		sure:    make(map[netip.AddrPort]bool),
	}
}

// tapQueries has f called with every query that anybody sends, until there is another tap or none.
func (s *simNet) tapQueries(f func(from, to netip.AddrPort, q *krpc.Message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tap = func(from, to netip.AddrPort, b []byte) {
		var m krpc.Message
		if krpc.Decode(b, &m) == nil && m.Type == krpc.TypeQuery {
			f(from, to, &m)
		}
	}
}

// queriesDuring returns how many queries every address sends while f runs.
func (s *simNet) queriesDuring(f func()) map[netip.AddrPort]int {
	return s.queriesThat(func(*krpc.Message) bool { return true }, f)
}

// queriesFor returns how many queries about a key every address sends while f runs.
func (s *simNet) queriesFor(key router.ID, f func()) map[netip.AddrPort]int {
	return s.queriesThat(func(q *krpc.Message) bool {
		return q.HasTarget && q.Target == key || q.HasInfoHash && q.InfoHash == key
	}, f)
}

// queriesThat returns how many queries that count every address sends while f runs.
func (s *simNet) queriesThat(count func(*krpc.Message) bool, f func()) map[netip.AddrPort]int {
	queries := make(map[netip.AddrPort]int)
	s.tapQueries(func(from, _ netip.AddrPort, q *krpc.Message) {
		if count(q) {
			queries[from]++
		}
	})
	f()
	s.untap()
	return queries
}

// untap ends what counts what is sent: from now on it can be read.
func (s *simNet) untap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tap = nil
}

// simConn is a socket on a simNet.
type simConn struct {
	net   *simNet
	local netip.AddrPort
	nat   netip.AddrPort // what others see, if not local
	inbox chan router.Packet
	done  chan struct{}
	once  sync.Once
}

func (s *simNet) listen(a netip.AddrPort) *simConn {
	c := &simConn{net: s, local: a, inbox: make(chan router.Packet, 4096), done: make(chan struct{})}
	s.mu.Lock()
	s.conns[a] = c
	s.mu.Unlock()
	return c
}

// move makes others see a socket at another address from now on.
func (s *simNet) move(c *simConn, to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.seen())
	c.nat = to
	s.conns[to] = c
}

// deliver has the node at an address receive a datagram at once, whoever it says that it is from.
func (s *simNet) deliver(to netip.AddrPort, p router.Packet) {
	s.mu.Lock()
	c := s.conns[to]
	s.mu.Unlock()
	c.inbox <- p
}

func (c *simConn) seen() netip.AddrPort {
	if c.nat.IsValid() {
		return c.nat
	}
	return c.local
}

func (c *simConn) ReadBatch(ps []router.Packet) (int, error) {
	var p router.Packet
	select {
	case <-c.done:
		return 0, net.ErrClosed
	case p = <-c.inbox:
	}
	for n := 0; ; {
		ps[n].Data = append(ps[n].Data[:0], p.Data...)
		ps[n].Addr, ps[n].Local = p.Addr, p.Local
		if n++; n == len(ps) {
			return n, nil
		}
		select {
		case p = <-c.inbox:
		default:
			return n, nil
		}
	}
}

func (c *simConn) WriteBatch(ps []router.Packet) (int, error) {
	for _, p := range ps {
		c.net.send(c, p.Addr, p.Data)
	}
	return len(ps), nil
}

func (c *simConn) LocalAddr() netip.AddrPort { return c.local }

func (c *simConn) Close() error {
	c.once.Do(func() { close(c.done) })
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.net.conns[c.seen()] == c {
		delete(c.net.conns, c.seen())
	}
	return nil
}

func (s *simNet) send(c *simConn, to netip.AddrPort, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := c.seen()
	if s.tap != nil {
		s.tap(from, to, b)
	}
	if s.rng.Float64() < s.loss && !s.sure[from] && !s.sure[to] {
		return
	}
	b = slices.Clone(b)
	latency := s.latency[0] + time.Duration(s.rng.Int64N(int64(s.latency[1]-s.latency[0])))
	if to.Addr().Is6() {
		latency += s.slower6
	}
	time.AfterFunc(latency, func() {
		s.mu.Lock()
		peer := s.conns[to]
		s.mu.Unlock()
		if peer == nil {
			return
		}
		select {
		case peer.inbox <- router.Packet{Data: b, Addr: from, Local: peer.local.Addr()}:
		default:
		}
	})
}

// simNode is a node on a simNet.
type simNode struct {
	*router.Node
	addr  netip.AddrPort
	store *memStore
	stop  func()
}

// start runs a node at the given addresses until stop is called or the test ends. A nil store makes a client.
func (s *simNet) start(t *testing.T, c router.Config, st *memStore, addrs ...netip.AddrPort) *simNode {
	t.Helper()
	var conns []*simConn
	for _, a := range addrs {
		conns = append(conns, s.listen(a))
	}
	return s.startConn(t, c, st, conns...)
}

// startConn runs a node on sockets that are there already.
func (s *simNet) startConn(t *testing.T, c router.Config, st *memStore, conns ...*simConn) *simNode {
	t.Helper()
	var all []router.Conn
	for _, conn := range conns {
		all = append(all, conn)
	}
	return s.startOn(t, c, st, all...)
}

// startOn runs a node on sockets of any kind.
func (s *simNet) startOn(t *testing.T, c router.Config, st *memStore, conns ...router.Conn) *simNode {
	t.Helper()
	n := &simNode{addr: conns[0].LocalAddr(), store: st}
	c.Conns = conns
	if st != nil {
		c.Store = st
	}
	var err error
	if n.Node, err = router.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	n.stop = func() { cancel(); <-done }
	t.Cleanup(n.stop)
	return n
}

// memStore is a store in memory, with the rules of BEP 44 on seq and cas, and the times of expiry.
type memStore struct {
	mu       sync.Mutex
	items    map[store.Key]store.Item
	peers    map[store.Key]map[netip.AddrPort]memPeer
	nodes    []store.Node
	identity map[bool]store.Identity
	secrets  store.Secrets
	release  func(store.Key)
	// committing, if there is one, is called when a peer can be seen that Announce has not acknowledged.
	committing func()
}

type memPeer struct {
	seed    bool
	expires time.Time
}

func newMemStore() *memStore {
	return &memStore{
		items:    make(map[store.Key]store.Item),
		peers:    make(map[store.Key]map[netip.AddrPort]memPeer),
		identity: make(map[bool]store.Identity),
		release:  func(store.Key) {},
	}
}

func (s *memStore) PutItem(it *store.Item, cas *int64, _ netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, held := s.items[it.Target]
	switch {
	case held && it.Mutable && cas != nil && *cas != old.Seq:
		return store.ErrCASMismatch
	case held && it.Mutable && it.Seq < old.Seq:
		return store.ErrSeqOld
	case held && it.Mutable && it.Seq == old.Seq && string(it.V) != string(old.V):
		return store.ErrSeqSameOtherValue
	}
	c := *it
	c.V, c.Salt = slices.Clone(it.V), slices.Clone(it.Salt)
	c.Own = c.Own || old.Own
	c.Updated, c.Expires = time.Now(), time.Now().Add(2*time.Hour)
	s.items[it.Target] = c
	return nil
}

func (s *memStore) live(it store.Item) bool { return it.Own || time.Now().Before(it.Expires) }

func (s *memStore) Item(target [20]byte) (*store.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[target]
	if !ok || !s.live(it) {
		return nil, store.ErrNotFound
	}
	return &it, nil
}

func (s *memStore) OwnItems() (own []*store.Item, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.items {
		if it.Own {
			own = append(own, &it)
		}
	}
	slices.SortFunc(own, func(a, b *store.Item) int { return a.Updated.Compare(b.Updated) })
	return own, nil
}

func (s *memStore) Announce(infohash [20]byte, addr netip.AddrPort, seed bool, _ netip.Addr) error {
	s.mu.Lock()
	if s.peers[infohash] == nil {
		s.peers[infohash] = make(map[netip.AddrPort]memPeer)
	}
	s.peers[infohash][addr] = memPeer{seed, time.Now().Add(30 * time.Minute)}
	s.mu.Unlock()
	if s.committing != nil {
		s.committing()
	}
	return nil
}

func (s *memStore) Peers(infohash [20]byte, ipv6 bool, limit int, noSeeds bool, dst []store.Peer) ([]store.Peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, p := range s.peers[infohash] {
		if a.Addr().Is6() == ipv6 && time.Now().Before(p.expires) && (!noSeeds || !p.seed) && (limit <= 0 || len(dst) < limit) {
			dst = append(dst, store.Peer{Addr: a, Seed: p.seed})
		}
	}
	return dst, nil
}

func (s *memStore) PeersUntil(infohash [20]byte, ipv6 bool, limit int) ([]store.Peer, time.Time, error) {
	peers, err := s.Peers(infohash, ipv6, limit, false, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	var first time.Time
	for _, p := range s.peers[infohash] {
		if first.IsZero() || p.expires.Before(first) {
			first = p.expires
		}
	}
	return peers, first, err
}

func (s *memStore) Sample(limit int) (samples [][20]byte, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.peers {
		if len(samples) < limit {
			samples = append(samples, k)
		}
	}
	return samples, len(s.peers)
}

func (s *memStore) Holds(key [20]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[key]
	return ok && s.live(it) || len(s.peers[key]) > 0
}

func (s *memStore) Keys() iter.Seq[[20]byte] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys [][20]byte
	for k := range s.items {
		keys = append(keys, k)
	}
	for k := range s.peers {
		keys = append(keys, k)
	}
	return slices.Values(keys)
}

func (s *memStore) OnRelease(fn func(key store.Key)) { s.release = fn }

func (s *memStore) Expire(now time.Time) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, it := range s.items {
		if !s.live(it) {
			delete(s.items, k)
			s.release(k)
			n++
		}
	}
	for k, peers := range s.peers {
		for a, p := range peers {
			if !now.Before(p.expires) {
				delete(peers, a)
				n++
			}
		}
		if len(peers) == 0 {
			delete(s.peers, k)
			s.release(k)
		}
	}
	return n, nil
}

func (s *memStore) SaveNodes(nodes []store.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = nodes
	return nil
}

func (s *memStore) Nodes() ([]store.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes, nil
}

func (s *memStore) SetIdentity(ipv6 bool, id store.Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity[ipv6] = id
	return nil
}

func (s *memStore) Identity(ipv6 bool) (store.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.identity[ipv6]
	if !ok {
		return id, store.ErrNotFound
	}
	return id, nil
}

func (s *memStore) SetSecrets(x store.Secrets) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = x
	return nil
}

func (s *memStore) Secrets() (store.Secrets, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets == (store.Secrets{}) {
		return s.secrets, store.ErrNotFound
	}
	return s.secrets, nil
}

func (s *simNet) setLatency(least, most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = [2]time.Duration{least, most}
}

func (s *simNet) setSlower6(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slower6 = by
}
