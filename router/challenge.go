package router

import (
	"net/netip"
	"strconv"
	"time"

	"kdht/router/krpc"
)

// challengeLen is the length of a challenge.
const challengeLen = len("d1:ad2:id20:") + krpc.IDLen + len("e1:q4:ping1:t8:") + 8 + len("1:y1:qe")

// Challenge appends a ping from us whose transaction ID is a cookie, 62 bytes. The kernel half sends the same.
func (v *View) Challenge(dst []byte, f Family, cookie [8]byte) []byte {
	dst = append(dst, "d1:ad2:id20:"...)
	dst = append(dst, v.self(f)...)
	dst = append(dst, "e1:q4:ping1:t8:"...)
	dst = append(dst, cookie[:]...)
	return append(dst, "1:y1:qe"...)
}

// Lean appends the reply to a ping without the asker's address, which is as long as the shortest ping with that
// transaction ID. The kernel half sends the same.
func (v *View) Lean(dst []byte, f Family, tid []byte) []byte {
	dst = append(dst, "d1:rd2:id20:"...)
	dst = append(dst, v.self(f)...)
	dst = append(dst, "e1:t"...)
	dst = strconv.AppendInt(dst, int64(len(tid)), 10)
	dst = append(dst, ':')
	dst = append(dst, tid...)
	return append(dst, "1:v4:"+krpc.Version+"1:y1:re"...)
}

// self is our ID in a family.
func (v *View) self(f Family) []byte {
	if f == IPv6 {
		return v.snapshot.ID6[:]
	}
	return v.snapshot.ID4[:]
}

// fair returns what may be sent in place of a reply of so many bytes to the present query: the reply itself, something that
// is not longer than the query, or nothing. isPing says that it is the response to a ping.
func (r *responder) fair(p *Packet, b []byte, isPing bool) []byte {
	if r.n.guard.mayGrow(p.Addr.Addr(), len(b)-len(p.Data), r.now) {
		return b
	}
	r.doubtful = true
	if isPing {
		if b = r.view.Lean(b[:0], FamilyOf(p.Addr.Addr()), r.m.TID); len(b) <= len(p.Data) {
			r.n.count(eventLean)
			return b
		}
	}
	return r.challenge(p, b)
}

// challenge returns a challenge to the sender of a datagram, if that is not longer. b is memory for it.
func (r *responder) challenge(p *Packet, b []byte) []byte {
	if challengeLen > len(p.Data) {
		r.n.count(eventDropUnproven)
		return nil
	}
	r.n.count(eventChallenged)
	return r.view.Challenge(b[:0], FamilyOf(p.Addr.Addr()), r.n.guard.config.Cookie(p.Addr, r.n.guard.time(r.now)))
}

// canBeAsked reports whether a challenge is not longer than the query, as far as is known.
func (j *job) canBeAsked() bool { return len(j.data) == 0 || len(j.data) >= challengeLen }

// challenge asks who waits for a recursion for a proof; false if his query is too short for that, as none is that the kernel half has begun,
// of which there is no datagram here.
func (j *job) challenge(n *Node) bool {
	if !j.canBeAsked() {
		return false
	}
	n.count(eventChallenged)
	cookie := n.guard.config.Cookie(j.from, n.guard.time(time.Now()))
	j.s.reply(n.view.Load().Challenge(make([]byte, 0, writeSize), FamilyOf(j.from.Addr()), cookie), j.from, j.local)
	return true
}

// pong answers a ping of a node that owes us an answer, and has our queries to it sent again: it may want to know first whether we are
// where we say, as a node in a flood does. It returns false if the sender owes us none.
func (r *responder) pong(p *Packet) bool {
	waiting := r.n.transactions.awaited(r.s, p.Addr)
	if len(waiting) == 0 {
		return false
	}
	m := krpc.Message{Type: krpc.TypeResponse, TID: r.m.TID, ID: *(*ID)(r.view.self(r.s.family)), HasID: true, ReadOnly: true}
	b, err := m.Append(r.room())
	if err != nil {
		return false
	}
	r.n.received[krpc.MethodPing].Add(1)
	r.n.answered[krpc.MethodPing].Add(1)
	r.s.reply(b, p.Addr, p.Local) // before the queries
	for _, x := range waiting {
		x.pinged()
	}
	return true
}

// isProof reports whether a message answers a challenge.
func (n *Node) isProof(m *krpc.Message, from netip.AddrPort, now time.Time) bool {
	return n.guard.params.GrowthCost+n.guard.params.UnprovenCost > 0 && n.guard.config.IsCookie(m.TID, from, n.guard.time(now))
}
