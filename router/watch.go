package router

import (
	"context"
	"time"

	"kdht/router/krpc"
)

const (
	maxSightings = 256 // senders of queries that wait to be looked at
	maxPings     = 32  // pings of senders of queries under way, and as many of contacts
)

// Sighting tells the node of a sender of queries, who may be worth a place in the routing table once it has answered
// a ping. It never blocks: in a flood most senders are not looked at.
func (n *Node) Sighting(c Contact) {
	select {
	case n.sightings <- c:
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

func (n *Node) sighted(c Contact, now time.Time) {
	t := n.tables[FamilyOf(c.Addr.Addr())]
	if t == nil || n.isSelf(c.Addr) {
		return
	}
	n.mu.Lock()
	t.Queried(c, now)
	n.mu.Unlock()
	// The table counts on a ping being sent for each contact that it hands out.
	if n.limiter.wait(c.Addr.Addr(), now) > 0 {
		return
	}
	select {
	case n.pinging <- struct{}{}:
	default:
		return
	}
	n.mu.Lock()
	ping, want := t.Offer(c, now)
	n.mu.Unlock()
	if !want || !n.spawn(func() { n.ping(ping); <-n.pinging }) {
		<-n.pinging
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
