package router

import (
	"context"
	"time"

	"kdht/router/krpc"
)

const (
	maxSightings = 256 // senders of queries that wait to be looked at
	maxPings     = 32  // pings under way of senders of queries who are where they say, of others, and of contacts
)

// sighting is a sender of queries.
type sighting struct {
	Contact
	proven bool
}

// Sighting tells the node of a sender of queries, who may be worth a place in the routing table once it has answered
// a ping; proven says that he has shown to be at that address, so that he need not wait for what may be forged. It never blocks: in a
// flood most senders are not looked at.
func (n *Node) Sighting(c Contact, proven bool) {
	select {
	case n.sightings <- sighting{c, proven}:
		n.count(eventSighting)
	default:
		n.count(eventSightingLost)
	}
}

// watch looks at sightings one by one.
func (n *Node) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-n.sightings:
			n.sighted(c, time.Now())
		}
	}
}

func (n *Node) sighted(c sighting, now time.Time) {
	t := n.tables[FamilyOf(c.Addr.Addr())]
	if t == nil || n.isSelf(c.Addr) {
		return
	}
	n.mu.Lock()
	t.Queried(c.Contact, now)
	n.mu.Unlock()
	// The table counts on a ping being sent for each contact that it hands out.
	if n.limiter.wait(c.Addr.Addr(), now) > 0 {
		return
	}
	pinging := n.hearsay
	if c.proven {
		pinging = n.pinging
	}
	select {
	case pinging <- struct{}{}:
	default:
		return
	}
	n.mu.Lock()
	ping, want := t.Offer(c.Contact, now)
	n.mu.Unlock()
	if !want || !n.spawn(func() { n.ping(ping); <-pinging }) {
		<-pinging
	}
}

// ping asks a node whether it lives. The table learns the answer.
func (n *Node) ping(c Contact) {
	_, _ = n.query(context.Background(), c, krpc.Message{Method: krpc.MethodPing}, nil) // the table has learnt
}

// pingSoon pings a node at once, unless too many pings are under way.
func (n *Node) pingSoon(c Contact) {
	select {
	case n.pinging <- struct{}{}:
	default:
		return
	}
	if !n.spawn(func() { n.ping(c); <-n.pinging }) {
		<-n.pinging
	}
}

// pingAll pings nodes as fast as the limits allow, and returns when all pings are sent.
func (n *Node) pingAll(ctx context.Context, all []Contact) {
	for _, c := range all {
		select {
		case n.upkeep <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if !n.spawn(func() { n.ping(c); <-n.upkeep }) {
			<-n.upkeep
			return
		}
	}
}
