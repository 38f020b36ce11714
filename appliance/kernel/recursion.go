package kernel

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"kdht/appliance/status"
	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

const (
	// recursionLease is how long the program begins recursions after this process last said that it takes over what
	// becomes of them. It is far shorter than the lease for answers, which come from the program alone.
	recursionLease = 9 * time.Second
	// minLook is the least pause between two looks at the recursions under way, and looksBeforeSleep how many see none before
	// somebody must be woken for the next: to be woken costs about as much as they do.
	minLook           = time.Millisecond
	looksBeforeSleep  = 3
	recursionTooOldAt = 5 * time.Second // the client has given up
)

// recursions takes over what the program has begun for clients: what comes up to the node's sockets, and what is late.
type recursions struct {
	h       *Half
	program Program

	mu    sync.Mutex
	stats status.KernelRecursion
}

// Take implements router.KernelRecursion.
func (r *recursions) Take(tid []byte, from netip.AddrPort, answer func(*router.RecursionState) bool) (router.RecursionState, bool) {
	if !bpf.KernelTransaction(tid) {
		return router.RecursionState{}, false
	}
	answered := false
	rec, ok, err := r.program.TakeRecursion(tid, from, func(rec *bpf.Recursion) bool {
		st := stateOf(rec)
		answered = answer(&st)
		return answered
	})
	if err != nil && !errors.Is(err, bpf.ErrClosed) {
		r.h.c.Log.Error("a recursion of the kernel half is lost", "err", err)
	}
	if !ok || err != nil && !answered {
		return router.RecursionState{}, false
	}
	r.count(&rec, &r.stats.Replied)
	st := stateOf(&rec)
	st.RTT = rec.Sent
	if answered {
		st.Unanswered = nil // the program drops them
	}
	return st, true
}

// Dismiss implements router.KernelRecursion.
func (r *recursions) Dismiss(tid [4]byte) {
	r.try("answers that nobody waits for come up", r.program.Dismiss(tid))
}

// count counts a recursion that was taken over.
func (r *recursions) count(rec *bpf.Recursion, how *uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*how++
	if r.stats.Hops == nil {
		r.stats.Hops = make([]uint64, bpf.MaxHops+1)
	}
	r.stats.Hops[len(rec.Asked)]++
}

// report returns the counts so far.
func (r *recursions) report() status.KernelRecursion {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Hops = append([]uint64{}, s.Hops...)
	return s
}

// stateOf is what the router is to know. A node that was asked last on a path is asked again if it has not answered: the query
// may have been lost. One that has failed is not. What those referred to that answered before the last is not known any more, so they may be asked again.
func stateOf(rec *bpf.Recursion) router.RecursionState {
	methods := map[string]krpc.Method{"find_node": krpc.MethodFindNode, "get_peers": krpc.MethodGetPeers, "get": krpc.MethodGet}
	st := router.RecursionState{
		Client: rec.Client, Local: rec.Entry, TID: rec.TID, Method: methods[rec.Method], Target: rec.Target,
		Seq: rec.Seq, HasSeq: rec.HasSeq,
		Started: time.Now().Add(-rec.Begun),
	}
	if rec.Want4 {
		st.Want |= krpc.WantN4
	}
	if rec.Want6 {
		st.Want |= krpc.WantN6
	}
	addPath(&st, &rec.Path)
	for i := range rec.Others {
		addPath(&st, &rec.Others[i])
		addUnanswered(&st, &rec.Others[i])
	}
	return st
}

// addPath adds what was found out on a path.
func addPath(st *router.RecursionState, p *bpf.Path) {
	answered, last := p.Asked, []bpf.Node(nil)
	if n := len(p.Asked); n > 0 && p.End != bpf.NobodyCloser {
		answered, last = p.Asked[:n-1], p.Asked[n-1:]
	}
	if n := len(answered); n > 0 {
		st.Asked = append(st.Asked, router.AskedNode{Contact: contact(answered[n-1]), Answered: true})
	}
	for _, c := range last {
		if p.End == bpf.Failed {
			st.Asked = append(st.Asked, router.AskedNode{Contact: contact(c)})
		} else {
			st.Candidates = append(st.Candidates, contact(c))
		}
	}
	for _, c := range p.Referral {
		st.Candidates = append(st.Candidates, contact(c))
	}
}

// addUnanswered adds the query that the last node asked on a path has not answered.
func addUnanswered(st *router.RecursionState, p *bpf.Path) {
	if n := len(p.Asked); n > 0 && p.End == bpf.GoesOn {
		st.Unanswered = append(st.Unanswered, router.KernelQuery{Addr: p.Asked[n-1].Addr, TID: p.Transaction, Sent: time.Now().Add(-p.Sent)})
	}
}

// run takes over what is late until ctx ends. Then the program begins no more; what is under way is left to the next
// process.
func (r *recursions) run(ctx context.Context) {
	begun := make(chan struct{}, 1)
	go r.listen(ctx, begun)
	r.h.c.Node.SetKernelRecursion(r)
	defer func() {
		r.try("recursion of the kernel half not stopped", r.program.AllowRecursion(0, r.h.c.Private))
		r.h.c.Node.SetKernelRecursion(nil)
	}()
	renew := time.NewTicker(recursionLease / renewals)
	defer renew.Stop()
	r.allow()
	for ctx.Err() == nil {
		if any, _ := r.look(ctx); any { // what a predecessor has left, or what began when the last watch had ended and the next was not yet told
			r.watch(ctx, renew.C)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			r.allow()
		case <-begun:
			r.watch(ctx, renew.C)
		}
	}
}

// listen pokes begun whenever recursions begin while nobody watches.
func (r *recursions) listen(ctx context.Context, begun chan<- struct{}) {
	for {
		err := r.program.Recursions(ctx, func() {
			select {
			case begun <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil || errors.Is(err, bpf.ErrClosed) {
			return
		}
		r.try("recursions of the kernel half are noticed late", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

func (r *recursions) allow() {
	r.try("recursion of the kernel half not allowed", errors.Join(
		r.program.SetPatience(r.h.c.Node.HopPatience()),
		r.program.AllowRecursion(recursionLease, r.h.c.Private),
	))
}

func (r *recursions) try(what string, err error) {
	if err != nil && !errors.Is(err, bpf.ErrClosed) {
		r.h.c.Log.Error(what, "err", err)
	}
}

// watch looks again and again until for a while there was nothing to see. Nobody is woken when a recursion begins meanwhile: one
// is overdue no sooner than a hop after it began, so a look every hop, and when the first of those that it finds is overdue, is enough.
func (r *recursions) watch(ctx context.Context, renew <-chan time.Time) {
	r.try("recursions of the kernel half are watched at some cost", r.program.Watch(true))
	// What begins after this is told again, and what began before is seen by the look that follows.
	defer func() { r.try("recursions of the kernel half are noticed late", r.program.Watch(false)) }()
	before := r.replied()
	next := time.NewTimer(r.h.c.Node.HopPatience())
	defer next.Stop()
	for quiet := 0; quiet < looksBeforeSleep; {
		select {
		case <-ctx.Done():
			return
		case <-renew:
			r.allow()
			continue
		case <-next.C:
		}
		quiet++
		any, under := r.look(ctx)
		if replied := r.replied(); any || replied != before {
			quiet, before = 0, replied
		}
		pause := r.h.c.Node.HopPatience()
		if under.Count > 0 {
			pause = max(min(pause, under.Next), minLook)
		}
		next.Reset(pause)
	}
}

// replied is how many recursions were taken over with a reply.
func (r *recursions) replied() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats.Replied
}

// look takes over what is late. It reports whether any recursion was under way, and returns which still are.
func (r *recursions) look(ctx context.Context) (any bool, under bpf.UnderWay) {
	late, under, err := r.program.TakeOverdue(r.h.c.Node.HopPatience(), router.KernelTime)
	r.try("recursions of the kernel half cannot be taken over", err)
	for i := range late {
		st := stateOf(&late[i])
		addUnanswered(&st, &late[i].Path)
		if late[i].Begun > recursionTooOldAt || ctx.Err() != nil {
			for _, q := range st.Unanswered {
				r.Dismiss(q.TID)
			}
			continue
		}
		r.count(&late[i], &r.stats.Late)
		if err := r.h.c.Node.Resume(st); err != nil {
			r.h.c.Log.Warn("a recursion of the kernel half cannot be taken over", "client", late[i].Client, "err", err)
		}
	}
	return len(late) > 0 || under.Count > 0, under
}

func contact(n bpf.Node) router.Contact { return router.Contact{ID: n.ID, Addr: n.Addr} }
