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
	// Bounds of the pause between two looks at the recursions under way. Looking takes a lookShare-th of the time at most, however many
	// there are, unless a look takes so long that the pause after it would be longer than maxRest.
	minLook, maxLook  = time.Millisecond, 100 * time.Millisecond
	lookShare         = 10
	maxRest           = 500 * time.Millisecond
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
	r.h.c.Node.SetKernelRecursion(r)
	defer func() {
		r.try("recursion of the kernel half not stopped", r.program.AllowRecursion(0, r.h.c.Private))
		r.h.c.Node.SetKernelRecursion(nil)
	}()
	r.allow()
	var following sync.WaitGroup
	following.Go(func() { r.listen(ctx) })
	every(ctx, recursionLease/renewals, func() {
		r.allow()
		r.look(ctx) // what moved on while a look went by is in none, and nobody follows it
	})
	following.Wait()
}

// listen looks for what is late whenever recursions have begun. One is late no sooner than a hop after it began: most have been answered
// by then. Nobody is woken when others begin meanwhile; a look every hop sees all of them before they are late, and then when the first is.
// What a hop may take can become less meanwhile: so no pause is longer than maxLook, but after a look that took long.
func (r *recursions) listen(ctx context.Context) {
	for {
		r.follow(ctx) // what a predecessor has left, or what began while nobody was told
		err := r.program.Recursions(ctx, func() {
			rest(ctx, min(r.h.c.Node.HopPatience(), maxLook))
			r.follow(ctx)
		})
		if ctx.Err() != nil || errors.Is(err, bpf.ErrClosed) {
			return
		}
		r.try("recursions of the kernel half are noticed late", err)
		if rest(ctx, retry); ctx.Err() != nil {
			return
		}
	}
}

// follow takes over what is late until no recursion is under way.
func (r *recursions) follow(ctx context.Context) {
	for ctx.Err() == nil {
		begun := time.Now()
		under := r.look(ctx)
		if under.Count == 0 {
			return
		}
		rest(ctx, max(min(r.h.c.Node.HopPatience(), maxLook, under.Next), minLook, min(lookShare*time.Since(begun), maxRest)))
	}
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
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

// look takes over what is late, and returns which others are under way.
func (r *recursions) look(ctx context.Context) bpf.UnderWay {
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
	return under
}

func contact(n bpf.Node) router.Contact { return router.Contact{ID: n.ID, Addr: n.Addr} }
