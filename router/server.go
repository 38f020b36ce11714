package router

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

const (
	// readSize is the room for a datagram that comes in. The largest put of BEP 44 is about 1,300 bytes.
	readSize = 2048
	// writeSize is the room for a reply: the largest, with a value of BEP 44, takes less.
	writeSize = 2048
	// Bounds of the pause after an error that reading gave, so that an error that stays costs little.
	readRetry    = 10 * time.Millisecond
	readRetryMax = time.Second
)

// responder answers what arrives at one socket. Its goroutine shares nothing with others but the view, which is
// immutable, and counters; only what cannot be answered from the view goes elsewhere.
type responder struct {
	n     *Node
	s     *socket
	seen  *recentSenders
	in    []Packet
	out   []Packet // replies to one batch
	rooms [][]byte // memory of the replies
	m     krpc.Message
	reply composer
	view  *View
	now   time.Time
	// doubtful says that the sender of the present query got less than he asked for, because he may have forged his
	// address.
	doubtful bool
	// probe says that the present query is the program's own.
	probe bool
}

func newResponder(n *Node, s *socket) *responder {
	r := &responder{n: n, s: s, seen: newRecentSenders()}
	for range batchSize {
		r.in = append(r.in, Packet{Data: make([]byte, readSize)})
		r.rooms = append(r.rooms, make([]byte, 0, writeSize))
	}
	r.out = make([]Packet, 0, batchSize)
	return r
}

// run reads and answers until the socket is closed.
func (r *responder) run() {
	for pause := readRetry; ; {
		k, err := r.s.conn.ReadBatch(r.in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			r.n.log.Warn("reading from a socket failed", "local", r.s.conn.LocalAddr(), "error", err)
			time.Sleep(pause)
			pause = min(2*pause, readRetryMax)
			continue
		}
		pause = readRetry
		r.now, r.view, r.out = time.Now(), r.n.view.Load(), r.out[:0]
		for i := range r.in[:k] {
			r.handle(&r.in[i])
		}
		if len(r.out) > 0 {
			if sent, err := r.s.conn.WriteBatch(r.out); err != nil {
				r.n.events[eventDropWrite].Add(uint64(len(r.out) - sent))
			}
		}
	}
}

// handle sees to one datagram.
func (r *responder) handle(p *Packet) {
	m := &r.m
	switch {
	case p.Group:
		// One forged datagram must not make all nodes of a network send an answer.
		r.n.count(eventDropGroup)
		return
	case !answerable(p.Addr):
		r.n.count(eventDropSource)
		return
	case !r.n.guard.admit(p.Addr.Addr(), r.now):
		r.n.count(eventDropLimited)
		return
	}
	switch err := krpc.Decode(p.Data, m); e := err.(type) { //nolint:errorlint // Decode returns these very types
	case nil:
	case *krpc.Error:
		if r.n.config.ReadOnly {
			r.n.count(eventDropReadOnly)
			return
		}
		r.n.received[m.Method].Add(1)
		if m.Method == krpc.MethodPut && krpc.CheckToken(m) != nil && !r.n.recursor.allows(p, r.s) {
			e = krpc.ErrArgToken // as without rd
		}
		r.refuse(p, e)
		return
	default:
		r.n.count(eventDropSyntax)
		return
	}
	if m.Type != krpc.TypeQuery {
		r.response(p)
		return
	}
	if r.n.config.ReadOnly {
		if m.Method != krpc.MethodPing || !r.pong(p) {
			r.n.count(eventDropReadOnly)
		}
		return
	}
	if r.probe = r.probes(p); r.probe {
		r.n.count(eventProbe)
	} else {
		r.n.received[m.Method].Add(1)
	}
	r.doubtful = false
	r.answer(p)
	if m.ReadOnly || r.doubtful {
		return
	}
	if proven, now := r.seen.add(p.Addr, &m.ID, r.now, r.n.guard.vouches); now {
		r.n.Sighting(Contact{ID: m.ID, Addr: p.Addr}, proven)
	}
}

// response sees to a response or an error message. One to a query of ours proves where its sender is.
func (r *responder) response(p *Packet) {
	m := &r.m
	outcome := r.n.transactions.deliver(m, p.Data, r.s, p.Addr, r.now)
	switch {
	case outcome == eventReplyMatched:
	case outcome == eventReplyUnknown && r.n.takeOver(m, p):
		r.n.proved(p.Addr.Addr(), r.now)
		return
	case outcome == eventReplyUnknown && r.n.isProof(m, p.Addr, r.now):
		outcome = eventReplyChallenge
	default:
		r.n.count(outcome)
		return
	}
	r.n.proved(p.Addr.Addr(), r.now)
	r.n.count(outcome)
}

// answer answers a well-formed query.
func (r *responder) answer(p *Packet) {
	m, method := &r.m, r.m.Method
	if m.Recursive && r.recurse(p) {
		return
	}
	switch method {
	case krpc.MethodPing, krpc.MethodFindNode:
	case krpc.MethodGet:
		if r.n.holds(m.Target) && r.answerItem(p) {
			return
		}
	case krpc.MethodGetPeers:
		if r.n.holds(m.InfoHash) {
			if m.Scrape {
				if !r.n.guard.mayGrow(p.Addr.Addr(), krpc.MaxPayload-len(p.Data), r.now) {
					r.doubtful = true
					r.add(p, r.challenge(p, r.room()))
					return
				}
				r.n.later(r.s, p, netip.Addr{}, (*Node).answerScrape) // takes long
				return
			}
			if r.answerPeers(p) {
				return
			}
		}
	case krpc.MethodAnnouncePeer, krpc.MethodPut:
		r.store(p)
		return
	case krpc.MethodSampleInfohashes:
		r.answerSample(p)
		return
	default:
		// Decode lets an unknown method pass only if it has a target.
		m.Method = krpc.MethodFindNode
	}
	if b, ok := r.view.Answer(r.room(), m, p.Addr); ok {
		r.push(p, b, method)
	}
}

// room returns memory for the next reply.
func (r *responder) room() []byte { return r.rooms[len(r.out)] }

// push adds a reply to the batch.
func (r *responder) push(p *Packet, b []byte, method krpc.Method) {
	if b = r.fair(p, b, method == krpc.MethodPing); !r.probe && (!r.doubtful || method == krpc.MethodPing && len(b) > 0) {
		r.n.answered[method].Add(1)
	}
	r.add(p, b)
}

// add adds a datagram to the batch, unless it is empty.
func (r *responder) add(p *Packet, b []byte) {
	if len(b) > 0 {
		r.out = append(r.out, Packet{Data: b, Addr: p.Addr, Local: p.Local})
	}
}

// send adds the composed reply to the batch.
func (r *responder) send(p *Packet) bool {
	b, err := r.reply.m.Append(r.room())
	if err != nil {
		return false
	}
	r.push(p, b, r.m.Method)
	return true
}

// refuse adds an error message to the batch.
func (r *responder) refuse(p *Packet, e *krpc.Error) {
	r.n.countError(e.Code)
	if b, err := errorReply(&r.m, e, p.Addr).Append(r.room()); err == nil {
		r.add(p, r.fair(p, b, false))
	}
}
