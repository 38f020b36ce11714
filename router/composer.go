package router

import (
	"net/netip"

	"kdht/router/krpc"
	"kdht/store"
)

// composer makes replies that need more than the view, in memory that it uses again for the next.
type composer struct {
	m             krpc.Message
	view          *View
	target        ID // that the contacts are close to
	token         [8]byte
	nodes, nodes6 []byte
	values        []byte
	peers         []store.Peer
	found         []netip.AddrPort // peers that fillValues chooses from
}

// version is our "v", shared by all messages.
var version = []byte(krpc.Version)

// respond begins the response that answers query q: with our ID and, for methods with a target, the contacts closest to
// it.
func (c *composer) respond(v *View, q *krpc.Message, target *ID, to netip.AddrPort) *krpc.Message {
	c.view, c.found = v, nil
	c.m = krpc.Message{Type: krpc.TypeResponse, TID: q.TID, IP: to, Version: version, HasID: true, ID: v.snapshot.ID4}
	f, want := FamilyOf(to.Addr()), q.Want
	if f == IPv6 {
		c.m.ID = v.snapshot.ID6
	}
	if target == nil {
		return &c.m
	}
	c.target = *target
	if want == 0 {
		want = wantOf(f)
	}
	if want&krpc.WantN4 != 0 {
		c.nodes = v.AppendClosest(notNil(c.nodes), IPv4, *target)
		c.m.Nodes = c.nodes
	}
	if want&krpc.WantN6 != 0 {
		c.nodes6 = v.AppendClosest(notNil(c.nodes6), IPv6, *target)
		c.m.Nodes6 = c.nodes6
	}
	return &c.m
}

// notNil empties a slice. An empty list of contacts is there, a nil one is not.
func notNil(b []byte) []byte {
	if b == nil {
		return make([]byte, 0, bucketSize*krpc.Node6Len)
	}
	return b[:0]
}

// addToken adds the write token of the asker.
func (c *composer) addToken() {
	c.token = c.view.Token(c.m.IP.Addr())
	c.m.Token = c.token[:]
}

// addItem adds an item to the answer to a get, or of a mutable one that the asker has already the sequence number alone
// (BEP 44).
func (c *composer) addItem(q *krpc.Message, it *Item) {
	m := &c.m
	if it.Mutable {
		m.Seq, m.HasSeq = it.Seq, true
	}
	if !it.Mutable || !q.HasSeq || it.Seq > q.Seq {
		m.V = it.V
		if it.Mutable {
			m.K, m.Sig = it.K[:], it.Sig[:]
		}
	}
}

// dropForeign removes the contacts of the family that the asker did not use, to make room.
func (c *composer) dropForeign() {
	if c.m.Nodes == nil || c.m.Nodes6 == nil {
		return
	}
	if FamilyOf(c.m.IP.Addr()) == IPv4 {
		c.m.Nodes6 = nil
	} else {
		c.m.Nodes = nil
	}
}

// peerRoom returns how many peers of the asker's family fit. room is memory to measure the reply in.
func (c *composer) peerRoom(room []byte) (int, error) {
	b, err := c.m.Append(room)
	if err != nil {
		return 0, err
	}
	each := len("6:") + krpc.Addr4Len
	if FamilyOf(c.m.IP.Addr()) == IPv6 {
		each = len("18:") + krpc.Addr6Len
	}
	return max(0, (krpc.MaxPayload-(len(b)-len(room))-len("6:valuesle"))/each), nil
}

// addPeers adds as many of the peers stored here as fit, of the asker's family. room is memory to measure the reply in.
func (c *composer) addPeers(from Storage, infohash ID, noSeeds bool, room []byte) error {
	limit, err := c.peerRoom(room)
	if err != nil || limit == 0 {
		return err
	}
	c.peers, err = from.Peers(infohash, FamilyOf(c.m.IP.Addr()) == IPv6, limit, noSeeds, c.peers[:0])
	if err != nil || len(c.peers) == 0 {
		return err
	}
	c.values = c.values[:0]
	for _, p := range c.peers {
		c.values = krpc.AppendPeer(c.values, p.Addr)
	}
	c.m.Values = c.values
	return nil
}

func wantOf(f Family) krpc.Want {
	if f == IPv6 {
		return krpc.WantN6
	}
	return krpc.WantN4
}

// errorReply returns the error message that answers query q.
func errorReply(q *krpc.Message, e *krpc.Error, to netip.AddrPort) *krpc.Message {
	return &krpc.Message{Type: krpc.TypeError, TID: q.TID, Err: *e, IP: to, Version: version}
}

// replaceNodes puts the closest nodes that a lookup has found in the place of those of the table.
func (c *composer) replaceNodes(l *lookup) {
	for f, list := range l.lists {
		if list == nil {
			continue
		}
		closest := list.closest(bucketSize)
		if len(closest) == 0 {
			continue
		}
		m, own := &c.m.Nodes, &c.nodes
		if Family(f) == IPv6 {
			m, own = &c.m.Nodes6, &c.nodes6
		}
		if *m == nil {
			continue // not wanted
		}
		*own = (*own)[:0]
		for _, n := range closest {
			*own = krpc.AppendNode(*own, n.ID, n.Addr)
		}
		*m = *own
	}
}

// addFound has fillValues add as many of these peers as fit, of the asker's family and of those that it wants.
func (c *composer) addFound(q *krpc.Message, peers []netip.AddrPort) {
	want := q.Want | wantOf(FamilyOf(c.m.IP.Addr()))
	for _, p := range peers {
		if want&wantOf(FamilyOf(p.Addr())) != 0 {
			c.found = append(c.found, p)
		}
	}
	c.m.Values = notNil(c.values) // there are some, if only of the other family
}

// fillValues adds as many of the peers found as fit. room is memory to measure the reply in.
func (c *composer) fillValues(room []byte) {
	if len(c.found) == 0 {
		return
	}
	b, err := c.m.Append(room)
	if err != nil {
		return // it will not be sent
	}
	left := krpc.MaxPayload - (len(b) - len(room))
	c.values = notNil(c.values)
	for _, p := range c.found {
		before := len(c.values)
		c.values = krpc.AppendPeer(c.values, p)
		if left -= len(c.values) - before; left < 0 {
			c.values = c.values[:before]
			break
		}
	}
	c.m.Values = c.values
}
