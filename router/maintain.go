package router

import (
	"context"
	"net/netip"
	"time"

	"kdht/router/krpc"
	"kdht/store"
)

const (
	tick        = 5 * time.Second
	expireEvery = 10 * time.Second
	saveEvery   = 5 * time.Minute
	firstSave   = 20 * time.Second
	// savedSpares bounds how many contacts of a family are saved if not all of them are in slots.
	savedSpares = 300
	// savedLost bounds how many nodes saved before are kept although they are not known now.
	savedLost    = 2048
	publishRetry = 5 * time.Second
	// refreshPause is the time between two lookups that refresh a table. There are many after a start, and where the network
	// is near they would use all of the queries that the node may send.
	refreshPause = 250 * time.Millisecond
)

// every reports at most once per interval that it is time.
type every struct {
	interval time.Duration
	next     time.Time
}

func (e *every) due(now time.Time) bool {
	if now.Before(e.next) {
		return false
	}
	e.next = now.Add(e.interval)
	return true
}

// maintain does what is due from time to time.
func (n *Node) maintain(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	expire, retry := every{interval: expireEvery}, every{interval: publishRetry}
	save := every{n.config.Tuning.SaveEvery, time.Now().Add(firstSave)}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if n.tokens.Rotate(now) {
			// At once: tokens that the kernel still makes are good only until the next rotation.
			n.publish()
			n.saveSecrets()
		}
		if n.unpublished.Load() && retry.due(now) {
			n.changed()
		}
		if n.store != nil && expire.due(now) {
			if _, err := n.store.Expire(now); err != nil {
				n.log.Warn("removing what has expired failed", "error", err)
			}
		}
		if save.due(now) {
			n.saveNodes()
		}
		if !n.config.ReadOnly {
			n.pingQuestionable(ctx, now)
		}
	}
}

// pingQuestionable pings the contacts that have not been heard of for long (BEP 5).
func (n *Node) pingQuestionable(ctx context.Context, now time.Time) {
	for _, t := range n.tables {
		if t == nil {
			continue
		}
		n.mu.Lock()
		all := t.Questionable(now)
		n.mu.Unlock()
		if len(all) > 0 {
			n.spawn(func() { n.pingAll(ctx, all) })
		}
	}
}

// refresh looks up the IDs that the tables want looked up (BEP 5), one at a time.
func (n *Node) refresh(ctx context.Context) {
	if n.config.ReadOnly {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-n.ready:
	}
	for n.sleep(ctx, tick) == nil {
		for f, t := range n.tables {
			if t == nil {
				continue
			}
			n.mu.Lock()
			targets := t.RefreshTargets(time.Now())
			n.mu.Unlock()
			for _, id := range targets {
				l := n.newLookup(id, krpc.Message{Method: krpc.MethodFindNode, Target: id, HasTarget: true}, []Option{WithFamilies(Family(f))})
				if l.run(ctx) != nil || n.sleep(ctx, refreshPause) != nil {
					return
				}
			}
		}
	}
}

// saveNodes stores the contacts of the tables for the next start. A node that has lost everybody keeps what it saved
// before.
func (n *Node) saveNodes() {
	if n.store == nil {
		return
	}
	var nodes []store.Node
	var few [2]bool // by Family
	n.mu.Lock()
	for f, t := range n.tables {
		if few[f] = t == nil || t.Len() < bucketSize; t == nil {
			continue
		}
		seen := make(map[Contact]time.Time)
		for _, e := range t.Entries(time.Now()) {
			seen[e.Contact] = e.Answered
		}
		contacts := t.Contacts()
		for _, c := range contacts[:min(len(contacts), max(t.Len(), savedSpares))] {
			nodes = append(nodes, store.Node{ID: c.ID, Addr: c.Addr, LastSeen: seen[c]})
		}
	}
	n.mu.Unlock()
	if len(nodes) == 0 {
		return
	}
	nodes = n.keepSaved(nodes, few)
	if err := n.store.SaveNodes(nodes); err != nil {
		n.log.Warn("saving the routing table failed", "error", err)
	}
}

// keepSaved adds to the nodes to be saved those saved before in families of which few are known: the network may have
// been away since the start.
func (n *Node) keepSaved(nodes []store.Node, few [2]bool) []store.Node {
	if !few[IPv4] && !few[IPv6] {
		return nodes
	}
	saved, err := n.store.Nodes()
	if err != nil {
		n.log.Warn("reading the saved nodes failed", "error", err)
	}
	known := make(map[netip.AddrPort]bool, len(nodes))
	for _, s := range nodes {
		known[s.Addr] = true
	}
	kept := 0
	for _, s := range saved {
		if few[FamilyOf(s.Addr.Addr())] && !known[s.Addr] && kept < savedLost {
			nodes = append(nodes, s)
			kept++
		}
	}
	return nodes
}

// loadSecrets returns the token secrets of last time, so that tokens outlive a restart.
func (n *Node) loadSecrets() Secrets {
	if n.store == nil {
		return Secrets{}
	}
	s, err := n.store.Secrets()
	if err != nil {
		return Secrets{}
	}
	return Secrets{Current: s.Current, Previous: s.Previous, Since: s.Rotated}
}

func (n *Node) saveSecrets() {
	if n.store == nil {
		return
	}
	s := n.tokens.Secrets()
	if err := n.store.SetSecrets(store.Secrets{Current: s.Current, Previous: s.Previous, Rotated: s.Since}); err != nil {
		n.log.Warn("saving the token secrets failed", "error", err)
	}
}
