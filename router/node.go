package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// defaultQueryRate is how many queries a node may send per second, if the configuration does not say.
const defaultQueryRate = 250

// Node is a node of the DHT: a server to others, and a client to its user. All methods may be called at any time, from
// any goroutine.
type Node struct {
	counters
	config  Config
	log     *slog.Logger
	store   Storage
	sockets []*socket
	primary [2]*socket // by Family; queries of our own leave from these

	mu     sync.Mutex
	tables [2]*Table // by Family; nil for a family without socket. The tables are guarded by mu.

	view       atomic.Pointer[View]
	publishing sync.Mutex
	kernel     Kernel // guarded by publishing
	published  atomic.Int64
	// unpublished says that the kernel has not got the latest tables.
	unpublished atomic.Bool
	dirty       chan struct{}

	tokens       *Tokens
	transactions *transactions
	limiter      *limiter
	guard        *guard
	prover       atomic.Pointer[Kernel] // kernel, for those who must not wait
	rtt          [2]rtt
	silence      [2]atomic.Int32 // by Family: queries that failed since the last answer
	heard        [2]atomic.Int64 // by Family: Unix time of the last answer to a query of ours, in ns; 0: none yet
	external     [2]*external
	samples      samples
	announces    announces
	lookups      atomic.Int64

	sightings chan sighting
	pinging   chan struct{} // holds one for each ping under way of a sender of queries who is where he says
	hearsay   chan struct{} // the same for senders who may be forged
	upkeep    chan struct{} // the same for contacts, of which many may be due at once
	jobs      *shares
	jobPool   sync.Pool
	hints     *hints
	recursor  *recursor
	hot       *hot
	moved     chan struct{} // our ID has changed or is settled, or we are no longer alone
	ready     chan struct{}
	readyOnce sync.Once

	started atomic.Bool
	closed  chan struct{}
	// spawning makes sure that no goroutine starts once Run waits for all of them to end.
	spawning sync.RWMutex
	stopped  bool
	work     sync.WaitGroup
}

// New makes a node. It answers queries, and sends some, while [Node.Run] runs. An error is about the configuration,
// or that of a kernel half that does not take the tables.
func New(c Config) (*Node, error) {
	if len(c.Conns) == 0 {
		return nil, errors.New("router: no sockets")
	}
	for _, b := range c.Bootstrap {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, fmt.Errorf("router: bootstrap node %q: %w", b, err)
		}
	}
	if c.QueryRate <= 0 {
		c.QueryRate = defaultQueryRate
	}
	c.Tuning = c.Tuning.orDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	shared := newClock()
	n := &Node{
		config: c, log: c.Logger, store: c.Store,
		dirty:        make(chan struct{}, 1),
		transactions: newTransactions(),
		limiter:      newLimiter(c.QueryRate, c.Tuning.QueryRatePerNode, shared),
		sightings:    make(chan sighting, maxSightings),
		pinging:      make(chan struct{}, maxPings),
		hearsay:      make(chan struct{}, maxPings),
		upkeep:       make(chan struct{}, maxPings),
		guard:        newGuard(c.Limits, shared),
		jobs:         newShares(),
		hints:        newHints(),
		hot:          newHot(c.Tuning.HotAfter),
		moved:        make(chan struct{}, 1),
		ready:        make(chan struct{}),
		closed:       make(chan struct{}),
	}
	n.recursor = newRecursor(n, c.Recursion)
	n.recursor.cache.hot, n.recursor.peers.hot = n.hot, n.hot
	n.tokens = NewTokens(n.loadSecrets(), c.Tuning.TokenLife, time.Now())
	for _, conn := range c.Conns {
		n.addSocket(conn)
	}
	n.saveSecrets()
	n.publish()
	if n.store != nil {
		n.store.OnRelease(func(key [20]byte) { n.release(key) })
	}
	if c.Kernel != nil {
		if err := n.SetKernel(c.Kernel); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// addSocket takes a socket into use. The first of a family brings the family's table and ID.
func (n *Node) addSocket(conn Conn) {
	s := &socket{conn: conn, family: FamilyOf(conn.LocalAddr().Addr()), count: n.count}
	n.sockets = append(n.sockets, s)
	f := s.family
	if n.primary[f] != nil {
		return
	}
	n.primary[f] = s
	id, external := n.identify(s)
	n.tables[f] = NewTable(TableConfig{Self: id, Family: f, Private: n.config.Private, Bits: n.config.Tuning.Bits})
	n.external[f] = external
	n.saveIdentity(f)
}

// Run serves until the context ends, then saves the table, closes the sockets and returns nil once all of the node's
// goroutines have ended. It may be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.started.Swap(true) {
		return errors.New("router: node already ran")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, s := range n.sockets {
		n.spawn(newResponder(n, s).run)
	}
	for _, task := range []func(context.Context){n.publisher, n.watch, n.join, n.followHints, n.maintain, n.refresh, n.republish, n.keepHot} {
		n.spawn(func() { task(ctx) })
	}
	<-ctx.Done()
	n.spawning.Lock()
	n.stopped = true
	n.spawning.Unlock()
	close(n.closed)
	n.saveNodes()
	var errs []error
	for _, s := range n.sockets {
		if err := s.conn.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	n.work.Wait()
	return errors.Join(errs...)
}

// spawn runs f in a goroutine that Run waits for; false if the node is ending.
func (n *Node) spawn(f func()) bool {
	n.spawning.RLock()
	defer n.spawning.RUnlock()
	if n.stopped {
		return false
	}
	n.work.Go(f)
	return true
}

// Ready is closed once the node has found its place in the network: it knows the nodes around its ID, or is the first
// node of the network (no bootstrap nodes configured).
func (n *Node) Ready() <-chan struct{} { return n.ready }

func (n *Node) setReady() {
	n.readyOnce.Do(func() {
		n.log.Info("ready", "contacts", n.contacts())
		close(n.ready)
	})
}

// contacts returns how many contacts all tables have.
func (n *Node) contacts() (all int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.tables {
		if t != nil {
			all += t.Len()
		}
	}
	return all
}

// ID returns the node ID in a family; the zero ID if the node has no socket there.
func (n *Node) ID(f Family) ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tables[f] == nil {
		return ID{}
	}
	return n.tables[f].Self()
}

// View returns what queries are answered from just now.
func (n *Node) View() *View { return n.view.Load() }
