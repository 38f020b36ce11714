package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kdht/appliance/fleet"
)

// faultWorkers is how many clients ask at a time while some answers take seconds.
const faultWorkers = 16

// faults has clients get items and peers, and look for what was never put or announced, while packets are lost, nodes are dead, and nodes lie.
// It leaves the network in ruins.
func (e *experiment) faults(ctx context.Context) error {
	share := int(float64(len(e.boxes)) * e.o.Share)
	percent := fmt.Sprintf("%.0f %%", e.o.Share*100)
	infohashes, err := e.announce(ctx, "the experiment")
	if err != nil {
		return err
	}
	if err := e.Network.SetLink(fleet.Link{Loss: e.o.Share}); err != nil {
		return err
	}
	if err := e.suffer(ctx, percent+" of the packets lost", e.items, infohashes); err != nil {
		return err
	}
	if err := e.tries(ctx, e.far, percent+" of the packets lost, between client and box too", e.o.Faulty, e.anyOf(e.items)); err != nil {
		return err
	}
	if err := e.Network.SetLink(fleet.Link{}); err != nil {
		return err
	}

	for i := range share {
		j := e.random.IntN(len(e.boxes))
		if err := e.Cut(e.boxes[j]); err != nil {
			return err
		}
		e.boxes = append(e.boxes[:j], e.boxes[j+1:]...)
		e.progress.step("nodes killed", i+1, share)
	}
	if err := e.suffer(ctx, percent+" of the nodes dead", e.items, infohashes); err != nil {
		return err
	}

	// As many liars as there are dead nodes take part before new items are put.
	c := newCircle(e.near, e.far)
	defer c.close()
	for i := range share {
		h, err := e.Network.AddHost("liar")
		if err != nil {
			return err
		}
		if err := c.join(h, i%len(lies)); err != nil {
			return err
		}
		e.progress.step("liars joining", i+1, share)
	}
	// Until nobody new asks whether they are there. Of senders who have proved nothing, a node looks at few at a time, and at one again
	// after three seconds.
	before, quiet := int64(0), 0
	err = fleet.Poll(ctx, time.Second, func() (bool, error) {
		c.meet(e.boxes)
		now := c.met.Load()
		if quiet++; now == 0 || now-before >= int64(share) {
			quiet = 0
		}
		before = now
		return quiet >= 5, nil
	})
	if err != nil {
		return err
	}
	fresh := make([]*item, min(len(e.items), 200))
	for i := range fresh {
		fresh[i] = newItem("those put among liars", i)
		fresh[i].by = e.boxes[e.random.IntN(len(e.boxes))]
	}
	err = e.each(ctx, e.near, "items put among liars", len(fresh), faultWorkers, func(a [2]*asker, i int) error {
		_, err := a[i%2].put(ctx, address(fresh[i].by, i%2 == 1), fresh[i])
		return err
	})
	if err != nil {
		return err
	}
	if infohashes, err = e.announce(ctx, "those announced among liars"); err != nil {
		return err
	}
	if err := e.suffer(ctx, percent+" of the nodes lie, as many are dead", fresh, infohashes); err != nil {
		return err
	}
	for about := range c.told {
		for i := range lies {
			e.told[about] = append(e.told[about], c.told[about][i].Load())
		}
	}
	if err := e.Network.SetLink(fleet.Link{Loss: e.o.Share}); err != nil {
		return err
	}
	return e.suffer(ctx, "all three", fresh, infohashes)
}

// What is looked for among faults beside items.
const (
	neverPut       = ", what was never put"
	announced      = ", peers"
	neverAnnounced = ", peers never announced"
)

// announce has clients on random boxes announce peers there, each of an infohash of its own, in the networks of both families.
func (e *experiment) announce(ctx context.Context, set string) ([]*item, error) {
	infohashes := make([]*item, max(1, e.o.Faulty/3))
	for i := range infohashes {
		it := newInfohash(set, i)
		it.by = e.boxes[e.random.IntN(len(e.boxes))]
		infohashes[i] = it
	}
	what := "peers announced, " + set
	var group errgroup.Group
	group.SetLimit(faultWorkers)
	for i, it := range infohashes {
		e.progress.step(what, i, len(infohashes))
		group.Go(func() error {
			a, err := newAsker(it.by.Host, false)
			if err != nil {
				return err
			}
			defer a.close()
			for range putTries {
				if it.stored, err = a.announce(ctx, it.by.Addr4, it); err != nil || it.stored >= leastStored {
					return err
				}
			}
			return fmt.Errorf("a peer is stored by %d nodes only", it.stored)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	e.progress.step(what, len(infohashes), len(infohashes))
	return infohashes, nil
}

// suffer has clients nearby get random items and peers by random nodes, and then what was never put or announced, with one datagram
// each.
func (e *experiment) suffer(ctx context.Context, fault string, items, infohashes []*item) error {
	for _, try := range []struct {
		name string
		n    int
		draw func(i int) *item
	}{
		{"", e.o.Faulty, e.anyOf(items)},
		{neverPut, e.o.Faulty / 6, func(i int) *item { return newItem("nowhere, "+fault, i) }},
		{announced, e.o.Faulty / 2, e.anyOf(infohashes)},
		{neverAnnounced, e.o.Faulty / 6, func(i int) *item { return newInfohash("nowhere, "+fault, i) }},
	} {
		if err := e.tries(ctx, e.near, fault+try.name, max(1, try.n), try.draw); err != nil {
			return err
		}
	}
	return nil
}

func (e *experiment) anyOf(items []*item) func(int) *item {
	return func(int) *item { return items[e.random.IntN(len(items))] }
}

// tries has clients on a host get items or peers, and notes what comes of it. Where their own datagrams may be lost they ask again.
func (e *experiment) tries(ctx context.Context, h *fleet.Host, name string, n int, draw func(i int) *item) error {
	plan := make([]pair, n)
	for i := range plan {
		it := draw(i)
		plan[i] = pair{e.pick(e.boxes, it), it}
	}
	sends := 1
	if h != e.near {
		sends = int(answerTime / again)
	}
	s := &series{name: name}
	e.suffered = append(e.suffered, s)
	var mu sync.Mutex
	return e.each(ctx, h, name, n, faultWorkers, func(a [2]*asker, i int) error {
		got, took, err := a[i%2].get(ctx, address(plan[i].node, i%2 == 1), plan[i].item, sends)
		mu.Lock()
		defer mu.Unlock()
		s.add(got, took)
		if err == nil && got != found && got != notThere && got != notSure {
			s.odd = append(s.odd, fmt.Sprintf("%s after %v, of %s asked for %s", got, took.Round(time.Millisecond), plan[i].node.Name(), plan[i].item.target))
		}
		return err
	})
}
