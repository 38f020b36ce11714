package main

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// item is what is put and looked for (BEP 44), or an infohash whose peer is announced and looked for (BEP 5).
type item struct {
	target krpc.ID
	v      []byte // bencoded
	k, sig []byte // of a mutable item
	seq    int64
	by     *fleet.Node // that it was put by; it keeps immutable ones
	stored int64       // by how many nodes, of both families
	peer   bool        // it is an infohash: of value, key and signature there are none, and by is the peer that was announced; nil: none
}

// peerPort is the port that peers are announced with.
const peerPort = 51413

// newInfohash makes the i-th infohash of a set.
func newInfohash(set string, i int) *item {
	return &item{target: krpc.ImmutableTarget(fmt.Appendf(nil, "infohash %d of %s", i, set)), peer: true}
}

// query is what a client asks for the item.
func (it *item) query() krpc.Message {
	if it.peer {
		return krpc.Message{Method: krpc.MethodGetPeers, InfoHash: it.target, HasInfoHash: true}
	}
	return krpc.Message{Method: krpc.MethodGet, Target: it.target, HasTarget: true}
}

// newItem makes the i-th item of a set. Every tenth one is mutable. Values are 20 to 300 bytes long.
func newItem(set string, i int) *item {
	text := fmt.Appendf(nil, "item %d of %s ", i, set)
	for n := 20 + i*37%280; len(text) < n; {
		text = append(text, byte('a'+len(text)%26))
	}
	it := &item{v: append(fmt.Appendf(nil, "%d:", len(text)), text...)}
	if i%10 != 9 {
		it.target = krpc.ImmutableTarget(it.v)
		return it
	}
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, fmt.Sprint(i, set))
	key := ed25519.NewKeyFromSeed(seed)
	it.k, it.seq = key.Public().(ed25519.PublicKey), int64(i)
	it.sig = krpc.Sign(key, nil, it.seq, it.v)
	it.target = krpc.MutableTarget(it.k, nil)
	return it
}

// judge says what an answer to the item's query is. Peers cannot be verified: there the true one must be among them.
func (it *item) judge(m *krpc.Message) outcome {
	nothing := m.V == nil
	if it.peer {
		nothing = m.Values == nil
	}
	switch {
	case m.Type != krpc.TypeResponse:
		return refused
	case nothing && !m.HasRecursive:
		return refused
	case nothing && m.Recursive:
		return notThere
	case nothing:
		return notSure
	case it.peer:
		for p := range krpc.Peers(m.Values) {
			if it.by != nil && p.Port() == peerPort && (p.Addr() == it.by.Host.IPv4 || p.Addr() == it.by.Host.IPv6) {
				return found
			}
		}
		return wrong
	case !bytes.Equal(m.V, it.v):
		return wrong
	case it.k != nil && (!bytes.Equal(m.K, it.k) || !bytes.Equal(m.Sig, it.sig) || m.Seq != it.seq):
		return wrong
	}
	return found
}
