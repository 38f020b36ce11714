package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"kdht/bpf"
	"kdht/router/krpc"
)

const (
	// hopTurn is how many frames the program and the reflector are sent in turn, one at a time. A turn of the program's is of
	// chains of hopChain hops, as far as a recursion goes.
	hopTurn  = 40 * hopChain
	hopChain = 10
	// hopLost is how long a frame may take before it counts as lost, and more that come with one are waited for.
	hopLost  = 20 * time.Millisecond
	moreWait = 2 * time.Millisecond
)

// hops measures what the kernel half adds to a hop of a recursion: the time from a node's reply to our query to the next node,
// beside that of the bare reflector for the same frame. The generator is all the nodes, and sends a frame when it has the one before.
type hops struct {
	rig      *rig
	program  *bpf.Program
	rng      *rand.Rand
	nodeFrom endpoint                    // where frames go
	ids      map[netip.AddrPort][20]byte // of the nodes
	nodes    int                         // how many there were
	sent     int                         // frame of the socket
	nextTID  uint32

	// Times from a frame sent to the one that answers it, by turn: of clients' queries, of replies, and of replies that are reflected.
	begun, followed, reflected [][]time.Duration
	lost                       int
}

// everybody is all addresses.
var everybody = netip.MustParsePrefix("0.0.0.0/0")

// newHops loads a kernel half that knows a few nodes, all of which are the generator.
func (r *rig) newHops() (h *hops, err error) {
	h = &hops{rig: r, rng: rand.New(rand.NewPCG(1, 2)), ids: map[netip.AddrPort][20]byte{}, nodeFrom: endpoint{[6]byte(r.nodeDev.HardwareAddr), nodeAddr}}
	if h.program, err = bpf.Load(bpf.Config{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.program.Close(true))
		}
	}()
	s := &bpf.Snapshot{ID4: h.id(), Bits: 1}
	for i := range bpf.BucketSize { // in one bucket: the other half of all IDs
		id := h.id()
		id[0] = s.ID4[0]&0x80 ^ 0x80 | id[0]&0x7f
		h.ids[h.address(i)] = id
		s.Nodes4 = append(s.Nodes4, [26]byte(contact(id, h.address(i))))
	}
	mac := func(b []byte) [6]byte { return [6]byte(b) }
	for _, err := range []error{
		h.program.SetEndpoints([]netip.AddrPort{nodeAddr}), h.program.Renew(time.Hour), h.program.Publish(s),
		h.program.HoldAll(func(func([20]byte) bool) {}),
		h.program.SetClients([]netip.Prefix{everybody}), h.program.AllowRecursion(time.Hour, true),
		h.program.SetRoutes([]bpf.Route{{Prefix: everybody, Ifindex: r.nodeDev.Index, MAC: mac(r.nodeDev.HardwareAddr), Gateway: genAddr.Addr(), Source: nodeAddr}}),
		h.program.SetNeighbours([]bpf.Neighbour{{Ifindex: r.nodeDev.Index, Addr: genAddr.Addr(), MAC: mac(r.genDev.HardwareAddr)}}),
	} {
		if err != nil {
			return nil, err
		}
	}
	return h, r.node.Do(func() error {
		_, err := h.program.Attach(r.nodeDev.Index, bpf.ModeNative)
		return err
	})
}

// id returns a random ID.
func (h *hops) id() (id [20]byte) {
	for i := range id {
		id[i] = byte(h.rng.Uint32())
	}
	return id
}

// address is that of the i-th node.
func (h *hops) address(i int) netip.AddrPort {
	a := firstNeighbor.As4()
	binary.BigEndian.PutUint16(a[2:], uint16(i+1))
	return netip.AddrPortFrom(netip.AddrFrom4(a), genAddr.Port())
}

// contact is compact node info (BEP 5).
func contact(id [20]byte, a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte{}, id[:]...), a.Addr().AsSlice()...), a.Port())
}

// run has the program and the reflector take turns for that many hops.
func (h *hops) run(ctx context.Context, n int) (err error) {
	defer func() { err = errors.Join(err, h.program.Close(true)) }()
	l, prog, err := h.rig.linkOf()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Update(prog), l.Close(), prog.Close()) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := setCore(0, genCore); err != nil {
		return fmt.Errorf("pin generator: %w", err)
	}
	for i := 0; i*hopTurn < n; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h.begun, h.followed, h.reflected = append(h.begun, nil), append(h.followed, nil), append(h.reflected, nil)
		if err := errors.Join(l.Update(prog), h.rig.pin()); err != nil {
			return err
		}
		for range hopTurn / hopChain {
			if err := h.chain(i); err != nil {
				return err
			}
		}
		if err := errors.Join(l.Update(h.rig.progs.Reflect), h.rig.pin()); err != nil {
			return err
		}
		for range hopTurn {
			frame := h.frame(h.address(0), h.reply([4]byte{0x80}, h.id(), h.near(h.id(), 8)))
			if _, took, err := h.exchange(frame, 0); err != nil {
				return err
			} else if took > 0 {
				h.reflected[i] = append(h.reflected[i], took)
			}
		}
	}
	return nil
}

// chain carries a client's query from node to node.
func (h *hops) chain(turn int) error {
	aim := h.id()
	h.nextTID++
	q := krpc.Message{
		Type: krpc.TypeQuery, TID: binary.BigEndian.AppendUint32(nil, h.nextTID), ID: h.id(), HasID: true, ReadOnly: true, Recursive: true,
		Method: krpc.MethodGet, Target: aim, HasTarget: true,
	}
	payload, err := q.Append(nil)
	if err != nil {
		return err
	}
	client := firstSource.Addr().As4()
	binary.BigEndian.PutUint16(client[2:], uint16(h.nextTID%60000))
	queries, took, err := h.exchange(h.frame(netip.AddrPortFrom(netip.AddrFrom4(client), genAddr.Port()), payload), moreWait)
	if err != nil {
		return err
	}
	if took > 0 {
		h.begun[turn] = append(h.begun[turn], took)
	}
	for hop := 0; hop < hopChain && len(queries) > 0; hop++ {
		from, tid, err := asked(queries[0])
		if err != nil {
			return err
		}
		queries, took, err = h.exchange(h.frame(from, h.reply(tid, h.ids[from], h.near(aim, 8*(hop+2)))), 0)
		if err != nil {
			return err
		}
		if took > 0 {
			h.followed[turn] = append(h.followed[turn], took)
		}
	}
	_, _, err = h.program.TakeOverdue(0, 0) // the other paths, and the end of this one
	return err
}

// near returns new nodes, as many as are usual in a reply, whose IDs share at least so many bits, a multiple of 8, with a target.
func (h *hops) near(target [20]byte, bits int) (nodes []byte) {
	for range bpf.BucketSize {
		id, a := h.id(), h.address(bpf.BucketSize+h.nodes%50000)
		h.nodes++
		copy(id[:bits/8], target[:])
		h.ids[a] = id
		nodes = append(nodes, contact(id, a)...)
	}
	return nodes
}

// reply is a node's, as libtorrent writes it.
func (h *hops) reply(tid [4]byte, id [20]byte, nodes []byte) []byte {
	r := krpc.Message{Type: krpc.TypeResponse, TID: tid[:], ID: id, HasID: true, Nodes: nodes, Token: []byte("1234"), IP: nodeAddr, Version: []byte("LT\x02\x08")}
	b, err := r.Append(nil)
	if err != nil {
		panic(err) // cannot happen: it is complete
	}
	return b
}

// asked takes a query of ours apart: whom it is for, and its transaction ID.
func asked(frame []byte) (to netip.AddrPort, tid [4]byte, err error) {
	if len(frame) > headersLen {
		ip := frame[ethLen:]
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(ip[ipLen+2:]))
		if t, ok := replyTID(ip[ipLen+udpLen:]); ok {
			binary.BigEndian.PutUint32(tid[:], t)
			return to, tid, nil
		}
	}
	return to, tid, fmt.Errorf("no query: %q", frame)
}

// frame puts a datagram from an address to the node into a frame.
func (h *hops) frame(from netip.AddrPort, payload []byte) []byte {
	b := append(appendHeaders(nil, endpoint{[6]byte(h.rig.genDev.HardwareAddr), from}, h.nodeFrom, len(payload)), payload...)
	udpChecksum(b)
	return b
}

// exchange sends a frame and returns those that come for it, and when the first did; no frame and no time if none came. It waits for
// more than one.
func (h *hops) exchange(frame []byte, more time.Duration) (frames [][]byte, took time.Duration, err error) {
	s := h.rig.sock
	s.receive(func([]byte) {}) // what came too late
	h.sent = (h.sent + 1) % ringSize
	copy(s.frame(h.sent), frame)
	begun := time.Now()
	s.queue(h.sent, len(frame))
	if err := s.kick(); err != nil {
		return nil, 0, err
	}
	take := func(b []byte) { frames = append(frames, slices.Clone(b)) }
	for len(frames) == 0 {
		s.receive(take)
		if took = time.Since(begun); took > hopLost {
			h.lost++
			return nil, 0, nil
		}
	}
	for end := time.Now().Add(more); time.Now().Before(end); {
		s.receive(take)
	}
	return frames, took, nil
}

// print writes the table. What is added is the median over turns of what the program's times exceed the reflector's of the same turn by.
func (h *hops) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "from a frame to what answers it, µs\tframes\tmedian\t99 % within\tadded, median (quartiles)\tadded, 99 % (quartiles)\t")
	row := func(what string, turns [][]time.Duration) {
		var all []time.Duration
		var median, high []float64
		for i, turn := range turns {
			all = append(all, turn...)
			if len(turn) > 0 && len(h.reflected[i]) > 0 {
				median = append(median, micros(at(turn, 0.5)-at(h.reflected[i], 0.5)))
				high = append(high, micros(at(turn, 0.99)-at(h.reflected[i], 0.99)))
			}
		}
		self := func(x float64) float64 { return x }
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.1f\t%s\t%s\t\n", what, len(all), micros(at(all, 0.5)), micros(at(all, 0.99)), spreadOf(median, self), spreadOf(high, self))
	}
	row("reflector", h.reflected)
	row("reply to a hop, the next hop", h.followed)
	row("client's query, the first hop", h.begun)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d frames lost\n", h.lost)
	return err
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// at returns the value below which a share of the values lies; zero if there are none.
func at(values []time.Duration, share float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
