package boot

import (
	"crypto/sha1"
	"time"

	"kdht/image/vm"
	"kdht/router/krpc"
)

// patience is for an answer of an emulated machine that has other things to do.
const patience = time.Minute

// tryPut asks the box to store an item, and returns its answer.
func (b *box) tryPut(value []byte) *krpc.Message {
	b.t.Helper()
	return b.query(krpc.Message{Method: krpc.MethodPut, V: bencode(value), Token: b.get(targetOf(value)).Token})
}

// get asks the box for an item.
func (b *box) get(target krpc.ID) *krpc.Message {
	b.t.Helper()
	return b.query(krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true})
}

// query asks the box from the LAN.
func (b *box) query(q krpc.Message) *krpc.Message {
	b.t.Helper()
	m, err := ask(b.lan, vm.LANHost, b.port(), q, patience)
	must(b.t, err)
	return m
}

// targetOf is the target of an immutable item.
func targetOf(value []byte) krpc.ID { return sha1.Sum(bencode(value)) }
