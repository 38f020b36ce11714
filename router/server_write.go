package router

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"kdht/router/krpc"
	"kdht/store"
)

// job is a query that is answered by a goroutine of its own.
type job struct {
	m     krpc.Message
	data  []byte // what m aliases
	s     *socket
	from  netip.AddrPort
	local netip.Addr
	host  netip.Addr // of a client of recursion, as which it counts
	asked bool       // for a proof, while it waits for a recursion; guarded by the mutex of the recursor until that is over
}

// later has a query answered by a goroutine of its own; false if too many are, in all or of this host.
func (n *Node) later(s *socket, p *Packet, host netip.Addr, answer func(*Node, *job)) bool {
	if !n.jobs.take(host) {
		n.count(eventWriteBusy)
		return false
	}
	j, ok := n.jobPool.Get().(*job)
	if !ok {
		j = &job{data: make([]byte, 0, readSize)}
	}
	j.data = append(j.data[:0], p.Data...)
	j.s, j.from, j.local = s, p.Addr, p.Local
	n.spawn(func() {
		if krpc.Decode(j.data, &j.m) == nil {
			answer(n, j)
		}
		n.jobPool.Put(j)
		n.jobs.giveBack(host)
	})
	return true
}

// reply sends a response, and returns it.
func (j *job) reply(n *Node, m *krpc.Message) []byte {
	b, err := m.Append(make([]byte, 0, writeSize))
	if err != nil {
		n.log.Error("a reply could not be encoded", "method", j.m.Method, "error", err)
		return nil
	}
	n.answered[j.m.Method].Add(1)
	j.s.reply(b, j.from, j.local)
	return b
}

// refuse sends an error message, and returns it.
func (j *job) refuse(n *Node, e *krpc.Error) []byte {
	n.countError(e.Code)
	b, err := errorReply(&j.m, e, j.from).Append(make([]byte, 0, 256))
	if err != nil {
		return nil
	}
	j.s.reply(b, j.from, j.local)
	return b
}

var (
	errNoStore = &krpc.Error{Code: krpc.ErrCodeServer, Text: "this node stores nothing"}
	errBusy    = &krpc.Error{Code: krpc.ErrCodeServer, Text: "busy, try again later"}
)

// store takes a put or an announce_peer. What is cheap to refuse is refused at once.
func (r *responder) store(p *Packet) {
	m := &r.m
	switch {
	case r.n.store == nil:
		r.refuse(p, errNoStore)
		return
	case m.Token == nil: // Decode lets it pass with rd
		r.refuse(p, krpc.ErrArgToken)
		return
	case !r.n.tokens.Valid(m.Token, p.Addr.Addr()):
		r.n.count(eventTokenInvalid)
		r.refuse(p, krpc.ErrToken)
		return
	}
	r.n.proved(p.Addr.Addr(), r.now)
	do := (*Node).put
	if m.Method == krpc.MethodAnnouncePeer {
		if _, ok := peerOf(m, p.Addr); !ok {
			r.refuse(p, krpc.ErrArgPort)
			return
		}
		do = (*Node).announcePeer
	}
	if !r.n.later(r.s, p, hostOf(p.Addr.Addr()), do) {
		r.refuse(p, errBusy)
	}
}

// put stores an item for another node (BEP 44).
func (n *Node) put(j *job) {
	m := &j.m
	target, err := krpc.CheckPut(m)
	if err == nil {
		it := &store.Item{Target: target, V: m.V}
		var cas *int64
		if m.K != nil {
			it.Mutable, it.K, it.Salt, it.Seq, it.Sig = true, [32]byte(m.K), m.Salt, m.Seq, [64]byte(m.Sig)
			if m.HasCAS {
				cas = &m.CAS
			}
		}
		err = n.keepItem(it, cas, j.from.Addr())
	}
	n.acknowledge(j, err)
}

// announcePeer stores a peer for another node (BEP 5).
func (n *Node) announcePeer(j *job) {
	peer, _ := peerOf(&j.m, j.from)
	n.acknowledge(j, n.keepPeer(j.m.InfoHash, peer, j.m.Seed, j.from.Addr()))
}

func (n *Node) acknowledge(j *job, err error) {
	if err != nil {
		e := krpcError(err)
		if e.Code == krpc.ErrCodeServer && !errors.Is(err, store.ErrQuota) {
			n.log.Debug("storing failed", "method", j.m.Method, "error", err) // the store has told its owner, once
		}
		j.refuse(n, e)
		return
	}
	n.count(eventStored)
	var c composer
	j.reply(n, c.respond(n.view.Load(), &j.m, nil, j.from))
}

// keepItem stores an item, and has the kernel pass queries for it up before anybody is told.
func (n *Node) keepItem(it *store.Item, cas *int64, from netip.Addr) error {
	if err := n.store.PutItem(it, cas, from); err != nil {
		return err
	}
	n.hold(it.Target)
	n.recursor.cache.supersede(it, time.Now())
	n.recursor.outdate(it.Target)
	return nil
}

// keepPeer stores a peer likewise.
func (n *Node) keepPeer(infohash ID, peer netip.AddrPort, seed bool, from netip.Addr) error {
	if err := n.store.Announce(infohash, peer, seed, from); err != nil {
		return err
	}
	n.recursor.outdatePeers(infohash)
	if !n.hot.changedPeers(infohash) {
		n.hold(infohash)
	}
	return nil
}

// krpcError returns the error message for an error of the store.
func krpcError(err error) *krpc.Error {
	var e *krpc.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, store.ErrCASMismatch):
		return krpc.ErrCAS
	case errors.Is(err, store.ErrSeqOld), errors.Is(err, store.ErrSeqSameOtherValue):
		return krpc.ErrSeq
	case errors.Is(err, store.ErrQuota):
		return &krpc.Error{Code: krpc.ErrCodeServer, Text: strings.TrimPrefix(err.Error(), "store: ")}
	case errors.Is(err, store.ErrInvalid):
		return &krpc.Error{Code: krpc.ErrCodeProtocol, Text: strings.TrimPrefix(err.Error(), "store: ")}
	}
	return krpc.ErrServer
}
