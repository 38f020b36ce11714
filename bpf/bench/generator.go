package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

const (
	// outstanding is how many queries are under way at a time: the ring of a
	// veth holds 256 frames, and drops would make the loop wait for time-outs.
	outstanding = 128
	// sources is how many addresses the queries come from.
	sources = 1024
	// lost is how long an answer may take before its query counts as lost.
	lost = 250 * time.Millisecond
	// framesPerSlot frames are used in turn, because one may still be on its
	// way through the kernel when its answer is here.
	framesPerSlot = ringSize / outstanding
)

// queryMark is in every query, and so in what the reflector sends back. It is looked for as replies are looked through,
// so that the generator has the same work with either.
var queryMark = []byte("1:y1:q")

// load is what the generator counted.
type load struct {
	answers, complete, lost, stray int
	elapsed                        time.Duration
	bytes                          int
}

// generator keeps a number of queries under way, each from another source and
// for another random target, and counts the answers.
type generator struct {
	sock *xsk
	rng  *rand.Rand
	tmpl template
	want []byte // what a complete answer contains
	// targets are asked for in random order; none: random ones.
	targets [][20]byte
	size    int  // of a frame
	echo    bool // answers are the queries themselves
	slots   [outstanding]slot
	load    load
}

type slot struct {
	seq  uint32
	sent time.Time
}

// newGenerator fills the frames of sock: from is the first of the sources.
func newGenerator(sock *xsk, k kind, from, to endpoint) *generator {
	g := &generator{sock: sock, rng: rand.New(rand.NewPCG(1, uint64(len(k.method))))}
	g.tmpl = k.template(g.rng)
	g.size = headersLen + len(g.tmpl.payload)
	g.want = []byte("1:y1:r")
	if k.arg != "" {
		g.want = []byte("5:nodes208:")
	}
	if k.value > 0 {
		for _, v := range k.items() {
			g.targets = append(g.targets, krpc.ImmutableTarget(v))
		}
		g.want = itemMark
		g.size = max(g.size, k.reply()-headroom)
	}
	base := binary.BigEndian.Uint32(from.addr.Addr().AsSlice())
	for i := range ringSize {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], base+uint32(i%sources))
		src := endpoint{from.mac, netip.AddrPortFrom(netip.AddrFrom4(a), from.addr.Port()+uint16(i%sources))}
		frame := appendHeaders(sock.frame(i)[:0], src, to, len(g.tmpl.payload))
		copy(frame[len(frame):cap(frame)], g.tmpl.payload)
	}
	return g
}

// send sends the next query of a slot.
func (g *generator) send(i int, now time.Time) {
	s := &g.slots[i]
	s.seq++
	s.sent = now
	n := i*framesPerSlot + int(s.seq%framesPerSlot)
	frame := g.sock.frame(n)[:headersLen+len(g.tmpl.payload)]
	payload := frame[headersLen:]
	switch t := g.tmpl.target; {
	case len(g.targets) > 0:
		copy(payload[t:], g.targets[g.rng.IntN(len(g.targets))][:])
	case t != 0:
		binary.LittleEndian.PutUint64(payload[t:], g.rng.Uint64())
		binary.LittleEndian.PutUint64(payload[t+8:], g.rng.Uint64())
		binary.LittleEndian.PutUint32(payload[t+16:], g.rng.Uint32())
	}
	binary.BigEndian.PutUint32(payload[g.tmpl.tid:], uint32(i)<<24|s.seq&0xffffff)
	udpChecksum(frame)
	g.sock.queue(n, g.size)
}

// run keeps the load up for d. It must stay on one thread.
func (g *generator) run(d time.Duration) (load, error) {
	g.load = load{}
	start := time.Now()
	now := start
	for i := range g.slots {
		g.send(i, now)
	}
	swept := start
	for now.Sub(start) < d {
		if err := g.sock.kick(); err != nil {
			return load{}, err
		}
		if g.sock.receive(func(frame []byte) { g.received(frame, now) }) == 0 {
			g.sock.wait(10 * time.Millisecond)
		}
		now = time.Now()
		if now.Sub(swept) > lost/4 {
			swept = now
			for i := range g.slots {
				if now.Sub(g.slots[i].sent) > lost {
					g.load.lost++
					g.send(i, now)
				}
			}
		}
	}
	g.load.elapsed = now.Sub(start)
	return g.load, nil
}

func (g *generator) received(frame []byte, now time.Time) {
	if len(frame) < headersLen {
		g.load.stray++
		return
	}
	end := ethLen + ipLen + int(binary.BigEndian.Uint16(frame[ethLen+ipLen+4:])) // what follows is padding
	if end < headersLen || end > len(frame) {
		g.load.stray++
		return
	}
	payload := frame[headersLen:end]
	tid, ok := replyTID(payload)
	i := int(tid >> 24)
	if !ok || i >= outstanding || g.slots[i].seq&0xffffff != tid&0xffffff {
		g.load.stray++
		return
	}
	g.load.answers++
	g.load.bytes += len(payload)
	want := g.want
	if g.echo {
		want = queryMark
	}
	if bytes.Contains(payload, want) {
		g.load.complete++
	}
	g.send(i, now)
}

// rate is in answers per second.
func (l load) rate() float64 { return float64(l.answers) / l.elapsed.Seconds() }

func (l load) String() string {
	return fmt.Sprintf("%d answers, %d complete, %d lost, %d stray in %v", l.answers, l.complete, l.lost, l.stray,
		l.elapsed.Round(time.Millisecond))
}
