package router

import (
	"context"
	"errors"
	"slices"
	"time"

	"kdht/router/krpc"
)

// lookupTime bounds a lookup, if the configuration does not say. What was found by then is its outcome.
const lookupTime = time.Minute

// lookup is one iterative search (Kademlia): ask the closest nodes known for closer ones, until the closest have
// answered. It runs in all families at once, each with candidates, progress and end of its own; answers in one family
// may refer to nodes of the other (BEP 32). One goroutine owns it.
type lookup struct {
	n       *Node
	target  ID
	query   krpc.Message // sent to each candidate
	options options
	lists   [2]*shortlist
	// onAnswer looks at an answer; true ends the lookup.
	onAnswer func(c *candidate, r *reply) (enough bool)
	// roots are nodes to begin with whose IDs need not be known, beside those of the table.
	roots []Contact
	// known is what somebody else has found out already.
	known *headStart
	// limit is how long it may take.
	limit time.Duration
	// hurry says that somebody waits: then a node counts as slow by what the round-trip times are here, however short.
	hurry bool
	// pacer says when to ask, if it is in a hurry.
	pacer pacer
	// here says that what is written afterwards is stored here too, however far away this node is.
	here bool
	// late is called with an answer that came after the end, if not nil.
	late func()

	width    int
	events   chan lookupEvent
	over     chan struct{}
	progress Progress
	inFlight int
	hops     int
	begin    time.Time
	deadline *time.Timer
	end      time.Time // when the deadline is
	// complete says that the lookup came to its end by itself; starved, that our own limits kept it from asking.
	complete, starved bool
	// started says that it knows whom to ask first.
	started bool
	// hit says that the answer that was just looked at has what is looked for, verified.
	hit bool
}

// lookupEvent is the outcome of a query, or that it takes long.
type lookupEvent struct {
	list *shortlist
	c    *candidate
	slow bool
	r    *reply
	err  error
}

// newLookup prepares a lookup of a target by a method.
func (n *Node) newLookup(target ID, query krpc.Message, opts []Option) *lookup {
	l := &lookup{
		n: n, target: target, query: query, width: n.config.Tuning.Alpha, limit: n.config.Tuning.LookupTime,
		events: make(chan lookupEvent), over: make(chan struct{}),
	}
	for _, o := range opts {
		o(&l.options)
	}
	return l
}

// run carries the lookup out. It fails only if the node or the context ends.
func (l *lookup) run(ctx context.Context) error {
	l.n.lookups.Add(1)
	defer l.n.lookups.Add(-1)
	defer close(l.over)
	l.begin = time.Now()
	l.deadline, l.end = time.NewTimer(l.limit), l.begin.Add(l.limit)
	defer l.deadline.Stop()
	if l.start() {
		return nil
	}
	l.started = true
	again := time.NewTimer(l.limit)
	defer again.Stop()
	for {
		l.ask(ctx)
		l.report()
		done, wait := l.done(time.Now())
		if done {
			l.complete = true
			l.starved = l.starved || slices.ContainsFunc(l.lists[:], func(list *shortlist) bool { return list != nil && list.leftOut() > 0 })
			return nil
		}
		if wait > 0 {
			again.Reset(wait)
		}
		select {
		case e := <-l.events:
			if l.handle(e) {
				l.report()
				return nil
			}
		case <-again.C:
		case <-l.deadline.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-l.n.closed:
			return ErrClosed
		}
	}
}

// endWithin has the lookup end no later than in a while.
func (l *lookup) endWithin(d time.Duration) {
	if end := time.Now().Add(d); end.Before(l.end) {
		l.end = end
		l.deadline.Reset(d)
	}
}

// start fills the lists with the closest contacts of the tables, and with what is known beside. It reports whether the
// lookup has what it wants already.
func (l *lookup) start() (enough bool) {
	var want krpc.Want
	var seeds []Contact
	l.n.mu.Lock()
	for f, t := range l.n.tables {
		f := Family(f)
		if t == nil || len(l.options.families) > 0 && !slices.Contains(l.options.families, f) {
			continue
		}
		l.lists[f] = newShortlist(f, l.target, t.config, l.n.isSelf, l.width)
		if l.hurry {
			l.lists[f].grace = min(slowGrace, max(graceRounds*l.n.rtt[f].slow(hurrySlow), minGrace))
		}
		want |= wantOf(f)
		seeds = append(seeds, t.Closest(l.target, lookupSeeds)...)
	}
	l.n.mu.Unlock()
	if want == krpc.WantN4|krpc.WantN6 {
		l.query.Want = want // in one family it is implied
	}
	if l.known != nil && l.known.give(l) {
		return true
	}
	for _, c := range append(seeds, l.roots...) {
		l.add(c, nil)
	}
	return false
}

func (l *lookup) add(c Contact, referrer *candidate) {
	if list := l.lists[FamilyOf(c.Addr.Addr())]; list != nil {
		list.add(c, referrer)
	}
}

// isTurn reports whether a candidate may be asked now, and takes the turn. A lookup in a hurry asks another one meanwhile.
func (l *lookup) isTurn(c *candidate) bool {
	now := time.Now()
	if !l.hurry || l.pacer.spare(c.Addr.Addr(), now) {
		return true
	}
	if c.held.IsZero() {
		c.held = now
	}
	return false
}

// ask sends the queries that are due.
func (l *lookup) ask(ctx context.Context) {
	for _, list := range l.lists {
		if list == nil {
			continue
		}
		for c := list.next(l.isTurn); c != nil; c = list.next(l.isTurn) {
			l.begun(list, c)
			to, before := c.Contact, l.known.sent(c.Addr)
			l.n.spawn(func() { l.exchange(ctx, list, c, to, before, 0) })
		}
	}
	if l.hurry && l.inFlight == 0 {
		l.queue(ctx)
	}
}

// begun notes that a candidate is being asked.
func (l *lookup) begun(list *shortlist, c *candidate) {
	c.state, c.asked = stateAsked, time.Now()
	list.queries++
	l.progress.Queried++
	l.inFlight++
	l.step(StepAsked, c, Step{})
}

// queue takes the next turn that there is, because it is that of no candidate: those who came before have theirs first.
func (l *lookup) queue(ctx context.Context) {
	now := time.Now()
	var in *shortlist
	var next *candidate
	least := limiterPatience
	for _, list := range l.lists {
		if list == nil {
			continue
		}
		list.next(func(c *candidate) bool {
			if wait := l.pacer.wait(c.Addr.Addr(), now); wait < least {
				in, next, least = list, c, wait
			}
			return false
		})
	}
	if next == nil {
		return
	}
	wait, ok := l.pacer.queue(next.Addr.Addr(), now)
	if !ok {
		return
	}
	l.begun(in, next)
	next.asked = now.Add(wait)
	to, before := next.Contact, l.known.sent(next.Addr)
	l.n.spawn(func() { l.exchange(ctx, in, next, to, before, wait) })
}

// exchange asks one candidate, whom the kernel half may have asked before, after a while. It may outlast the lookup: a late answer
// is still of use to the table.
func (l *lookup) exchange(ctx context.Context, list *shortlist, c *candidate, to Contact, before *KernelQuery, wait time.Duration) {
	if before != nil {
		defer l.n.dismissQuery(before)
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.over:
			return
		case <-l.n.closed:
			return
		}
	}
	slow := func() { l.send(lookupEvent{list: list, c: c, slow: true}) }
	var r *reply
	var err error
	if l.hurry {
		r, err = l.n.queryInHurry(ctx, to, l.query, before, l.pacer, slow)
	} else {
		r, err = l.n.query(ctx, to, l.query, slow)
	}
	if !l.send(lookupEvent{list: list, c: c, r: r, err: err}) && err == nil && l.late != nil {
		l.late()
	}
}

// send hands an event to the lookup; false if that has ended.
func (l *lookup) send(e lookupEvent) bool {
	select {
	case l.events <- e:
		return true
	case <-l.over:
		return false
	}
}

// handle takes an event in, and reports whether the lookup has what it wants.
func (l *lookup) handle(e lookupEvent) bool {
	if e.slow {
		e.list.slow(e.c)
		l.step(StepSlow, e.c, Step{})
		return false
	}
	l.inFlight--
	if errors.Is(e.err, ErrBusy) || errors.Is(e.err, ErrUnsent) {
		l.starved = l.starved || errors.Is(e.err, ErrBusy)
		e.c.state = stateFailed // our limits are nobody's fault
		l.progress.Failed++
		l.step(StepFailed, e.c, Step{Err: e.err})
		return false
	}
	if e.err == nil && e.r.Type != krpc.TypeResponse {
		e.list.refused(e.c)
		l.progress.Failed++
		l.step(StepFailed, e.c, Step{Err: &e.r.Err})
		return false
	}
	if e.err != nil {
		e.list.failed(e.c)
		l.progress.Failed++
		l.step(StepFailed, e.c, Step{Err: e.err})
		return false
	}
	return l.take(e.list, e.c, e.r)
}

// take takes a response in, and reports whether the lookup has what it wants.
func (l *lookup) take(list *shortlist, c *candidate, r *reply) bool {
	if !list.answered(c, r.ID) {
		l.progress.Failed++
		l.step(StepFailed, c, Step{Err: errOtherID})
		return false
	}
	c.token = r.Token
	l.progress.Answered++
	l.hops = max(l.hops, c.hops)
	c.responded(&r.Message, l.add)
	l.hit = false
	enough := l.onAnswer != nil && l.onAnswer(c, r)
	l.step(StepAnswered, c, Step{Named: named(&r.Message), Found: l.hit})
	return enough
}

// done reports whether all families are complete, or when to look again.
func (l *lookup) done(now time.Time) (done bool, wait time.Duration) {
	done = true
	for _, list := range l.lists {
		if list == nil {
			continue
		}
		d, w := list.done(now)
		done = done && d
		if w > 0 && (wait == 0 || w < wait) {
			wait = w
		}
	}
	return done, wait
}

// report tells the caller how far the lookup is.
func (l *lookup) report() {
	if l.options.progress == nil {
		return
	}
	p := &l.progress
	p.InFlight = l.inFlight
	for _, list := range l.lists {
		if list == nil {
			continue
		}
		if c := list.closest(1); len(c) > 0 && (p.Closest.IsZero() || Closer(l.target, c[0].ID, p.Closest)) {
			p.Closest = c[0].ID
			p.Bits = PrefixLen(l.target, p.Closest)
		}
	}
	l.options.progress(*p)
}

func (l *lookup) stats() LookupStats {
	return LookupStats{
		Queried: l.progress.Queried, Answered: l.progress.Answered, Failed: l.progress.Failed,
		Hops: l.hops, Duration: time.Since(l.begin),
	}
}

// closest returns the k closest nodes of each family that answered.
func (l *lookup) closest() (all []Contact) {
	for _, list := range l.lists {
		if list == nil {
			continue
		}
		for _, c := range list.closest(bucketSize) {
			all = append(all, c.Contact)
		}
	}
	slices.SortStableFunc(all, func(a, b Contact) int {
		switch {
		case Closer(l.target, a.ID, b.ID):
			return -1
		case Closer(l.target, b.ID, a.ID):
			return 1
		}
		return 0
	})
	return all
}
