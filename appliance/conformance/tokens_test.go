package conformance_test

import (
	"fmt"
	"net/netip"
	"testing"

	"kdht/router/krpc"
)

// testTokens writes with tokens of all kinds. Those that the kernel half makes are good for user space, and those of
// one node for the other, since they have the same secrets.
func testTokens(t *testing.T, p *pair) {
	peers := 0
	for _, to := range []netip.AddrPort{node4, node6} {
		cs := p.clients(t, clientFor(to), to)
		other := p.clients(t, otherFor(to), to)
		try := func(want, name string, cs [2]*client, token []byte) {
			t.Helper()
			peers++
			q := newQuery("put", "token", str(token), "v", str(fmt.Sprint("token ", peers)))
			p.same(t, cs, "put with "+name, q.bytes(), want)
			q = newQuery("announce_peer", "info_hash", str("announced with token"), "port", num(int64(peers)), "token", str(token))
			p.same(t, cs, "announce_peer with "+name, q.bytes(), want)
		}
		var token []byte
		for i, c := range cs {
			for _, q := range []query{newQuery("get", "target", str(absent)), newQuery("get_peers", "info_hash", str(absent)),
				newQuery("get", "target", str(absent), "want", "le"), // from user space
				newQuery("get_peers", "info_hash", str(target))} {
				_, m, err := c.answer(q.bytes())
				must(t, err)
				if token == nil {
					token = m.Token
				}
				if len(token) != 8 || string(m.Token) != string(token) {
					t.Errorf("--xdp %s: %s gives token %x, want %x", modes[i], q.top["q"], m.Token, token)
				}
			}
		}
		otherToken := askToken(t, other[0])
		a, b := clientFor(to), otherFor(to)
		try(wantAnswer, "the token", cs, token)
		try(wantAnswer, "the other's token", other, otherToken)
		try(errProtocol, "the token of another address", other, token)
		try(errProtocol, "the token of another address", cs, otherToken)
		try(wantAnswer, "the token of the last secret", cs, tokenOf(p.secrets.Current, a))
		try(errProtocol, "the token of the last secret and another address", cs, tokenOf(p.secrets.Current, b))
		try(errProtocol, "the token of the secret before the last", cs, tokenOf(p.secrets.Previous, a))
		try(errProtocol, "the token of no secret", cs, tokenOf([16]byte{}, a))
		for bit := range 64 {
			forged := append([]byte(nil), token...)
			forged[bit/8] ^= 1 << (bit % 8)
			try(errProtocol, fmt.Sprintf("bit %d wrong", bit), cs, forged)
		}
		try(errProtocol, "a byte more", cs, append(append([]byte(nil), token...), 0))
		try(errProtocol, "a byte less", cs, token[:7])
		try(errProtocol, "no byte", cs, nil)
		try(errProtocol, "zeros", cs, make([]byte, 8))

		// Addresses that only look like the asker's.
		if a.Is4() {
			mapped := netip.AddrFrom16(a.As16())
			try(errProtocol, "the token of the IPv4-mapped address", cs, tokenOf(p.secrets.Current, mapped))
		}
		// A token is for an address, not for a node ID or a port.
		second := p.nodes[0].r.dial(t, netip.AddrPortFrom(a, 0), to)
		q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPut, TID: []byte("bb"), ID: krpc.ID{9}, HasID: true, V: []byte("i77e"), Token: token}
		_, m, err := second.answer(get[[]byte](t)(q.Append(nil)))
		must(t, err)
		if m.Type != krpc.TypeResponse {
			t.Errorf("put with the token from another port under another ID: %s", describe(m))
		}
	}
}

// otherFor is the second client's address of a node's family.
func otherFor(node netip.AddrPort) netip.Addr {
	if node.Addr().Is6() {
		return other6
	}
	return other4
}
