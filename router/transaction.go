package router

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"kdht/router/krpc"
)

const (
	maxInFlight = 1024 // queries that wait for their answer
	maxLate     = 256  // IDs remembered after their time, to know a late answer
)

// tid is a transaction ID of ours. It is random, so that who cannot see our queries cannot forge an answer: it would
// take a guess among 2^31, and the address of a node that is being asked just then. 4 bytes is what every
// implementation echoes.
type tid [4]byte

// reply is the answer to a query: a response or an error.
type reply struct {
	krpc.Message // aliases memory of its own
	at           time.Time
	rtt          time.Duration
	checked      bool  // whether it has the item that was asked for, without salt, is known already:
	item         *Item // as verified returned it
}

// verified is as the function of that name, which takes long where an item is signed, and is called once.
func (r *reply) verified(target ID, salt []byte) *Item {
	if !r.checked || len(salt) > 0 {
		return verified(target, salt, &r.Message)
	}
	return r.item
}

// transaction is a query that waits for its answer. Each time that it is sent it has an ID of its own, so that it is known which
// of them was answered: of one that is not, no round-trip time could be told (Karn and Partridge 1987; RFC 6298, section 3).
type transaction struct {
	socket *socket
	addr   netip.AddrPort
	done   chan *reply   // holds one
	ping   chan struct{} // holds one: the node has asked who is there, and had an answer
	sent   []sending     // guarded by transactions.mu
}

// sending is one time that a query was sent.
type sending struct {
	id tid
	at time.Time
}

// transactions matches answers to queries by transaction ID, socket and source address. It is safe for concurrent
// use, and bounded.
type transactions struct {
	mu      sync.Mutex
	open    int // transactions
	pending map[tid]*transaction
	late    map[tid]netip.AddrPort
	expired [maxLate]tid // ring of the keys of late
	next    int
}

func newTransactions() *transactions {
	return &transactions{pending: make(map[tid]*transaction), late: make(map[tid]netip.AddrPort)}
}

// begin makes a transaction, which the kernel half may have sent before; nil if there are too many.
func (t *transactions) begin(s *socket, addr netip.AddrPort, before *KernelQuery) *transaction {
	x := &transaction{socket: s, addr: addr, done: make(chan *reply, 1), ping: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open >= maxInFlight || before != nil && t.pending[before.TID] != nil {
		return nil
	}
	t.open++
	if before != nil {
		t.pending[before.TID] = x
		x.sent = append(x.sent, sending{before.TID, before.Sent})
	}
	return x
}

// send gives a transaction that is about to be sent an ID.
func (t *transactions) send(x *transaction, now time.Time) (id tid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		_, _ = rand.Read(id[:]) // never fails
		id[0] &^= kernelBit
		if t.pending[id] == nil {
			break
		}
	}
	t.pending[id] = x
	x.sent = append(x.sent, sending{id, now})
	return id
}

// end ends a transaction. It is remembered for a while, since an answer, or a second one, may still come.
func (t *transactions) end(x *transaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	for _, s := range x.sent {
		delete(t.pending, s.id)
		t.expire(s.id, x.addr)
	}
}

// outlive remembers a query of the kernel half whose answer is not waited for any more.
func (t *transactions) outlive(q *KernelQuery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(q.TID, q.Addr)
}

// expire is called with t.mu held.
func (t *transactions) expire(id tid, addr netip.AddrPort) {
	delete(t.late, t.expired[t.next])
	t.expired[t.next] = id
	t.late[id] = addr
	t.next = (t.next + 1) % maxLate
}

// deliver hands an answer, decoded from the datagram b, to the query it is for, and returns what became of it.
func (t *transactions) deliver(m *krpc.Message, b []byte, s *socket, from netip.AddrPort, now time.Time) event {
	if len(m.TID) != len(tid{}) {
		return eventReplyUnknown
	}
	id := tid(m.TID)
	t.mu.Lock()
	x := t.pending[id]
	late, wasLate := t.late[id]
	var sent time.Time
	if x != nil {
		sent = x.sent[slices.IndexFunc(x.sent, func(s sending) bool { return s.id == id })].at
	}
	t.mu.Unlock()
	switch {
	case x == nil && wasLate && late == from:
		return eventReplyLate
	case x == nil:
		return eventReplyUnknown
	case x.addr != from || x.socket != s:
		return eventReplyAddress
	}
	r := &reply{at: now, rtt: max(now.Sub(sent), time.Microsecond)}
	if krpc.Decode(append([]byte(nil), b...), &r.Message) != nil {
		return eventDropSyntax // cannot happen: m was decoded from the same bytes
	}
	select {
	case x.done <- r:
		return eventReplyMatched
	default:
		return eventReplyLate // answered twice
	}
}

// awaited returns the transactions that wait for an answer from an address.
func (t *transactions) awaited(s *socket, from netip.AddrPort) (all []*transaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.pending {
		if x.addr == from && x.socket == s && len(x.done) == 0 && !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}

// pinged has the query sent again.
func (x *transaction) pinged() {
	select {
	case x.ping <- struct{}{}:
	default:
	}
}

func (t *transactions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}
