package router

import (
	"context"
	"net/netip"
	"time"

	"kdht/bpf"
	"kdht/router/krpc"
)

// publishInterval is the least time between two snapshots: a table that fills changes many times a second.
const publishInterval = 75 * time.Millisecond

// changed has the tables published soon.
func (n *Node) changed() { poke(n.dirty) }

// poke wakes who waits for a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// publisher publishes the tables when they have changed, at once, but not too often.
func (n *Node) publisher(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.dirty:
		}
		n.publish()
		if n.sleep(ctx, publishInterval) != nil {
			return
		}
	}
}

// publish gives the tables, as they are, to the readers here and to the kernel.
func (n *Node) publish() {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	n.mu.Lock()
	s := NewSnapshot(n.tables[IPv4], n.tables[IPv6], n.tokens.Current())
	n.mu.Unlock()
	s.ReadOnly4, s.ReadOnly6 = n.asksReadOnly(IPv4), n.asksReadOnly(IPv6)
	v, err := NewView(s)
	if err != nil {
		n.count(eventPublishFailed)
		n.log.Error("the routing table is not fit to publish", "error", err)
		return
	}
	n.view.Store(v)
	n.published.Store(time.Now().UnixNano())
	if n.kernel == nil {
		n.count(eventPublished)
		return
	}
	n.publishKernel(s)
}

func (n *Node) publishKernel(s *bpf.Snapshot) {
	if err := n.kernel.Publish(s); err != nil {
		n.count(eventPublishFailed)
		n.log.Error("publishing to the kernel failed", "error", err)
		n.unpublished.Store(true)
		return
	}
	n.unpublished.Store(false)
	n.count(eventPublished)
}

// hold has the kernel pass queries for a key up, also if it answered for an older version. It is called after the store
// has committed and before anybody is told, so that it comes after every release of the key that was due before.
func (n *Node) hold(key ID) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	wasHot := n.hot.forget(key)
	if n.kernel == nil {
		return
	}
	if err := n.kernel.Hold(key); err != nil {
		n.log.Error("the kernel half does not know of a key that is held here", "key", key, "error", err)
	}
	if wasHot {
		n.count(eventCooled)
		n.hot.again(key)
	}
}

// release lets the kernel answer for a key again. The store calls it.
func (n *Node) release(key ID) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if n.hot.forget(key) {
		n.count(eventCooled)
	}
	if n.kernel == nil {
		return
	}
	if err := n.kernel.Release(key); err != nil {
		n.log.Warn("the kernel half goes on passing up a key that is held no more", "key", key, "error", err)
	}
}

// SetKernel gives the node another kernel half, or none. What is held here is made known to it, then the tables.
func (n *Node) SetKernel(k Kernel) error {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	n.kernel = k
	n.prover.Store(nil)
	n.unpublished.Store(false)
	n.hot.reset(false)
	if k == nil {
		n.limiter.share(nil)
		return nil
	}
	sent, err := k.Pace(n.limiter.pace)
	if err != nil {
		n.kernel = nil
		return err
	}
	n.limiter.share(sent)
	if n.store != nil {
		for key := range n.store.Keys() {
			if err := k.Hold(key); err != nil {
				n.kernel = nil
				return err
			}
		}
	}
	if err := k.Publish(n.view.Load().Snapshot()); err != nil {
		n.kernel = nil
		return err
	}
	n.hot.reset(true)
	n.proveContacts(k)
	n.prover.Store(&k)
	return nil
}

// proveContacts tells a kernel half that the contacts of the tables have proved their addresses.
func (n *Node) proveContacts(k Kernel) {
	s := n.view.Load().Snapshot()
	tell := func(a netip.Addr) {
		if err := k.Prove(a); err != nil {
			n.log.Debug("the kernel half does not know that an address is proven", "addr", a, "error", err)
		}
	}
	for i := range s.Nodes4 {
		tell(netip.AddrFrom4([4]byte(s.Nodes4[i][krpc.IDLen:])))
	}
	for i := range s.Nodes6 {
		tell(netip.AddrFrom16([16]byte(s.Nodes6[i][krpc.IDLen:])))
	}
}
