package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

const (
	// answerTime is how long a node may take for an answer (package krpc).
	answerTime = 5 * time.Second
	// again is when a client whose datagrams get lost asks again, with the same transaction ID.
	again = 500 * time.Millisecond
)

// asker is a client without DHT logic, on one socket: it sends a datagram with rd = 1 to a node and waits for the answer.
type asker struct {
	conn *net.UDPConn
	in   []byte
	id   krpc.ID
	tid  uint32
}

func newAsker(h *fleet.Host, v6 bool) (*asker, error) {
	a := &asker{in: make([]byte, 2048), tid: rand.Uint32()}
	for i := range a.id {
		a.id[i] = byte(rand.Uint32())
	}
	addr := h.IPv4
	if v6 {
		addr = h.IPv6
	}
	err := h.NS.Do(func() (err error) {
		a.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	return a, err
}

// newAskers makes a client for each family.
func newAskers(h *fleet.Host) (a [2]*asker, err error) {
	if a[0], err = newAsker(h, false); err != nil {
		return a, err
	}
	if a[1], err = newAsker(h, true); err != nil {
		a[0].close()
	}
	return a, err
}

func (a *asker) close() { _ = a.conn.Close() }

// errSilent: no answer came.
var errSilent = errors.New("no answer")

// ask sends a query as often as said, at intervals, and returns the answer and how long after the first datagram it came.
// It waits for it 1.5 s longer than it may take.
func (a *asker) ask(ctx context.Context, node netip.AddrPort, q krpc.Message, sends int) (*krpc.Message, time.Duration, error) {
	a.tid++
	q.Type, q.TID, q.Recursive = krpc.TypeQuery, binary.BigEndian.AppendUint32(nil, a.tid), true
	q.ID, q.HasID, q.ReadOnly = a.id, true, true
	out, err := q.Append(nil)
	if err != nil {
		return nil, 0, err
	}
	begun := time.Now()
	end := begun.Add(answerTime + 3*time.Second/2)
	for ; ctx.Err() == nil && time.Now().Before(end); sends-- {
		wait := end
		if sends > 0 {
			if _, err := a.conn.WriteToUDPAddrPort(out, node); err != nil {
				return nil, 0, err
			}
			if t := time.Now().Add(again); sends > 1 && t.Before(end) {
				wait = t
			}
		}
		_ = a.conn.SetReadDeadline(wait) // on an open socket it does not fail
		for {
			n, from, err := a.conn.ReadFromUDPAddrPort(a.in)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, 0, err
			}
			m := new(krpc.Message)
			if from.Addr().Unmap() == node.Addr() && krpc.Decode(bytes.Clone(a.in[:n]), m) == nil && m.Type != krpc.TypeQuery && bytes.Equal(m.TID, q.TID) {
				return m, time.Since(begun), nil
			}
		}
	}
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	return nil, time.Since(begun), errSilent
}

// outcome is what became of a get or get_peers.
type outcome int

const (
	found    outcome = iota // the true value
	notThere                // the node says that the network does not have it
	notSure                 // the node says that it ran out of time
	silent                  // no answer
	wrong                   // another value, or one with another signature, or peers without the one that was announced
	refused                 // an error, or an answer as if rd were absent
	outcomes
)

func (o outcome) String() string {
	return [outcomes]string{"found", "not there", "ran out of time", "no answer", "another value", "refused"}[o]
}

// get asks a node for an item or for peers.
func (a *asker) get(ctx context.Context, node netip.AddrPort, it *item, sends int) (outcome, time.Duration, error) {
	m, took, err := a.ask(ctx, node, it.query(), sends)
	switch {
	case errors.Is(err, errSilent):
		return silent, took, nil
	case err != nil:
		return 0, 0, err
	}
	return it.judge(m), took, nil
}

// put has a node put an item, and returns how many nodes stored it.
func (a *asker) put(ctx context.Context, node netip.AddrPort, it *item) (int64, error) {
	q := krpc.Message{Method: krpc.MethodPut, V: it.v}
	if it.k != nil {
		q.K, q.Sig, q.Seq, q.HasSeq = it.k, it.sig, it.seq, true
	}
	return a.store(ctx, node, q)
}

// announce has a node announce that there is a peer of an infohash on its host, which the client must be on: other nodes take a
// peer's address from whom the announce comes from.
func (a *asker) announce(ctx context.Context, node netip.AddrPort, it *item) (int64, error) {
	return a.store(ctx, node, krpc.Message{Method: krpc.MethodAnnouncePeer, InfoHash: it.target, HasInfoHash: true, Port: peerPort, HasPort: true})
}

// store asks a node to have something stored, and returns how many nodes did.
func (a *asker) store(ctx context.Context, node netip.AddrPort, q krpc.Message) (int64, error) {
	m, _, err := a.ask(ctx, node, q, 1)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%v by %v: %w", q.Method, node, err)
	case m.Type != krpc.TypeResponse || !m.HasStored:
		return 0, fmt.Errorf("%v by %v: error %d (%s)", q.Method, node, m.Err.Code, m.Err.Text)
	}
	return m.Stored, nil
}
