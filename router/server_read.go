package router

import (
	"net/netip"
	"sync"
	"time"

	"kdht/router/krpc"
)

const (
	// maxSamples keeps the reply to sample_infohashes within 1,024 bytes, and its amplification low.
	maxSamples = 20
	// sampleInterval is how long one sample is given to everybody (BEP 51). Peers expire in 30 minutes.
	sampleInterval = 15 * time.Minute
)

// holds reports whether something is stored here under a key.
func (n *Node) holds(key ID) bool { return n.store != nil && n.store.Holds(key) }

// answerItem answers a get for an item that is stored here, and reports whether it did.
func (r *responder) answerItem(p *Packet) bool {
	it, err := r.n.store.Item(r.m.Target)
	if err != nil {
		return false // expired meanwhile, or these are peers of a torrent
	}
	r.n.hot.ask(r.m.Target, false, r.now)
	return r.answerItemOf(p, itemOf(it))
}

// answerItemOf answers a get with an item, and reports whether it did.
func (r *responder) answerItemOf(p *Packet, it *Item) bool {
	r.reply.respond(r.view, &r.m, &r.m.Target, p.Addr)
	r.reply.addToken()
	r.reply.addItem(&r.m, it)
	r.reply.fit(r.room())
	return r.send(p)
}

// answerPeersOf answers a get_peers with peers that were found elsewhere.
func (r *responder) answerPeersOf(p *Packet, peers []netip.AddrPort) bool {
	r.reply.respondPeers(r.view, &r.m, p.Addr, peers, r.room())
	return r.send(p)
}

// respondPeers composes the answer to a get_peers with as many of these peers as fit.
func (c *composer) respondPeers(v *View, q *krpc.Message, from netip.AddrPort, peers []netip.AddrPort, room []byte) {
	c.respond(v, q, &q.InfoHash, from)
	c.addToken()
	c.addFound(q, peers)
	c.fit(room)
	c.fillValues(room)
}

// answerPeers answers a get_peers for an infohash that has peers here, and reports whether it did.
func (r *responder) answerPeers(p *Packet) bool { return r.composePeers(p) && r.send(p) }

// composePeers composes the answer with the peers stored here, and reports whether it could.
func (r *responder) composePeers(p *Packet) bool {
	r.reply.respond(r.view, &r.m, &r.m.InfoHash, p.Addr)
	r.reply.addToken()
	if err := r.reply.addPeers(r.n.store, r.m.InfoHash, r.m.NoSeed, r.room()); err != nil {
		r.n.log.Warn("reading peers failed", "infohash", r.m.InfoHash, "error", err)
		return false
	}
	if len(r.reply.m.Values) > 0 {
		r.n.hot.askPeers(&r.m, r.now)
	}
	return true
}

// answerScrape answers a get_peers that asks for bloom filters of the peers stored here (BEP 33).
func (n *Node) answerScrape(j *job) {
	var c composer
	q := &j.m
	m := c.respond(n.view.Load(), q, &q.InfoHash, j.from)
	c.addToken()
	var seeds, others krpc.BloomFilter
	for _, v6 := range []bool{false, true} {
		peers, err := n.store.Peers(q.InfoHash, v6, 0, false, nil)
		if err != nil {
			n.log.Warn("reading peers failed", "infohash", q.InfoHash, "error", err)
			return
		}
		for _, p := range peers {
			if p.Seed {
				seeds.Add(p.Addr.Addr())
			} else {
				others.Add(p.Addr.Addr())
			}
		}
	}
	m.BFSeeds, m.BFPeers = seeds[:], others[:]
	room := make([]byte, 0, writeSize)
	c.fit(room)
	if err := c.addPeers(n.store, q.InfoHash, q.NoSeed, room); err != nil {
		n.log.Warn("reading peers failed", "infohash", q.InfoHash, "error", err)
		return
	}
	j.reply(n, m)
}

// answerSample answers sample_infohashes. Who asks gets the same sample as everybody for the length of the interval,
// so that asking often tells nothing more (BEP 51).
func (r *responder) answerSample(p *Packet) {
	m := r.reply.respond(r.view, &r.m, &r.m.Target, p.Addr)
	m.Samples, m.Num = r.n.samples.get(r.n.store, r.now)
	m.HasNum, m.Interval, m.HasInterval = true, int64(sampleInterval/time.Second), true
	r.reply.fit(r.room())
	r.send(p)
}

// samples is the current sample of infohashes.
type samples struct {
	mu      sync.Mutex
	taken   time.Time
	encoded []byte
	num     int64
}

func (s *samples) get(from Storage, now time.Time) ([]byte, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from != nil && (s.encoded == nil || now.Sub(s.taken) >= sampleInterval) {
		hashes, total := from.Sample(maxSamples)
		s.encoded = make([]byte, 0, len(hashes)*krpc.IDLen)
		for _, h := range hashes {
			s.encoded = append(s.encoded, h[:]...)
		}
		s.taken, s.num = now, int64(total)
	}
	if s.encoded == nil {
		return []byte{}, 0
	}
	return s.encoded, s.num
}

// peerOf returns the address of the peer that an announce is about (BEP 5).
func peerOf(q *krpc.Message, from netip.AddrPort) (netip.AddrPort, bool) {
	if q.ImpliedPort {
		return from, true
	}
	return netip.AddrPortFrom(from.Addr(), q.Port), q.HasPort && q.Port != 0
}
