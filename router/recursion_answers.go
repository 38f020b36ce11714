package router

import (
	"maps"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

const (
	// maxAnswers is how many answers to recursive queries are kept for those who did not get theirs and ask again.
	maxAnswers = 256
	// answerLife is for how long: a client that lost its answer notices after 5 s.
	answerLife = 15 * time.Second
)

// answerKey tells queries apart.
type answerKey struct {
	from netip.AddrPort
	tid  string
	key  recursionKey
	want krpc.Want
	seq  int64
}

// answers are the answers that were given lately. A query that comes again because its answer was lost is the same
// query, not another: a put with cas must not fail on itself.
type answers struct {
	of   map[answerKey]answer
	ring [maxAnswers]answerKey // keys of the map, in order of their time
	next int
}

type answer struct {
	datagram []byte
	at       time.Time
	target   ID // that was asked for, or the infohash of a get_peers
}

func newAnswers() answers { return answers{of: make(map[answerKey]answer)} }

func answerKeyOf(j *job, key recursionKey) answerKey {
	return answerKey{j.from, string(j.m.TID), key, j.m.Want, j.m.Seq}
}

// find returns the answer to a query; nil if it is a new one.
func (a *answers) find(j *job, key recursionKey, now time.Time) []byte {
	b, ok := a.of[answerKeyOf(j, key)]
	if !ok || now.Sub(b.at) > answerLife {
		return nil
	}
	return b.datagram
}

// add keeps the answer to a query.
func (a *answers) add(j *job, key recursionKey, b []byte, now time.Time) {
	k, kept := answerKeyOf(j, key), answer{b, now, j.m.Target}
	if j.m.Method == krpc.MethodGetPeers {
		kept.target = j.m.InfoHash
	}
	if _, known := a.of[k]; known {
		a.of[k] = kept // its place in the ring is that of before
		return
	}
	delete(a.of, a.ring[a.next])
	a.ring[a.next] = k
	a.of[k] = kept
	a.next = (a.next + 1) % maxAnswers
}

// outdatePeers drops the peers of an infohash that were found, and the answers with them, because there is another one.
func (rs *recursor) outdatePeers(infohash ID) {
	rs.peers.forget(infohash, time.Now())
	rs.outdate(infohash)
}

// outdate drops the answers to gets of an item, because there is a newer version, or to get_peers of an infohash, because there is another peer: whoever asks
// again under the same transaction ID may have heard of it.
func (rs *recursor) outdate(target ID) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	maps.DeleteFunc(rs.given.of, func(_ answerKey, a answer) bool { return a.target == target })
}
