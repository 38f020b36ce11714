package main

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// item is what is put and looked for (BEP 44).
type item struct {
	target krpc.ID
	v      []byte // bencoded
	k, sig []byte // of a mutable item
	seq    int64
	by     *fleet.Node // that it was put by; it keeps immutable ones
	stored int64       // by how many nodes, of both families
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

// judge says what an answer to a get of the item is.
func (it *item) judge(m *krpc.Message) outcome {
	switch {
	case m.Type != krpc.TypeResponse:
		return refused
	case m.V == nil && !m.HasRecursive:
		return refused
	case m.V == nil && m.Recursive:
		return notThere
	case m.V == nil:
		return notSure
	case !bytes.Equal(m.V, it.v):
		return wrong
	case it.k != nil && (!bytes.Equal(m.K, it.k) || !bytes.Equal(m.Sig, it.sig) || m.Seq != it.seq):
		return wrong
	}
	return found
}
