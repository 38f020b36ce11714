package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
	"kdht/router"
	"kdht/router/krpc"
)

// contender is a way to get an item.
type contender struct {
	name string
	anew bool // a client that begins anew for every get
	// get gets an item, and returns how long that took. An error means that the experiment fails.
	get func(ctx context.Context, it *item) (outcome, time.Duration, error)
}

// latency has all kinds of clients get the same items, in turn, at every delay.
func (e *experiment) latency(ctx context.Context) error {
	contenders, stop, err := e.contenders()
	defer stop()
	if err != nil {
		return err
	}
	if err := e.Network.Observe(e.trace.packet); err != nil {
		return err
	}
	// What a member has itself it need not look for. Such items come last: where there are few nodes, as good as all may have a member
	// close by.
	var items, held []*item
	for _, i := range e.random.Perm(len(e.items)) {
		it := e.items[i]
		if it.k != nil {
			continue
		}
		if holders := e.holders(it.target); holders[e.members.plain] || holders[e.members.own] {
			held = append(held, it)
		} else {
			items = append(items, it)
		}
	}
	items = append(items, held...)
	for _, delay := range e.o.Delays {
		if err := e.Network.SetLink(fleet.Link{Delay: delay}); err != nil {
			return err
		}
		if err := e.accustom(ctx, contenders, delay); err != nil {
			return err
		}
		e.loads = append(e.loads, loadAverage())
		what := fmt.Sprintf("items got by every kind of client, links of %v", delay)
		gets := min(e.o.Gets, len(items))
		for i, it := range items[:gets] {
			e.progress.step(what, i, gets)
			// In another order each time, so that none always comes after the same.
			for _, k := range e.random.Perm(len(contenders)) {
				c := contenders[k]
				if c.anew && i >= e.o.Programs {
					continue
				}
				got, took, err := c.get(ctx, it)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				s := e.at(c.name, delay)
				s.add(got, took, e.trace.end())
				if got != found {
					s.odd = append(s.odd, fmt.Sprintf("%s after %v, item %s, stored by %d nodes: %s", got, took.Round(time.Microsecond), it.target, it.stored, e.said))
				}
				e.said = ""
			}
		}
		e.progress.step(what, gets, gets)
		e.loads = append(e.loads, loadAverage())
		items = items[gets:]
	}
	return nil
}

// accustom has everybody ask for what is not there, so that nobody's idea of round-trip times is of links as they were
// before, and no route is asked for the first time.
func (e *experiment) accustom(ctx context.Context, contenders []contender, delay time.Duration) error {
	const rounds = 4
	what := fmt.Sprintf("nodes accustomed to links of %v", delay)
	n := rounds * len(e.boxes)
	err := e.each(ctx, e.near, what, n, 2*workers, func(a [2]*asker, i int) error {
		_, _, err := a[i&1].get(ctx, address(e.boxes[i/2%len(e.boxes)], i&1 == 1), newItem(fmt.Sprint("nothing", delay), 10*i), 1)
		return err
	})
	if err != nil {
		return err
	}
	for i := range 10 {
		for _, c := range contenders {
			if !c.anew {
				if _, _, err := c.get(ctx, newItem(fmt.Sprint("nothing", delay), 10*(n+i))); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
		}
	}
	e.trace.end()
	return nil
}

// contenders makes the clients. stop ends them, also after an error.
func (e *experiment) contenders() (list []contender, stop func(), err error) {
	var askers []*asker
	stop = func() {
		for _, a := range askers {
			a.close()
		}
	}
	// One datagram, to any box.
	datagram := func(name string, h *fleet.Host, v6 bool, pick func(*item) *fleet.Node) error {
		a, err := newAsker(h, v6)
		if err != nil {
			return err
		}
		askers = append(askers, a)
		list = append(list, contender{name: name, get: func(ctx context.Context, it *item) (outcome, time.Duration, error) {
			box := pick(it)
			e.trace.begin(it.target, box.Host)
			return a.get(ctx, address(box, v6), it, 1)
		}})
		return nil
	}
	anyBox := func(it *item) *fleet.Node { return e.pick(e.boxes, it) }
	if err := datagram(kernelNear, e.near, false, anyBox); err != nil {
		return nil, stop, err
	}
	if err := datagram(kernelNear6, e.near, true, anyBox); err != nil {
		return nil, stop, err
	}
	if err := datagram(kernelFar, e.far, false, anyBox); err != nil {
		return nil, stop, err
	}
	m := &e.members
	if err := datagram(userNear, e.near, false, func(*item) *fleet.Node { return m.plain }); err != nil {
		return nil, stop, err
	}

	// Members of the network, who know it from before.
	list = append(list, contender{name: libtorrentMember, get: func(ctx context.Context, it *item) (outcome, time.Duration, error) {
		e.trace.begin(it.target, m.libtorrentHost)
		v, took, err := m.libtorrent.TimeGet(ctx, it.target.String())
		return foreignOutcome(it, v, took, err)
	}})
	list = append(list, contender{name: ownMember, get: func(ctx context.Context, it *item) (outcome, time.Duration, error) {
		e.trace.begin(it.target, m.own.Host)
		begun := time.Now()
		r, err := m.node.GetImmutable(ctx, it.target, router.WithFamilies(router.IPv4))
		took := time.Since(begun)
		if err != nil {
			return e.missed(ctx, took, err)
		}
		if !bytes.Equal(r.Item.V, it.v) {
			return wrong, took, nil
		}
		return found, took, nil
	}})

	// Clients that know one address, and begin anew each time.
	program := func(name string, flag string) {
		list = append(list, contender{name: name, anew: true, get: func(ctx context.Context, it *item) (outcome, time.Duration, error) {
			box := e.pick(e.boxes, it)
			asker := e.far
			if flag == "--via" {
				asker = box.Host
			}
			e.trace.begin(it.target, asker)
			begun := time.Now()
			out, err := e.Run(ctx, e.far, "get", flag, box.Addr4.String(), it.target.String())
			took := time.Since(begun)
			if err != nil {
				return e.missed(ctx, took, fmt.Errorf("%w: %s", err, out))
			}
			if _, text, _ := strings.Cut(string(it.v), ":"); strings.TrimSpace(string(out)) != strings.TrimSpace(text) {
				return wrong, took, nil
			}
			return found, took, nil
		}})
	}
	program(programVia, "--via")
	program(programIterative, "--bootstrap")
	port := uint16(7000)
	list = append(list, contender{name: libtorrentAnew, anew: true, get: func(ctx context.Context, it *item) (outcome, time.Duration, error) {
		port++
		e.trace.begin(it.target, m.libtorrentHost)
		v, took, err := m.libtorrent.FreshGet(ctx, e.pick(e.boxes, it).Addr4, netip.AddrPortFrom(m.libtorrentHost.IPv4, port), it.target.String())
		return foreignOutcome(it, v, took, err)
	}})
	return list, stop, nil
}

// missed is the outcome of a get of ours that failed, unless that is because the experiment ends, and notes why.
func (e *experiment) missed(ctx context.Context, took time.Duration, err error) (outcome, time.Duration, error) {
	e.said = err.Error()
	return notThere, took, context.Cause(ctx)
}

// foreignOutcome is what libtorrent's answer means.
func foreignOutcome(it *item, v string, took time.Duration, err error) (outcome, time.Duration, error) {
	if failed, ok := errors.AsType[*foreign.Error](err); ok && strings.HasPrefix(failed.Text, "LookupError") {
		return notThere, took, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if v != hex.EncodeToString(it.v) {
		return wrong, took, nil
	}
	return found, took, nil
}

// pick takes a node at random that neither holds the item nor was asked for it before, where there is one left.
func (e *experiment) pick(boxes []*fleet.Node, it *item) *fleet.Node {
	holders := e.holders(it.target)
	var fresh, notHolding []*fleet.Node
	for _, n := range boxes {
		if n == it.by || holders[n] {
			continue
		}
		if notHolding = append(notHolding, n); !e.asked[pair{n, it}] {
			fresh = append(fresh, n)
		}
	}
	for _, from := range [][]*fleet.Node{fresh, notHolding, boxes} {
		if len(from) > 0 {
			n := from[e.random.IntN(len(from))]
			e.asked[pair{n, it}] = true
			return n
		}
	}
	return nil
}

// holders are the nodes that are among the 8 closest to a target, in either family.
func (e *experiment) holders(target krpc.ID) map[*fleet.Node]bool {
	holders := map[*fleet.Node]bool{}
	for family := range 2 {
		nodes := make([]*fleet.Node, 0, len(e.ids))
		for n := range e.ids {
			nodes = append(nodes, n)
		}
		slices.SortFunc(nodes, func(a, b *fleet.Node) int {
			return compareDistance(e.ids[a][family], e.ids[b][family], target)
		})
		if family == 1 { // that in this process has none
			nodes = slices.DeleteFunc(nodes, func(n *fleet.Node) bool { return n == e.members.own })
		}
		for _, n := range nodes[:min(8, len(nodes))] {
			holders[n] = true
		}
	}
	return holders
}

// compareDistance compares the XOR distances of two IDs to a target.
func compareDistance(a, b, target krpc.ID) int {
	for i := range target {
		if x, y := a[i]^target[i], b[i]^target[i]; x != y {
			return int(x) - int(y)
		}
	}
	return 0
}
