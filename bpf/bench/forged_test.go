package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// forgery is a kind of datagram that a flood consists of.
type forgery struct {
	name    string
	payload []byte
	random  int  // where 20 bytes are that differ from one to the next; 0: there are none
	padded  int  // the least size of its frame
	private bool // the sources are private addresses, which are exempt from limits and may ask for recursion, else public ones
	options bool // there is an option in its IPv4 header, and a header with one behind that of IPv6
}

// anyTarget stands for the 20 bytes of a forgery that differ.
const anyTarget = "?random-20-bytes-of?"

// publicKey is one that could have signed something.
var publicKey = string(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))[ed25519.SeedSize:])

// forge makes a forgery of a payload.
func forge(name, payload string, private bool) forgery {
	where := "public"
	if private {
		where = "private"
	}
	return forgery{name: where + " " + name, payload: []byte(payload), random: max(0, strings.Index(payload, anyTarget)), private: private}
}

// plainPing is a ping from a public address.
var plainPing = forge("ping", "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", false)

// forgeries are all kinds, with each kind of source. cold and hot are targets of items at the node.
func forgeries(cold, hot string) (all []forgery) {
	const begin, end = "d1:ad2:id20:abcdefghij0123456789", "1:t2:aa1:y1:qe"
	plain := func(method, arguments, more string) string {
		return fmt.Sprintf("%s%se1:q%d:%s%s%s", begin, arguments, len(method), method, more, end)
	}
	target, infohash := "6:target20:"+anyTarget, "9:info_hash20:"+anyTarget
	for _, private := range []bool{false, true} {
		add := func(name, payload string) { all = append(all, forge(name, payload, private)) }
		for _, rd := range []string{"", "2:rdi1e"} {
			kind := func(name string) string { return strings.TrimSpace(name + map[bool]string{true: " rd"}[rd != ""]) }
			add(kind("find_node"), plain("find_node", target, rd))
			add(kind("get_peers"), plain("get_peers", infohash, rd))
			add(kind("get"), plain("get", target, rd))
			add(kind("get of an item"), plain("get", "6:target20:"+cold, rd))
			add(kind("get of a hot item"), plain("get", "6:target20:"+hot, rd))
			add(kind("get, too long"), plain("get", target, rd+"1:s450:"+strings.Repeat("s", 450)))
			add(kind("get, not canonical"), plain("get", target, rd+"1:si1e1:si1e"))
			token := map[string]string{"": "5:token8:notoken!"}[rd]
			add(kind("put"), plain("put", token+"1:v20:"+anyTarget, rd))
			add(kind("put, mutable"), plain("put", "1:k32:"+publicKey+"3:seqi1e3:sig64:"+strings.Repeat("g", 64)+token+"1:v20:"+anyTarget, rd))
			add(kind("announce_peer"), plain("announce_peer", infohash+"4:porti6881e"+token, rd))
		}
		add("ping", plain("ping", "", ""))
		add("sample_infohashes", plain("sample_infohashes", target, ""))
		add("response", "d1:rd2:id20:abcdefghij0123456789e1:t4:aaaa1:v4:LT\x02\x081:y1:re")
		add("garbage", "d1:y1:qe")
		add("find_node, with IP options", plain("find_node", target, ""))
		all[len(all)-1].options = true
	}
	return all
}

// route is a way to the node: from and to are the ends of a link, the address of to is the node's.
type route struct{ from, to endpoint }

// flood sends datagrams from random forged sources as fast as it can, without waiting for answers, and counts what comes back.
type flood struct {
	sock   *xsk
	rng    *rand.Rand
	kinds  []forgery
	routes []route // one of each family
	// source gives the address of the next datagram; nil: a random one of the kind's.
	source func(v6 bool) netip.Addr

	sent, sentBytes int
	got, gotBytes   int // replies, and their payloads
}

// newFlood sends datagrams of the kinds in turn, by each route.
func newFlood(sock *xsk, kinds []forgery, routes ...route) *flood {
	return &flood{sock: sock, rng: rand.New(rand.NewPCG(7, 7)), kinds: kinds, routes: routes}
}

// publicNets are the first bytes of public IPv4 addresses, but those that are so only in part.
var publicNets = func() (all []byte) {
	for n := byte(1); n < 224; n++ {
		if !slices.Contains([]byte{10, 100, 127, 169, 172, 192, 198, 203}, n) {
			all = append(all, n)
		}
	}
	return all
}()

// forged returns a random address.
func (f *flood) forged(private, v6 bool) netip.Addr {
	if v6 {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], f.rng.Uint64())
		binary.BigEndian.PutUint64(a[8:], f.rng.Uint64())
		if a[0] = 0x24 | a[0]&0x0f; private { // of 2000::/3
			a[0] = 0xfd // RFC 4193
		}
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	n := f.rng.Uint64()
	binary.BigEndian.PutUint32(a[:], uint32(n))
	a[0] = publicNets[n>>32%uint64(len(publicNets))]
	if private {
		a[0] = 10 // RFC 1918
	}
	return netip.AddrFrom4(a)
}

// run floods until it is enough. It must stay on one thread.
func (f *flood) run(enough func(elapsed time.Duration) bool) error {
	for begin := time.Now(); !enough(time.Since(begin)); {
		f.queue(64)
		if err := f.sock.kick(); err != nil {
			return err
		}
		f.collect()
	}
	return nil
}

// queue queues datagrams until there are that many.
func (f *flood) queue(batch int) {
	for f.sock.pending() < batch {
		kind := &f.kinds[f.sent/len(f.routes)%len(f.kinds)]
		i := f.sent % ringSize
		f.sock.queue(i, max(kind.padded, len(f.frame(f.sock.frame(i)[:0], kind, &f.routes[f.sent%len(f.routes)]))))
		f.sent++
		f.sentBytes += len(kind.payload)
	}
}

// collect counts what has come back.
func (f *flood) collect() { f.sock.receive(f.count) }

func (f *flood) count(frame []byte) {
	udp := headersLen - udpLen
	if len(frame) > ethLen && frame[ethLen]>>4 == 6 {
		udp = ethLen + 40
	}
	if len(frame) < udp+udpLen {
		return
	}
	f.got++
	f.gotBytes += int(binary.BigEndian.Uint16(frame[udp+4:])) - udpLen
}

// pingers is how many addresses have pinged behind a flood.
var pingers int

// end counts what comes back until the last datagram has been looked at. On a busy machine hundreds wait at the link, in both directions, which
// keep their order: a ping behind them, from an address that none has come from before, is answered after them. It may be lost, and is sent again.
func (f *flood) end(t testing.TB, way route) {
	t.Helper()
	pingers++
	from := netip.AddrFrom4([4]byte{45, byte(pingers >> 16), byte(pingers >> 8), byte(pingers)})
	waitFor(t, "what is left of a flood", func() bool {
		must(t, f.sock.kick())
		f.collect()
		return f.sock.pending() == 0
	})
	ping := newFlood(f.sock, []forgery{plainPing}, way)
	ping.source = func(bool) netip.Addr { return from }
	to := from.AsSlice()
	waitFor(t, "the answer to a ping behind a flood", func() (answered bool) {
		ping.queue(1)
		must(t, f.sock.kick())
		f.sock.wait(50 * time.Millisecond)
		f.sock.receive(func(frame []byte) {
			if len(frame) >= headersLen && bytes.Equal(frame[ethLen+16:ethLen+20], to) {
				answered = true
				return
			}
			f.count(frame)
		})
		return answered
	})
}

// frame writes a frame with a datagram of a kind from a forged source. The port is one of the generator's, so that what is answered comes
// back to it.
func (f *flood) frame(b []byte, kind *forgery, way *route) []byte {
	v6 := way.to.addr.Addr().Is6()
	var addr netip.Addr
	if f.source != nil {
		addr = f.source(v6)
	} else {
		addr = f.forged(kind.private, v6)
	}
	payload := kind.payload
	if kind.random > 0 {
		for i := 0; i < len(anyTarget); i += 4 {
			binary.LittleEndian.PutUint32(payload[kind.random+i:], f.rng.Uint32())
		}
	}
	from := endpoint{way.from.mac, netip.AddrPortFrom(addr, way.from.addr.Port()+uint16(f.rng.IntN(1024)))}
	if !v6 {
		b = append(appendHeaders(b, from, way.to, len(payload)), payload...)
		udpChecksum(b)
		if kind.options {
			b = slices.Insert(b, ethLen+ipLen, 1, 1, 1, 1) // no operation
			ip := b[ethLen:]
			ip[0]++
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
			ip[10], ip[11] = 0, 0
			binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:ipLen+4])))
		}
		return b
	}
	b = append(append(b, way.to.mac[:]...), from.mac[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(b, 17, 64)
	b = append(append(b, from.addr.Addr().AsSlice()...), way.to.addr.Addr().AsSlice()...)
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, from.addr.Port())
	b = binary.BigEndian.AppendUint16(b, way.to.addr.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(append(b, 0, 0), payload...)
	c := ^fold(sum(sum(uint64(17)+uint64(udpLen+len(payload)), b[udp-32:udp]), b[udp:]))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[udp+6:], c)
	if kind.options {
		b = slices.Insert(b, udp, 17, 0, 1, 4, 0, 0, 0, 0) // destination options: padding
		b[ethLen+6] = 60
		binary.BigEndian.PutUint16(b[ethLen+4:], uint16(len(b)-udp))
	}
	return b
}
