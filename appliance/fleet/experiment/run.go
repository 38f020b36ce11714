package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// workers is how many clients ask at a time where it is not about time.
const workers = 4

// experiment is a network and what was found out about it.
type experiment struct {
	o options
	*fleet.Fleet
	*report
	progress *progress
	random   *rand.Rand
	trace    trace

	// Clients: near to all nodes, which no delay or loss concerns, and a link away from them.
	near, far *fleet.Host
	boxes     []*fleet.Node // with a kernel half, alive
	members   members
	ids       map[*fleet.Node][2]krpc.ID // IPv4, IPv6
	asked     map[pair]bool
	said      string // why the last get failed, if whoever did it says more than its outcome
}

// pair is a node and an item that it has been asked for, and so may have kept.
type pair struct {
	node *fleet.Node
	item *item
}

// run forms the network and does everything with it that there is to do.
func run(ctx context.Context, o options, dir string, p *progress) (_ *report, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e := &experiment{o: o, progress: p, random: rand.New(rand.NewPCG(o.Seed, 0)), asked: map[pair]bool{}, ids: map[*fleet.Node][2]krpc.ID{}, report: newReport(&o)}
	begun := time.Now()
	before := available()
	e.Fleet, err = fleet.New(ctx, fleet.Options{
		Nodes: o.Nodes, Dir: dir, Binary: o.Binary,
		Args: []string{
			"--set", "table.bits=" + strconv.Itoa(o.Bits),
			// The clients of this network are on benchmarking addresses, ask for more than any real one, and do not prove where they are;
			// and the nodes are so few that each has to be asked by the others more often than in a large network.
			"--set", "recursion.allow=198.18.0.0/15,2001:db8::/32",
			"--set", "limits.exempt=198.18.0.0/15,2001:db8::/32", "--set", "limits.unprovenDatagrams=100000",
			"--set", "limits.queriesPerNode=1000", "--set", "limits.queriesPerSecond=100000", "--set", "recursion.queriesPerSecond=100000",
		},
		Progress: func(ready int) { p.step("nodes started", ready, o.Nodes) },
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		p.step("stopping", 0, 1)
		err = errors.Join(err, e.Close())
	}()
	e.startTime, e.memory = time.Since(begun), before-available()
	e.boxes = slices.Clone(e.Nodes)
	if e.near, err = e.Network.AddHost("near"); err != nil {
		return nil, err
	}
	if e.far, err = e.Network.AddHost("far"); err != nil {
		return nil, err
	}
	if err := errors.Join(e.Network.Near(e.near), e.near.FullChecksums()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.members.leave()) }()
	if err := e.members.join(ctx, e); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{e.readIDs, e.putAll, e.latency, e.getAll, e.faults} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return e.report, nil
}

// readIDs learns the nodes' IDs.
func (e *experiment) readIDs(ctx context.Context) error {
	var mu sync.Mutex
	return e.Each(func(n *fleet.Node) error {
		r, err := n.Status(ctx)
		if err != nil {
			return err
		}
		var ids [2]krpc.ID
		for i, f := range r.Families {
			if ids[i], err = krpc.ParseID(f.ID); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		e.ids[n] = ids
		e.contacts = append(e.contacts, r.Families[0].Contacts)
		return nil
	})
}

// address is a node's address of a family.
func address(n *fleet.Node, v6 bool) netip.AddrPort {
	if v6 {
		return n.Addr6
	}
	return n.Addr4
}

// each does something for i from 0 to n-1, by some askers of a host at a time, and shows how far it is.
func (e *experiment) each(ctx context.Context, h *fleet.Host, what string, n, askers int, f func(a [2]*asker, i int) error) error {
	work := make(chan int)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for range askers {
		a, err := newAskers(h)
		if err != nil {
			stop(err)
			break
		}
		defer a[0].close()
		defer a[1].close()
		wg.Go(func() {
			for i := range work {
				if err := f(a, i); err != nil {
					stop(err)
					return
				}
			}
		})
	}
	e.progress.step(what, 0, n)
	for i := range n {
		select {
		case work <- i:
		case <-ctx.Done():
		}
		if i+1 < n {
			e.progress.step(what, i+1, n)
		}
	}
	close(work)
	wg.Wait()
	e.progress.step(what, n, n)
	return context.Cause(ctx)
}

// An item is put again unless more nodes have stored it than there are in one family: on a busy machine the time of a put may be over
// before those of the other one have, and who looks there only would not find it.
const (
	leastStored = 9
	putTries    = 5
)

// putAll puts the items by random nodes, which store them in the networks of both families.
func (e *experiment) putAll(ctx context.Context) error {
	for i := range e.o.Items {
		it := newItem("the experiment", i)
		it.by = e.Nodes[e.random.IntN(len(e.Nodes))]
		e.items = append(e.items, it)
	}
	return e.each(ctx, e.near, "items put", len(e.items), workers, func(a [2]*asker, i int) error {
		it, v6 := e.items[i], i%2
		for range putTries {
			var err error
			if it.stored, err = a[v6].put(ctx, address(it.by, v6 == 1), it); err != nil || it.stored >= leastStored {
				return err
			}
		}
		return fmt.Errorf("item %d is stored by %d nodes only", i, it.stored)
	})
}

// getAll asks some nodes for every item, over both families, with one datagram each. Half of the nodes are asked over IPv4
// first, and then over IPv6 for what they have in memory by then, and half the other way round.
func (e *experiment) getAll(ctx context.Context) error {
	if err := e.Network.SetLink(fleet.Link{}); err != nil {
		return err
	}
	before, err := e.recursions(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	order := e.random.Perm(len(e.boxes))[:e.o.Tried]
	n := len(e.items) * len(order) * 2
	begun := time.Now()
	err = e.each(ctx, e.near, "items got with one datagram", n, workers, func(a [2]*asker, i int) error {
		nth, again := i/len(e.items)/2, i/len(e.items)%2
		v6 := (nth + again) % 2
		node, it := e.boxes[order[nth]], e.items[i%len(e.items)]
		got, took, err := a[v6].get(ctx, address(node, v6 == 1), it, 1)
		mu.Lock()
		defer mu.Unlock()
		e.all[again][v6].add(got, took)
		e.asked[pair{node, it}] = true
		return err
	})
	if err != nil {
		return err
	}
	e.allRate = float64(n) / time.Since(begun).Seconds()
	after, err := e.recursions(ctx)
	e.kernel = after.minus(before)
	return err
}
