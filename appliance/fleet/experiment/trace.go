package main

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// trace follows one lookup by its packets, whoever does it: a node's kernel half, its process, or a foreign client.
type trace struct {
	mu     sync.Mutex
	on     bool
	target krpc.ID
	asker  *fleet.Host
	named  map[netip.AddrPort]int // how many hops away the node is that first named it
	asked  map[string]int         // by transaction and address: how many hops away the node is
	steps
}

// steps is what a lookup took.
type steps struct {
	queries int // sent until the lookup ended
	hops    int // nodes that had to be asked one after the other until the value came; 0: it did not come
}

// begin begins to follow the lookup of a target by a host.
func (t *trace) begin(target krpc.ID, asker *fleet.Host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on, t.target, t.asker, t.steps = true, target, asker, steps{}
	t.named, t.asked = map[netip.AddrPort]int{}, map[string]int{}
}

// end returns what the lookup took so far.
func (t *trace) end() steps {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on = false
	return t.steps
}

// packet looks at a packet, from its IP header on.
func (t *trace) packet(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.on {
		return
	}
	from, to, payload := datagram(b)
	if payload == nil {
		return
	}
	var m krpc.Message
	switch {
	case t.isAsker(from.Addr()) && to.Port() == fleet.Port && krpc.Decode(payload, &m) == nil:
		if m.Type != krpc.TypeQuery || m.Method != krpc.MethodGet || m.Target != t.target {
			return
		}
		t.queries++
		t.asked[string(m.TID)+to.String()] = 1 + t.named[to]
	case t.isAsker(to.Addr()) && from.Port() == fleet.Port && krpc.Decode(payload, &m) == nil:
		hops, ok := t.asked[string(m.TID)+from.String()]
		if !ok || m.Type != krpc.TypeResponse {
			return
		}
		if m.V != nil && t.hops == 0 {
			t.hops = hops
		}
		for _, c := range krpc.Nodes(m.Nodes) {
			t.name(c, hops)
		}
		for _, c := range krpc.Nodes6(m.Nodes6) {
			t.name(c, hops)
		}
	}
}

// name notes that a node so many hops away has named another one.
func (t *trace) name(a netip.AddrPort, hops int) {
	if _, ok := t.named[a]; !ok {
		t.named[a] = hops
	}
}

// isAsker reports whether an address is that of the host whose lookup is followed.
func (t *trace) isAsker(a netip.Addr) bool { return a == t.asker.IPv4 || a == t.asker.IPv6 }

// datagram takes a packet apart, from its IP header on. What is no UDP in one piece has no payload.
func datagram(b []byte) (from, to netip.AddrPort, payload []byte) {
	const udp = 17
	if len(b) < 28 {
		return
	}
	header := int(b[0]&15) * 4
	var src, dst netip.Addr
	switch {
	case b[0]>>4 == 4 && b[9] == udp && binary.BigEndian.Uint16(b[6:])&0x3fff == 0:
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case b[0]>>4 == 6 && b[6] == udp && len(b) >= 48:
		header = 40
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	default:
		return
	}
	if len(b) < header+8 {
		return
	}
	b = b[header:]
	end := min(len(b), max(8, int(binary.BigEndian.Uint16(b[4:]))))
	return netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])), b[8:end]
}
