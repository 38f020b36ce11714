package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"kdht/store"
)

const (
	// republishEvery is how often own items are put again (BEP 44); others keep them for two hours.
	republishEvery = time.Hour
	// announceEvery is how often own announces are repeated, and announceJitter at most added; others keep peers for
	// 30 minutes or more.
	announceEvery  = 15 * time.Minute
	announceJitter = 5 * time.Minute
	announceRetry  = 2 * time.Minute
	republishTick  = time.Minute
	// maxAnnounces bounds the announces that are kept.
	maxAnnounces = 1024
)

// ownAnnounce is an announce to be repeated.
type ownAnnounce struct {
	infohash ID
	port     uint16
	seed     bool
}

// announces are the announces to be repeated, and when. Safe for concurrent use.
type announces struct {
	mu  sync.Mutex
	due map[ownAnnounce]time.Time
}

// add takes an announce that is being made.
func (a *announces) add(o ownAnnounce) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due == nil {
		a.due = make(map[ownAnnounce]time.Time)
	}
	if _, known := a.due[o]; known || len(a.due) < maxAnnounces {
		a.due[o] = time.Now().Add(announceEvery + rand.N(announceJitter))
	}
}

// take returns the announces to be made by now, and has each made again after the usual time.
func (a *announces) take(now time.Time) (due []ownAnnounce) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for o, at := range a.due {
		if !at.After(now) {
			due = append(due, o)
			a.due[o] = now.Add(announceEvery + rand.N(announceJitter))
		}
	}
	return due
}

// retry has an announce that failed made again soon, unless it is not to be repeated any more.
func (a *announces) retry(o ownAnnounce) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.due[o]; known {
		a.due[o] = time.Now().Add(announceRetry)
	}
}

func (a *announces) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.due)
}

// Unannounce stops repeating the announces of an infohash.
func (n *Node) Unannounce(infohash ID) {
	n.announces.mu.Lock()
	defer n.announces.mu.Unlock()
	for o := range n.announces.due {
		if o.infohash == infohash {
			delete(n.announces.due, o)
		}
	}
}

// republish puts own items, and makes own announces, again and again.
func (n *Node) republish(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-n.ready:
	}
	for n.sleep(ctx, republishTick) == nil {
		for _, o := range n.announces.take(time.Now()) {
			r, err := n.Announce(ctx, o.infohash, o.port, o.seed)
			if err != nil || len(r.Stored) == 0 {
				n.announces.retry(o)
			}
			if err != nil {
				n.log.Warn("repeating an announce failed", "infohash", o.infohash, "error", err)
			}
		}
		if n.store == nil {
			continue
		}
		items, err := n.store.OwnItems()
		if err != nil {
			n.log.Warn("reading own items failed", "error", err)
		}
		for _, it := range items { // longest ago first
			age := time.Since(it.Updated) // negative if the clock was set back
			if age >= 0 && age < n.config.Tuning.RepublishEvery {
				continue
			}
			if ctx.Err() != nil {
				return
			}
			if err := n.republishItem(ctx, it); err != nil {
				n.log.Warn("republishing an item failed", "target", ID(it.Target), "error", err)
			}
		}
	}
}

// republishItem puts an own item again, or the newer version that the network has. It keeps the time of the put, so
// that one that fails is tried again within minutes.
func (n *Node) republishItem(ctx context.Context, it *store.Item) error {
	if !it.Mutable {
		_, err := n.PutImmutable(ctx, it.V)
		return n.putAgain(it, err)
	}
	_, err := n.UpdateMutable(ctx, it.K, it.Salt, func(found *Item) (Item, *int64, error) {
		if found == nil || found.Seq <= it.Seq {
			found = &Item{V: it.V, K: it.K, Salt: it.Salt, Seq: it.Seq, Sig: it.Sig}
		}
		it.V, it.Seq, it.Sig = found.V, found.Seq, found.Sig
		return *found, nil, nil
	})
	return n.putAgain(it, err)
}

// putAgain records that an own item was put, unless err says otherwise. On a node that is alone there is nobody to put
// it to, which is no fault.
func (n *Node) putAgain(it *store.Item, err error) error {
	if err != nil && !errors.Is(err, ErrNoNodes) {
		return err
	}
	it.Own = true
	return n.keepItem(it, nil, netip.Addr{})
}
