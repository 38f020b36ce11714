package bpf

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Sighting is a node that queried us and that the kernel half answered. Each address is reported at most once in five
// minutes, or three seconds if its ID is another by then; read-only nodes (BEP 43) never, nor who got less than an answer because his
// address may be forged. Of those who never proved where they are, some 60 a second on each CPU are reported, again after three seconds.
type Sighting struct {
	ID   [20]byte
	Addr netip.AddrPort
	// Proven says that the node is at that address. It is true of all where nobody is asked to prove it, see [limit.Config].
	Proven bool
}

// Sightings calls f for every sighting until ctx ends, and then returns nil, or until the program is closed, which is
// an [ErrClosed]. Only one call at a time gets them.
func (p *Program) Sightings(ctx context.Context, f func(Sighting)) error {
	return p.records(ctx, p.objs.Sightings, "read sightings", func(r *ringbuf.Record) {
		if s, ok := decodeSighting(r.RawSample); ok {
			f(s)
		}
	})
}

// records calls f for every record of a ring buffer until ctx ends, and then returns nil, or until the program is closed,
// which is an [ErrClosed].
func (p *Program) records(ctx context.Context, ring *ebpf.Map, op string, f func(*ringbuf.Record)) error {
	if err := p.lock(); err != nil {
		return err
	}
	m, err := ring.Clone()
	p.mu.Unlock()
	if err != nil {
		return classify(op, err)
	}
	defer m.Close() //nolint:errcheck // closing a descriptor of our own
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return classify(op, err)
	}
	defer r.Close() //nolint:errcheck // only descriptors
	returned := make(chan struct{})
	defer close(returned)
	go func() {
		select {
		case <-ctx.Done():
		case <-p.done:
		case <-returned:
		}
		_ = r.Flush() // wakes the reader up, as no deadline does once it waits
	}()
	var record ringbuf.Record
	for {
		switch err := r.ReadInto(&record); {
		case errors.Is(err, ringbuf.ErrFlushed) && ctx.Err() != nil:
			return nil
		case errors.Is(err, ringbuf.ErrFlushed):
			return ErrClosed
		case err != nil:
			return classify(op, err)
		}
		f(&record)
	}
}

func decodeSighting(b []byte) (Sighting, bool) {
	var s kdhtSighting
	if _, err := binary.Decode(b, binary.LittleEndian, &s); err != nil {
		return Sighting{}, false
	}
	return Sighting{ID: s.Id, Addr: netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), s.Port>>8|s.Port<<8), Proven: s.Proven != 0}, true
}
