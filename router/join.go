package router

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"kdht/router/krpc"
	"kdht/store"
)

const (
	// joinWidth is alpha while joining: many of the nodes saved last time may be gone.
	joinWidth = 16
	// savedPings bounds how many saved nodes are pinged at once at the start, savedPause is the time between pings of the
	// others, savedWait how long the node waits for the first answers. savedRetry is when the first are pinged again if
	// none has.
	savedPings = 300
	savedPause = 50 * time.Millisecond
	savedWait  = time.Second
	savedRetry = time.Second / 2
	// Bounds of the pause between attempts to join.
	joinRetryMin = time.Second
	joinRetryMax = time.Minute
	// Bounds of the pause between attempts to join in one family while the other is fine.
	lostRetryMin = 5 * time.Second
	lostRetryMax = 15 * time.Minute
	// How long to wait for the addresses of the bootstrap nodes, and how long if they are not the only hope.
	resolving        = 10 * time.Second
	resolvingBriefly = time.Second
)

// joinPauses are the pauses before our own ID is looked up again after joining, since the neighbours may be joining
// too. The last one is how often the node looks whether it is still part of the network.
var joinPauses = [...]time.Duration{time.Second, 5 * time.Second, 30 * time.Second, time.Minute}

// join finds the node's place in the network, and finds it again when the network was lost, or our ID has changed or was
// settled.
func (n *Node) join(ctx context.Context) {
	n.pingSaved(ctx)
	retry := joinRetryMin
	var lost [2]lostFamily // by Family
	for round := 0; ; {
		wait := joinPauses[min(round, len(joinPauses)-1)]
		n.locate()
		switch {
		case n.joinAll(ctx, round, &lost):
			retry = joinRetryMin
			round++
			n.setReady()
		case ctx.Err() != nil:
			return
		case len(n.config.Bootstrap) == 0:
			n.setReady() // the first node of a network
			round++
		default:
			n.log.Warn("no bootstrap node answered", "retry", retry)
			wait = retry/2 + rand.N(retry)
			retry = min(2*retry, joinRetryMax)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-n.moved:
			t.Stop()
			round = 0
		}
	}
}

// pingSaved pings the nodes known from last time, and returns when some have answered.
func (n *Node) pingSaved(ctx context.Context) {
	if n.store == nil {
		return
	}
	saved, err := n.store.Nodes()
	if err != nil {
		n.log.Warn("reading the saved nodes failed", "error", err)
	}
	first, rest := n.usableSaved(saved)
	if len(first) == 0 {
		return
	}
	n.log.Info("trying the nodes known from last time", "nodes", len(first)+len(rest))
	n.spawn(func() {
		n.pingUntilKnown(ctx, first)
		n.offerSaved(ctx, rest)
	})
	over := time.Now().Add(savedWait)
	for time.Now().Before(over) && n.contacts() < min(len(first), 2*bucketSize) {
		if n.sleep(ctx, savedWait/50) != nil {
			return
		}
	}
}

// usableSaved returns the saved nodes that could be contacts now: those to be pinged at once, of either family in turn, and
// the others.
func (n *Node) usableSaved(saved []store.Node) (first, rest []Contact) {
	var all [2][]Contact // by Family
	for _, s := range saved {
		if f := FamilyOf(s.Addr.Addr()); n.tables[f] != nil && Usable(s.Addr, n.config.Private) {
			all[f] = append(all[f], Contact{ID: s.ID, Addr: s.Addr})
		}
	}
	for i := range max(len(all[IPv4]), len(all[IPv6])) {
		for _, list := range all {
			switch {
			case i >= len(list):
			case len(first) < savedPings:
				first = append(first, list[i])
			default:
				rest = append(rest, list[i])
			}
		}
	}
	return first, rest
}

// offerSaved pings, one after another, the saved nodes that the tables have a use for.
func (n *Node) offerSaved(ctx context.Context, saved []Contact) {
	for _, c := range saved {
		if n.sleep(ctx, savedPause) != nil {
			return
		}
		n.mu.Lock()
		c, want := n.tables[FamilyOf(c.Addr.Addr())].Offer(c, time.Now())
		n.mu.Unlock()
		if want {
			n.pingAll(ctx, []Contact{c})
		}
	}
}

// pingUntilKnown pings nodes again and again, ever more rarely, until the node knows anybody: a machine that has just been
// switched on waits for its address or for its cable.
func (n *Node) pingUntilKnown(ctx context.Context, all []Contact) {
	for pause := savedRetry; ; pause = min(pause*9/8, joinRetryMax) {
		n.pingAll(ctx, all)
		if n.sleep(ctx, pause) != nil || n.contacts() > 0 {
			return
		}
	}
}

// lostFamily is when to look again for a family that has no network, or none that could be found. While the node is
// part of the other family's network this is tried ever more rarely: many hosts have IPv6 sockets, and no IPv6.
type lostFamily struct {
	pause time.Duration
	next  time.Time
}

func (l *lostFamily) failed(now time.Time) {
	l.pause = min(max(2*l.pause, lostRetryMin), lostRetryMax)
	l.next = now.Add(l.pause)
}

// joinAll looks up our own ID in each family, where that may bring something, and reports whether the node is part
// of the network in at least one. In the first rounds it may in all; later, where a table is nearly empty.
func (n *Node) joinAll(ctx context.Context, round int, lost *[2]lostFamily) (joined bool) {
	var roots []Contact
	resolved := false
	join := func(f Family) {
		t := n.tables[f]
		n.mu.Lock()
		contacts := t.Len() // bad ones too: they are tried as any other
		good := t.Good(time.Now())
		n.mu.Unlock()
		if good > 0 && contacts >= bucketSize && round >= len(joinPauses) {
			joined = true
			return
		}
		if good < bucketSize && !resolved {
			patience := resolving
			if good > 0 {
				patience = resolvingBriefly
			}
			roots, resolved = n.resolve(ctx, patience), true
		}
		if closest, _ := n.lookupSelf(ctx, f, roots); len(closest) > 0 {
			joined = true
			lost[f] = lostFamily{}
		} else {
			lost[f].failed(time.Now())
		}
	}
	var later []Family
	for f, t := range n.tables {
		f := Family(f)
		switch {
		case t == nil:
		case n.familyLen(f) == 0 && time.Now().Before(lost[f].next):
			later = append(later, f)
		default:
			join(f)
		}
	}
	for _, f := range later {
		if !joined {
			join(f)
		}
	}
	return joined
}

// lookupSelf looks up our own ID in a family and returns the nodes that answered, closest first, at most 8, and those of the
// roots that did. Nodes of the other family may help if there are no contacts.
func (n *Node) lookupSelf(ctx context.Context, f Family, roots []Contact) (closest []*candidate, answered []Contact) {
	id := n.ID(f)
	var opts []Option
	if n.tables[IPv6-f] == nil || n.familyLen(f) > 0 {
		opts = append(opts, WithFamilies(f))
	}
	l := n.newLookup(id, krpc.Message{Method: krpc.MethodFindNode, Target: id, HasTarget: true}, opts)
	l.width = joinWidth
	l.roots = roots
	if err := l.run(ctx); err != nil {
		return nil, nil
	}
	list := l.lists[f]
	for _, r := range roots {
		if c := list.byAddr[list.table.key(r.Addr.Addr())]; c != nil && c.state == stateAnswered && c.Addr == r.Addr {
			answered = append(answered, r)
		}
	}
	return list.closest(bucketSize), answered
}

// familyLen returns how many contacts a family's table has.
func (n *Node) familyLen(f Family) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tables[f].Len()
}

// resolve returns the addresses of the bootstrap nodes.
func (n *Node) resolve(ctx context.Context, patience time.Duration) (roots []Contact) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, b := range n.config.Bootstrap {
		host, service, err := net.SplitHostPort(b)
		if err != nil {
			continue // New has checked
		}
		port, err := strconv.ParseUint(service, 10, 16)
		if err != nil {
			n.log.Warn("bootstrap node has no valid port", "node", b)
			continue
		}
		addrs := []netip.Addr{}
		if a, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, a)
		} else if addrs, err = n.config.Resolver.LookupNetIP(ctx, "ip", host); err != nil {
			n.log.Warn("bootstrap node not found", "node", b, "error", err)
			continue
		}
		for _, a := range addrs {
			c := Contact{Addr: netip.AddrPortFrom(a.Unmap(), uint16(port))}
			if !Usable(c.Addr, n.config.Private) {
				n.log.Warn("bootstrap node not asked: no node of this network can have its address", "node", b, "address", c.Addr, "private", n.config.Private)
				continue
			}
			if !slices.Contains(roots, c) {
				roots = append(roots, c)
			}
		}
	}
	return roots
}
