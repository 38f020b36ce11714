package store

import (
	"fmt"
	"time"
)

const (
	// expireStep is how many entries of a kind one operation removes at most, so
	// that others share its transaction.
	expireStep = 512
	// reclaimStep is that of the removal on behalf of a write that met a quota.
	reclaimStep = 1024
)

// Expire removes what has expired by now and returns how many items and peers that
// were. Nothing expired is ever returned, swept or not; sweeping frees the space,
// tells OnRelease, and keeps the resident memory small. Call it every few seconds.
//
// It is also where a wall clock that was set since Open is noticed, which may tell for
// how long the store was closed (clock.go).
func (s *Store) Expire(now time.Time) (n int, err error) {
	at := clamp(s.clock.now().Add(now.Sub(s.opt.Now())).Unix())
	items, peers := at, at
	closed, before := s.clock.closed()
	if before != nil {
		// What was put since Open expires later than this.
		opened := s.clock.opened.Unix()
		items = max(items, clamp(opened+int64(min(closed, s.opt.ItemTTL)/time.Second)-1))
		peers = max(peers, clamp(opened+int64(min(closed, s.opt.PeerTTL)/time.Second)-1))
		s.log.Info("store: the clock was set and tells how long the store was closed", "closed", closed.Round(time.Second))
	}
	for {
		step := 0
		err := s.submit(func(b *batch) error {
			step = b.expireItems(items, expireStep) + b.expirePeers(peers, expireStep)
			if step == 0 {
				b.saveClock(saveClockAlone)
				trim(b.tx)
			}
			return nil
		}, false)
		n += step
		if err != nil {
			return n, err
		}
		if step == 0 {
			if before != nil {
				s.clock.before.CompareAndSwap(before, nil)
			}
			return n, nil
		}
	}
}

// reclaim makes room by removing what has expired, once per batch. It reports
// whether it removed anything.
func (b *batch) reclaim() bool {
	if b.reclaimed {
		return false
	}
	b.reclaimed = true
	return b.expireItems(b.now, reclaimStep)+b.expirePeers(b.now, reclaimStep) > 0
}

// An entry that is met but not in the index was deleted before and is still there:
// in a page whose keys are out of order, because the disk damaged it after Open had
// checked it, a cursor finds what a deletion does not. It would be met for ever.
var errImmortal = fmt.Errorf("%w: an entry cannot be deleted", ErrDamaged)

func (b *batch) expireItems(now uint32, limit int) int {
	var due []Key
	c := b.bucket(bucketExpiry).Cursor()
	for k, _ := c.First(); k != nil && len(due) < limit; k, _ = c.Next() {
		expires, target := parseExpiryKey(k)
		if expires > now {
			break
		}
		if known, _ := b.expires(target); known != expires {
			b.fail(errImmortal)
			return 0
		}
		due = append(due, target)
	}
	for _, target := range due {
		b.removeItem(target)
	}
	b.s.counts.expired.Add(int64(len(due)))
	return len(due)
}

func (b *batch) expirePeers(now uint32, limit int) int {
	type entry struct {
		infohash Key
		peer     peer
	}
	var due []entry
	c := b.bucket(bucketPeers).Cursor()
	for k, v := c.First(); k != nil && len(due) < limit; k, v = c.Next() {
		ih, p, err := parsePeer(k, v)
		if err != nil {
			b.fail(err)
			return 0
		}
		if p.expires > now {
			break
		}
		if known := b.s.index.swarm(ih).find(p.addr, p.port); known == nil || *known != p {
			b.fail(errImmortal)
			return 0
		}
		due = append(due, entry{ih, p})
	}
	for _, e := range due {
		b.delete(bucketPeers, e.peer.key())
	}
	if len(due) == 0 {
		return 0
	}
	b.change(func(x *index) {
		for _, e := range due {
			x.removePeer(e.infohash, x.swarm(e.infohash).find(e.peer.addr, e.peer.port))
			if x.swarm(e.infohash) == nil {
				b.gone[e.infohash] = struct{}{}
			}
		}
	})
	b.s.counts.expired.Add(int64(len(due)))
	return len(due)
}
