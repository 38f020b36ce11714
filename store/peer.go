package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Peer is a BitTorrent peer that was announced for an infohash.
type Peer struct {
	Addr netip.AddrPort
	Seed bool // it has the whole torrent (BEP 33)
}

// Announce stores a peer of an infohash for Options.PeerTTL, or restarts its time.
// from is the address that the announce came from and that is charged for it; the zero
// Addr is this node itself. An IPv4-mapped peer counts as IPv4.
//
// Errors: ErrInvalid for an address without port, the quota errors, ErrDamaged,
// ErrClosed, or that of the disk. When nil is returned, the peer is on stable storage.
// Announces may be kept waiting for Options.AnnounceInterval: call it from as many
// goroutines as there are announces.
func (s *Store) Announce(infohash [20]byte, addr netip.AddrPort, seed bool, from netip.Addr) error {
	if !addr.IsValid() || addr.Port() == 0 || addr.Addr().IsUnspecified() {
		return fmt.Errorf("%w: peer address %v", ErrInvalid, addr)
	}
	a := announcing{infohash, peer{
		addr:   addr.Addr().As16(),
		port:   addr.Port(),
		seed:   seed,
		source: sourceOf(from),
	}}
	return s.submit(a.run, true)
}

// announcing is an announce on its way to the writer.
type announcing struct {
	infohash Key
	peer     peer
}

func (a announcing) run(b *batch) error {
	err := a.announce(b)
	if errors.Is(err, ErrQuota) && b.reclaim() {
		err = a.announce(b)
	}
	return err
}

func (a announcing) announce(b *batch) error {
	x := &b.s.index
	p := a.peer
	p.expires = b.s.after(b.s.opt.PeerTTL)
	old := x.swarm(a.infohash).find(p.addr, p.port)
	if old != nil && old.expires == p.expires && old.seed == p.seed && old.source == p.source {
		return nil // announced twice within a second
	}
	if err := b.peerQuota(a.infohash, p.source, old); err != nil {
		return err
	}
	p.serial = x.serial
	if old != nil {
		b.delete(bucketPeers, old.key())
	}
	b.put(bucketPeers, p.key(), p.encode(a.infohash))
	b.change(func(x *index) {
		x.serial++
		if old == nil {
			x.addPeer(a.infohash, p)
			return
		}
		x.charge(old.source, -peerCost)
		x.charge(p.source, peerCost)
		*old = p
		w := x.swarm(a.infohash)
		w.expires = max(w.expires, p.expires)
	})
	return nil
}

func (b *batch) peerQuota(infohash Key, src source, old *peer) error {
	opt, x := &b.s.opt, &b.s.index
	if (old == nil || old.source != src) && b.overSource(src, peerCost) {
		return ErrQuotaSource
	}
	if old != nil {
		return nil
	}
	switch w := x.swarm(infohash); {
	case w == nil && over(len(x.swarms)+1, opt.MaxInfohashes):
		return ErrQuotaInfohashes
	case w != nil && over(w.len()+1, opt.MaxPeersPerInfohash):
		return ErrQuotaPeers
	case over(x.bytes+peerCost, opt.MaxBytes):
		return ErrQuotaBytes
	}
	return nil
}

// Peers appends to dst up to max peers of an infohash in one address family, a random
// choice if there are more; all of them if max is 0 or negative. noSeeds leaves out
// the seeds (BEP 33). No peers is no error.
func (s *Store) Peers(infohash [20]byte, ipv6 bool, max int, noSeeds bool, dst []Peer) ([]Peer, error) {
	dst, _, err := s.peers(infohash, ipv6, max, noSeeds, dst)
	return dst, err
}

// PeersUntil is like [Store.Peers], seeds included. The choice is good until the returned time, when the first of all
// peers of the infohash in the family expires; the zero time if there are none.
func (s *Store) PeersUntil(infohash [20]byte, ipv6 bool, max int) ([]Peer, time.Time, error) {
	peers, first, err := s.peers(infohash, ipv6, max, false, nil)
	if err != nil || len(peers) == 0 {
		return nil, time.Time{}, err
	}
	return peers, s.timeOf(first), nil
}

// peers does what Peers does, and returns when the first of those that it chose from expires.
func (s *Store) peers(infohash [20]byte, ipv6 bool, max int, noSeeds bool, dst []Peer) (_ []Peer, first uint32, err error) {
	if s.db.Load() == nil {
		return dst, 0, s.unusable()
	}
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	w := s.index.swarm(infohash)
	if w == nil || w.expires <= now {
		return dst, 0, nil
	}
	first = never
	list := *w.family(ipv6)
	base, seen := len(dst), 0
	for i := range list {
		p := &list[i]
		if p.expires <= now || noSeeds && p.seed {
			continue
		}
		seen++
		first = min(first, p.expires)
		if max <= 0 || seen <= max {
			dst = append(dst, p.public())
		} else if j := rand.IntN(seen); j < max { // reservoir sampling
			dst[base+j] = p.public()
		}
	}
	return dst, first, nil
}

func (p *peer) public() Peer {
	return Peer{netip.AddrPortFrom(p.ip(), p.port), p.seed}
}
