package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"
)

// flood sends queries from random forged sources as fast as it can, without waiting for answers, and counts what comes back.
type flood struct {
	sock     *xsk
	rng      *rand.Rand
	payloads [][]byte
	v6       bool
	from, to endpoint

	sent, sentBytes int
	got, gotBytes   int // replies, and their payloads
}

// newFlood sends the payloads in turn.
func newFlood(sock *xsk, payloads [][]byte, from, to endpoint) *flood {
	return &flood{sock: sock, rng: rand.New(rand.NewPCG(7, 7)), payloads: payloads, v6: to.addr.Addr().Is6(), from: from, to: to}
}

// source forges an address: any global one. The port is one of the generator's, so that what is answered comes back to it.
func (f *flood) source() netip.AddrPort {
	port := f.from.addr.Port() + uint16(f.rng.IntN(1024))
	if f.v6 {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], 0x2400<<48|f.rng.Uint64()>>16)
		binary.BigEndian.PutUint64(a[8:], f.rng.Uint64())
		return netip.AddrPortFrom(netip.AddrFrom16(a), port)
	}
	a := [4]byte{byte(20 + f.rng.IntN(70)), byte(f.rng.Uint32()), byte(f.rng.Uint32()), byte(f.rng.Uint32())}
	return netip.AddrPortFrom(netip.AddrFrom4(a), port)
}

// run floods for a time. It must stay on one thread.
func (f *flood) run(enough func(elapsed time.Duration) bool) error {
	const batch = 64
	next := 0
	for begin := time.Now(); !enough(time.Since(begin)); {
		for f.sock.pending() < batch {
			payload := f.payloads[f.sent%len(f.payloads)]
			i := next % ringSize
			next++
			f.sock.queue(i, len(f.frame(f.sock.frame(i)[:0], payload)))
			f.sent++
			f.sentBytes += len(payload)
		}
		if err := f.sock.kick(); err != nil {
			return err
		}
		f.collect()
	}
	return nil
}

// collect counts what has come back.
func (f *flood) collect() {
	f.sock.receive(func(frame []byte) {
		if len(frame) >= headersLen {
			f.got++
			f.gotBytes += len(frame) - headersLen
		}
	})
}

// frame writes a frame with a payload from a forged source.
func (f *flood) frame(b, payload []byte) []byte {
	from := endpoint{f.from.mac, f.source()}
	if !f.v6 {
		b = append(appendHeaders(b, from, f.to, len(payload)), payload...)
		udpChecksum(b)
		return b
	}
	b = append(append(b, f.to.mac[:]...), from.mac[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(b, 17, 64)
	b = append(append(b, from.addr.Addr().AsSlice()...), f.to.addr.Addr().AsSlice()...)
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, from.addr.Port())
	b = binary.BigEndian.AppendUint16(b, f.to.addr.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(append(b, 0, 0), payload...)
	c := ^fold(sum(sum(uint64(17)+uint64(udpLen+len(payload)), b[udp-32:udp]), b[udp:]))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[udp+6:], c)
	return b
}
