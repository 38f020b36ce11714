package router

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"kdht/router/krpc"
)

const (
	maxInFlight = 1024 // queries that wait for their answer
	maxLate     = 256  // transactions remembered after their time, to know a late answer
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
}

// transaction is a query that waits for its answer.
type transaction struct {
	id     tid
	socket *socket
	addr   netip.AddrPort
	done   chan *reply // holds one
	sent   time.Time   // by the kernel half, before; zero: not yet
}

// transactions matches answers to queries by transaction ID, socket and source address. It is safe for concurrent
// use, and bounded.
type transactions struct {
	mu      sync.Mutex
	pending map[tid]*transaction
	late    map[tid]netip.AddrPort
	expired [maxLate]tid // ring of the keys of late
	next    int
}

func newTransactions() *transactions {
	return &transactions{pending: make(map[tid]*transaction), late: make(map[tid]netip.AddrPort)}
}

// begin makes a transaction; nil if there are too many.
func (t *transactions) begin(s *socket, addr netip.AddrPort) *transaction {
	x := &transaction{socket: s, addr: addr, done: make(chan *reply, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) >= maxInFlight {
		return nil
	}
	for {
		_, _ = rand.Read(x.id[:]) // never fails
		x.id[0] &^= kernelBit
		if t.pending[x.id] == nil {
			break
		}
	}
	t.pending[x.id] = x
	return x
}

// adopt makes a transaction of a query that the kernel half has sent; nil if there are too many.
func (t *transactions) adopt(s *socket, q *KernelQuery) *transaction {
	x := &transaction{id: q.TID, socket: s, addr: q.Addr, done: make(chan *reply, 1), sent: q.Sent}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) >= maxInFlight || t.pending[x.id] != nil {
		return nil
	}
	t.pending[x.id] = x
	return x
}

// end ends a transaction. It is remembered for a while, since an answer, or a second one, may still come.
func (t *transactions) end(x *transaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, x.id)
	t.expire(x.id, x.addr)
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
	t.mu.Unlock()
	switch {
	case x == nil && wasLate && late == from:
		return eventReplyLate
	case x == nil:
		return eventReplyUnknown
	case x.addr != from || x.socket != s:
		return eventReplyAddress
	}
	r := &reply{at: now}
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

func (t *transactions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending)
}
