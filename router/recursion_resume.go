package router

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"kdht/router/krpc"
)

// ErrNotResumable says that a recursion cannot be taken over; the error wraps why.
var ErrNotResumable = errors.New("router: recursion cannot be resumed")

// RecursionState is a recursion that the kernel half has begun, at the moment at which user space takes it over.
//
// The kernel begins none for a query that it does not understand as a whole: one with a salt (whose signatures could
// not be checked) or with any argument that has no field here, such as noseed and scrape, for which several nodes are to be
// asked anyway. Those it passes up as they came, like every query for a key that is held here, and every put and
// announce_peer. It goes on on several paths at a time, each in one family, which need not be the client's.
type RecursionState struct {
	// Client is where the query came from, and Local the address and port of this host that it was sent to, and that the
	// answer must come from. The port may be 0 for that of the node's first socket of the family.
	Client netip.AddrPort
	Local  netip.AddrPort
	// TID is the client's transaction ID, 0 to 256 bytes, echoed as it is.
	TID []byte
	// Method is get, get_peers or find_node, and Target the target or infohash.
	Method krpc.Method
	Target ID
	// Want is what "want" said; 0: nothing.
	Want krpc.Want
	// Seq is the "seq" of a get, if HasSeq.
	Seq    int64
	HasSeq bool
	// Started is when the query came, on Go's monotonic clock (time.Now().Add(-age)). The client has its answer 4.5 s
	// later, or, if less than half a second of that is left, in half a second.
	Started time.Time

	// Asked are the nodes that the kernel has asked, in that order on each path. They are not asked again. A node whose referrals the
	// kernel has not kept, and does not give as Candidates, should be left out, so that it is asked once more.
	Asked []AskedNode
	// Candidates are contacts from the replies so far that were not asked, in any order; at least those of the last
	// reply. They may be bogus: nothing about them need have been checked.
	Candidates []Contact

	// Unanswered are the queries that nodes among Candidates have not answered: an answer that still comes is as good as one
	// to the query that we send.
	Unanswered []KernelQuery

	// Reply is the datagram that ended the kernel's part: the reply of the last node asked, as it came; nil: the last
	// one has not answered in time. ReplyFrom is where it came from. The kernel has matched it by transaction ID and
	// source address; nothing else need have been checked. What it refers to need not be in Candidates.
	Reply     []byte
	ReplyFrom netip.AddrPort
	// RTT is how long the reply took, 0 if not known. It goes into the estimates that time-outs are made from.
	RTT time.Duration
}

// AskedNode is a node that the kernel has asked.
type AskedNode struct {
	Contact
	// Answered says that it answered, with a response. Others count as silent: they are not among the closest nodes found.
	Answered bool
}

// KernelQuery is a query that the kernel half has sent.
type KernelQuery struct {
	Addr netip.AddrPort
	TID  [4]byte
	Sent time.Time
}

// KernelRecursion is the kernel half of recursion, as far as the router needs it.
type KernelRecursion interface {
	// Take ends the recursion that the kernel has under way with this transaction ID of its own, asked of this node, and
	// returns its state; false if there is none. The router calls it for each datagram that is no answer to a query of
	// its own, with the ID as it was in the datagram: whoever forges one causes a call. The router fills in Reply and
	// ReplyFrom. Who calls Resume by itself must have ended the recursion likewise, so that it is taken over once.
	//
	// Before it ends what else is under way for the recursion, which takes a while, it calls answer with what it knows at once. That
	// reports whether the client has its answer. Then nothing is Unanswered in what is returned.
	Take(tid []byte, from netip.AddrPort, answer func(*RecursionState) bool) (RecursionState, bool)
	// Dismiss says that nobody waits any more for the answer to a query among the Unanswered of a recursion that was taken over, so
	// that it need not come up. The router calls it once for each, whether it has come or not.
	Dismiss(tid [4]byte)
}

// SetKernelRecursion sets the kernel half of recursion; nil: there is none.
func (n *Node) SetKernelRecursion(k KernelRecursion) {
	if k == nil {
		n.recursor.kernel.Store(nil)
		return
	}
	n.recursor.kernel.Store(&k)
}

// Resume takes a recursion over from the kernel half: the client gets its answer from here, once, in time. An item in
// Reply whose hash is right is the answer at once, and so is a mutable one that is newer than what was found lately; else that
// of a mutable item counts as the first version found. Otherwise the lookup goes on from the nodes asked and known, joining one for the same target that is under way here. Whether the client
// may ask for recursion is not checked; if there are too many recursions, it is answered as if it had not. It does not
// block. Only [Node.Run] answers. The slices of st are not changed, and not used after the return.
//
// The error is an [ErrNotResumable], and then nobody is answered, nor are answers waited for: st is about another method, or about a family or port
// that the node has no socket for.
func (n *Node) Resume(st RecursionState) error {
	j, err := n.resumed(&st)
	if err != nil {
		n.dismiss(&headStart{unanswered: st.Unanswered})
		return err
	}
	n.count(eventRecursionResumed)
	known := &headStart{asked: slices.Clone(st.Asked), candidates: slices.Clone(st.Candidates)}
	for _, q := range st.Unanswered {
		q.Addr = netip.AddrPortFrom(q.Addr.Addr().Unmap(), q.Addr.Port())
		known.unanswered = append(known.unanswered, q)
		n.transactions.outlive(&q) // unless the lookup, if there has to be one, wants its answer
	}
	now := time.Now()
	if st.Reply != nil {
		known.heard(n, &st, now)
	}
	rs := n.recursor
	if known.reply != nil && st.Method == krpc.MethodGet && known.reply.V != nil {
		r := known.reply
		r.item, r.checked = verified(st.Target, nil, &r.Message), true
		it, old := r.item, rs.cache.get(st.Target, now)
		if it != nil && (!it.Mutable || old != nil && old.Seq < it.Seq) {
			n.keepFetched(it, now)
		}
	}
	defer func() {
		if !known.inUse {
			n.dismiss(known)
		}
	}()
	if st.Method == krpc.MethodGet {
		if it := rs.cache.get(st.Target, now); it != nil {
			n.answerFound(j, it, &st, now)
			return nil
		}
	}
	if st.Method == krpc.MethodGetPeers {
		if peers := rs.peers.get(&j.m, now); peers != nil {
			n.count(eventRecursionCached)
			n.hot.askPeers(&j.m, now)
			var c composer
			c.respondPeers(n.view.Load(), &j.m, j.from, peers, make([]byte, 0, writeSize))
			j.reply(n, &c.m)
			return nil
		}
	}
	switch admitted, ask := rs.admit(j, st.Started, known); {
	case ask:
		j.challenge(n)
	case !admitted && (rs.hostOf(j.from.Addr()) != unprovenClients || !j.challenge(n)):
		j.answerPlainly(n)
	}
	return nil
}

// resumed returns the client's query of a recursion that the kernel half has begun.
func (n *Node) resumed(st *RecursionState) (*job, error) {
	j := &job{from: netip.AddrPortFrom(st.Client.Addr().Unmap(), st.Client.Port()), local: st.Local.Addr()}
	if j.s = n.socketAt(st.Local, FamilyOf(j.from.Addr())); j.s == nil {
		return nil, fmt.Errorf("%w: %w", ErrNotResumable, ErrNoSocket)
	}
	j.m = krpc.Message{
		Type: krpc.TypeQuery, Method: st.Method, TID: append([]byte{}, st.TID...), HasID: true, Recursive: true,
		Want: st.Want, Seq: st.Seq, HasSeq: st.HasSeq,
	}
	switch st.Method {
	case krpc.MethodGet, krpc.MethodFindNode:
		j.m.Target, j.m.HasTarget = st.Target, true
	case krpc.MethodGetPeers:
		j.m.InfoHash, j.m.HasInfoHash = st.Target, true
	default:
		return nil, fmt.Errorf("%w: method %v", ErrNotResumable, st.Method)
	}
	return j, nil
}

// answerFound answers the client of the kernel half's recursion with the item that was found.
func (n *Node) answerFound(j *job, it *Item, st *RecursionState, now time.Time) {
	var c composer
	c.respond(n.view.Load(), &j.m, &st.Target, j.from)
	c.addToken()
	c.addItem(&j.m, it)
	c.fit(make([]byte, 0, writeSize))
	j.reply(n, &c.m)
	n.count(eventRecursionFound)
	n.hot.ask(st.Target, false, now)
	n.recursor.took.add(now.Sub(st.Started), (&headStart{asked: st.Asked}).followed())
}

// answerPlainly answers a query as if it did not ask for recursion. One that stores something has no token, so it is refused.
func (j *job) answerPlainly(n *Node) {
	if j.m.Method == krpc.MethodPut || j.m.Method == krpc.MethodAnnouncePeer {
		j.refuse(n, errBusy)
		return
	}
	if b, ok := n.view.Load().Answer(make([]byte, 0, writeSize), &j.m, j.from); ok {
		n.answered[j.m.Method].Add(1)
		j.s.reply(b, j.from, j.local)
	}
}

// socketAt returns the socket that is bound to an address and port, or to all addresses and that port.
func (n *Node) socketAt(local netip.AddrPort, f Family) *socket {
	if local.Port() == 0 {
		return n.primary[f]
	}
	for _, s := range n.sockets {
		at := s.conn.LocalAddr()
		if s.family == f && at.Port() == local.Port() && (at.Addr().IsUnspecified() || at.Addr() == local.Addr().Unmap()) {
			return s
		}
	}
	return nil
}

// takeOver takes over the recursion that a datagram is the answer to, if it is one of the kernel.
func (n *Node) takeOver(m *krpc.Message, p *Packet) bool {
	k := n.recursor.kernel.Load()
	if k == nil {
		return false
	}
	now, answered := time.Now(), false
	st, ok := (*k).Take(m.TID, p.Addr, func(st *RecursionState) bool {
		answered = n.answerAtOnce(st, m, now)
		return answered
	})
	if !ok {
		return false
	}
	st.Reply, st.ReplyFrom = p.Data, p.Addr
	if answered {
		(&headStart{}).take(n, &reply{Message: *m, at: now, rtt: st.RTT}, &st) // it does not outlive this call
		return true
	}
	if err := n.Resume(st); err != nil {
		n.log.Warn("a recursion of the kernel half cannot be taken over", "client", st.Client, "error", err)
	}
	return true
}

// answerAtOnce answers the client if the reply to the kernel half has the item whose hash was asked for, which needs nothing else,
// and reports whether it did.
func (n *Node) answerAtOnce(st *RecursionState, m *krpc.Message, now time.Time) bool {
	if st.Method != krpc.MethodGet || m.Type != krpc.TypeResponse || m.V == nil {
		return false
	}
	if krpc.CheckValue(m.V) != nil || krpc.ImmutableTarget(m.V) != st.Target {
		return false // a signature takes long, and of a mutable item others may have a newer version
	}
	it := &Item{Target: st.Target, V: m.V}
	j, err := n.resumed(st)
	if err != nil {
		return false
	}
	n.answerFound(j, it, st, now)
	n.count(eventRecursionResumed)
	it.V = slices.Clone(it.V)
	n.recursor.cache.add(it, n.localItem, now)
	return true
}

// headStart is what a lookup begins with, if somebody else has begun it.
type headStart struct {
	asked      []AskedNode
	candidates []Contact
	unanswered []KernelQuery // that the lookup has not taken over yet
	reply      *reply        // the last, if it is a response
	from       netip.AddrPort
	inUse      bool // by a recursion of ours
}

// dismiss tells the kernel half that nobody waits for the answers to those of its queries that no lookup has taken over.
func (n *Node) dismiss(k *headStart) {
	if k == nil {
		return
	}
	for _, q := range k.unanswered {
		n.dismissQuery(&q)
	}
	k.unanswered = nil
}

func (n *Node) dismissQuery(q *KernelQuery) {
	if k := n.recursor.kernel.Load(); k != nil {
		(*k).Dismiss(q.TID)
	}
}

// sent returns the kernel half's query to a node, once, if there is one without answer.
func (k *headStart) sent(to netip.AddrPort) *KernelQuery {
	if k == nil {
		return nil
	}
	i := slices.IndexFunc(k.unanswered, func(q KernelQuery) bool { return q.Addr == to })
	if i < 0 {
		return nil
	}
	q := k.unanswered[i]
	k.unanswered = slices.Delete(k.unanswered, i, i+1)
	return &q
}

// heard takes the last reply in.
func (k *headStart) heard(n *Node, st *RecursionState, now time.Time) {
	r := &reply{at: now, rtt: st.RTT}
	if krpc.Decode(slices.Clone(st.Reply), &r.Message) != nil || r.Type == krpc.TypeQuery {
		return
	}
	k.take(n, r, st)
}

// take takes the last reply in that was decoded already.
func (k *headStart) take(n *Node, r *reply, st *RecursionState) {
	from := netip.AddrPortFrom(st.ReplyFrom.Addr().Unmap(), st.ReplyFrom.Port())
	f := FamilyOf(from.Addr())
	if n.primary[f] == nil {
		return
	}
	rtt := st.RTT
	if rtt > 0 {
		n.rtt[f].add(min(rtt, maxSlow))
	} else {
		rtt = max(n.rtt[f].value(), time.Microsecond)
	}
	n.mu.Lock()
	c := Contact{ID: r.ID, Addr: from}
	exists := r.Type == krpc.TypeResponse
	if exists {
		k.reply, k.from = r, from
	} else {
		k.refused(from)
		c, exists = n.tables[f].At(from) // to refuse one must be alive
	}
	changed := exists && n.tables[f].Responded(c, rtt, r.at)
	n.mu.Unlock()
	if changed {
		n.changed()
	}
}

// refused notes that a node has answered with an error: it is not asked again.
func (k *headStart) refused(from netip.AddrPort) {
	is := func(c Contact) bool { return c.Addr.Port() == from.Port() && c.Addr.Addr().Unmap() == from.Addr() }
	if i := slices.IndexFunc(k.candidates, is); i >= 0 {
		k.asked = append(k.asked, AskedNode{Contact: k.candidates[i]})
		k.candidates = slices.DeleteFunc(k.candidates, is)
	}
}

// give gives a lookup what is known, and reports whether it has what it wants.
func (k *headStart) give(l *lookup) (enough bool) {
	var last *candidate
	place := func(c Contact) (*shortlist, *candidate) {
		list := l.lists[FamilyOf(c.Addr.Addr())]
		if list == nil {
			return nil, nil
		}
		list.add(c, nil)
		if p := list.byAddr[list.table.key(c.Addr.Addr())]; p != nil && p.Addr == c.Addr {
			return list, p
		}
		return nil, nil
	}
	var replied Contact
	for _, a := range k.asked {
		a.Addr = netip.AddrPortFrom(a.Addr.Addr().Unmap(), a.Addr.Port())
		_, c := place(a.Contact)
		switch {
		case c == nil:
			continue
		case !a.Answered:
			c.state = stateFailed
		default:
			c.state, c.useful, last = stateAnswered, true, c
		}
		l.progress.Queried++
		if a.Answered {
			l.progress.Answered++
		}
		if a.Addr == k.from {
			replied = a.Contact
		}
	}
	if k.reply != nil {
		if replied.Addr != k.from {
			replied = Contact{ID: k.reply.ID, Addr: k.from}
			l.progress.Queried++
		}
		if list, c := place(replied); c != nil {
			last = c
			if l.take(list, c, k.reply) {
				return true
			}
		}
	}
	for _, c := range k.candidates {
		c.Addr = netip.AddrPortFrom(c.Addr.Addr().Unmap(), c.Addr.Port())
		l.add(c, last)
	}
	return false
}
