package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kdht/router/krpc"
)

const (
	// patience is how long a query waits for its answer.
	patience = 6 * time.Second
	// Bounds of the time after which a node counts as slow: a lookup asks another in its stead, and the query is sent
	// once more.
	minSlow   = 300 * time.Millisecond
	hurrySlow = 50 * time.Millisecond // instead of minSlow while somebody waits for a datagram
	maxSlow   = time.Second
)

// rtt estimates round-trip times, as TCP does (RFC 6298), over all nodes of a family. Safe for concurrent use.
type rtt struct {
	mu        sync.Mutex
	smoothed  time.Duration
	deviation time.Duration
}

func (r *rtt) add(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.smoothed == 0 {
		r.smoothed, r.deviation = d, d/2
		return
	}
	r.deviation += ((r.smoothed - d).Abs() - r.deviation) / 4
	r.smoothed += (d - r.smoothed) / 8
}

// slow returns after which time a node counts as slow, which is no less than least.
func (r *rtt) slow(least time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.smoothed == 0 {
		return maxSlow
	}
	return min(max(r.smoothed+4*r.deviation, least), maxSlow)
}

func (r *rtt) value() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.smoothed
}

// query sends a query to a node and returns its answer, a response or an error message. It fills in who we are. A
// zero id stands for a node whose ID is not known. The query waits for its turn. If the node is slow, slow is called and
// the query is sent a second time, a third if it stores something, as far as the limits allow. It is given up after 6
// seconds. What the outcome says about the node goes to the routing table.
func (n *Node) query(ctx context.Context, to Contact, m krpc.Message, slow func()) (*reply, error) {
	to.Addr = netip.AddrPortFrom(to.Addr.Addr().Unmap(), to.Addr.Port())
	if n.primary[FamilyOf(to.Addr.Addr())] == nil {
		return nil, ErrNoSocket
	}
	wait, ok := n.limiter.queue(to.Addr.Addr(), time.Now())
	if !ok {
		n.count(eventLimited)
		return nil, ErrBusy
	}
	if wait > 0 {
		if err := n.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
	return n.queryNow(ctx, to, m, nil, n.limiter, minSlow, slow)
}

// queryInHurry is query for somebody who waits, who has taken a turn of the pacer: nodes may count as slow earlier. The
// kernel half may have asked the same before.
func (n *Node) queryInHurry(ctx context.Context, to Contact, m krpc.Message, before *KernelQuery, p pacer, slow func()) (*reply, error) {
	return n.queryNow(ctx, to, m, before, p, hurrySlow, slow)
}

// queryNow is query when it is its turn, with the least time after which a node counts as slow. What is sent again takes its
// turn of the pacer.
func (n *Node) queryNow(ctx context.Context, to Contact, m krpc.Message, before *KernelQuery, p pacer, leastSlow time.Duration, slow func()) (*reply, error) {
	to.Addr = netip.AddrPortFrom(to.Addr.Addr().Unmap(), to.Addr.Port())
	s := n.primary[FamilyOf(to.Addr.Addr())]
	if s == nil {
		return nil, ErrNoSocket
	}
	x := n.transactions.begin(s, to.Addr, before)
	if x == nil {
		n.count(eventLimited)
		return nil, ErrBusy
	}
	n.expect(to.Addr.Addr())
	r, err := n.exchange(ctx, x, m, p, leastSlow, slow)
	n.transactions.end(x)
	switch {
	case errors.Is(err, ErrUnsent):
		n.failed(to)
	case errors.Is(err, ErrTimeout) && everyNodeKnows(m.Method):
		n.count(eventTimeout)
		n.failed(to)
	case errors.Is(err, ErrTimeout):
		n.count(eventTimeout)
		n.doubt(to)
	}
	return r, err
}

// exchange sends the query of a transaction and waits for the answer.
func (n *Node) exchange(ctx context.Context, x *transaction, m krpc.Message, p pacer, leastSlow time.Duration, slow func()) (*reply, error) {
	m.Type = krpc.TypeQuery
	m.ID, m.HasID = n.ID(x.socket.family), true
	m.Version = version
	m.ReadOnly = n.asksReadOnly(x.socket.family)
	send := func() error {
		id := n.transactions.send(x, time.Now())
		m.TID = id[:]
		b, err := m.Append(make([]byte, 0, 256))
		if err != nil {
			return err
		}
		if err := x.socket.write(b, x.addr); err != nil && !passing(err) {
			return fmt.Errorf("%w: %w", ErrUnsent, err)
		}
		return nil
	}
	n.sent[m.Method].Add(1)
	if err := send(); err != nil {
		return nil, err
	}
	rtt := &n.rtt[x.socket.family]
	late := time.NewTimer(rtt.slow(leastSlow))
	defer late.Stop()
	resend := 1
	if m.Method == krpc.MethodPut || m.Method == krpc.MethodAnnouncePeer {
		resend = 2 // each is one of a few copies
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	ping := x.ping
	for {
		select {
		case r := <-x.done:
			rtt.add(min(r.rtt, maxSlow))
			n.responded(x, r)
			return r, nil
		case <-ping:
			ping = nil // once: who pings again and again does not want to answer
			if p.spare(x.addr.Addr(), time.Now()) {
				n.count(eventResent)
				_ = send() // the first was sent
			}
			late.Reset(rtt.slow(leastSlow)) // it is not slow
		case <-late.C:
			if p.spare(x.addr.Addr(), time.Now()) {
				n.count(eventResent)
				_ = send() // the first was sent
			}
			if resend--; resend > 0 {
				late.Reset(patience / 3)
			}
			if slow != nil {
				slow()
			}
		case <-over.C:
			return nil, ErrTimeout
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-n.closed:
			return nil, ErrClosed
		}
	}
}

// responded learns from an answer.
func (n *Node) responded(x *transaction, r *reply) {
	f := x.socket.family
	n.awaitVotes(f)
	if r.IP.IsValid() {
		n.vote(f, x.addr.Addr(), r.IP.Addr())
	}
	n.silence[f].Store(0)
	n.heard[f].Store(r.at.UnixNano())
	if r.ReadOnly {
		return
	}
	t := n.tables[f]
	var again Contact
	changed, claimed := false, false
	n.mu.Lock()
	if r.Type == krpc.TypeResponse {
		changed = t.Responded(Contact{ID: r.ID, Addr: x.addr}, r.rtt, r.at)
		again, claimed = t.Claimed(x.addr)
	} else if c, known := t.At(x.addr); known {
		changed = t.Responded(c, r.rtt, r.at) // to refuse one must be alive
	}
	n.mu.Unlock()
	if changed {
		n.changed()
	}
	if claimed {
		n.pingSoon(again)
	}
}

// maxSilence is how many queries in a row may fail before the fault is held to be ours: a link that is down, or a
// provider in trouble. Then contacts are not counted out for it.
const maxSilence = 8

// failed learns from the silence of a node.
func (n *Node) failed(to Contact) {
	if n.silence[FamilyOf(to.Addr.Addr())].Add(1) > maxSilence {
		return
	}
	n.mu.Lock()
	changed := n.tables[FamilyOf(to.Addr.Addr())].Failed(to, time.Now())
	n.mu.Unlock()
	if changed {
		n.changed()
	}
}

// everyNodeKnows tells whether a method is one of BEP 5. Transmission and aria2 are silent when asked with another.
func everyNodeKnows(m krpc.Method) bool {
	return m == krpc.MethodPing || m == krpc.MethodFindNode || m == krpc.MethodGetPeers || m == krpc.MethodAnnouncePeer
}

// doubt has a contact pinged, whose silence may mean no more than that it does not know the method.
func (n *Node) doubt(to Contact) {
	n.mu.Lock()
	c, known := n.tables[FamilyOf(to.Addr.Addr())].At(to.Addr)
	n.mu.Unlock()
	if known {
		n.pingSoon(c)
	}
}

// passing reports whether an error of sending is one of the moment.
func passing(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// sleep waits, unless the context or the node ends before.
func (n *Node) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.closed:
		return ErrClosed
	}
}

// asksReadOnly tells whether our queries in a family say that we are no node (BEP 43): nobody is to take us for a contact under
// an ID that may change.
func (n *Node) asksReadOnly(f Family) bool {
	return n.config.ReadOnly || n.external[f] != nil && !n.external[f].isSettled()
}

// isSelf tells whether this node itself answers at an address.
func (n *Node) isSelf(a netip.AddrPort) bool {
	for _, s := range n.sockets {
		if s.conn.LocalAddr() == a {
			return true
		}
		if a.Port() == s.conn.LocalAddr().Port() && a.Addr() == n.external[s.family].address() {
			return true
		}
	}
	return false
}
