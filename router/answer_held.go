package router

import (
	"net/netip"

	"kdht/router/krpc"
)

// AnswerItem appends the reply to a get for an item that is known here. It returns false, and dst as it was, for
// anything else. The kernel half answers from its hot map with the same bytes.
func (v *View) AnswerItem(dst []byte, m *krpc.Message, from netip.AddrPort, it *Item) ([]byte, bool) {
	if m.Type != krpc.TypeQuery || m.Method != krpc.MethodGet || !m.HasID || !m.HasTarget {
		return dst, false
	}
	var c composer
	c.respond(v, m, &m.Target, unmapped(from))
	c.addToken()
	c.addItem(m, it)
	c.fit(make([]byte, 0, writeSize))
	b, err := c.m.Append(dst)
	return b, err == nil
}

// AnswerPeers appends the reply to a get_peers, without scrape, for an infohash of which these peers, all of the asker's
// family, are known here: as many from the front as there is room for. To one that asks for recursion, those of the
// families that it wants as well. Otherwise it is like [View.AnswerItem].
func (v *View) AnswerPeers(dst []byte, m *krpc.Message, from netip.AddrPort, peers []netip.AddrPort) ([]byte, bool) {
	if m.Type != krpc.TypeQuery || m.Method != krpc.MethodGetPeers || !m.HasID || !m.HasInfoHash || m.Scrape {
		return dst, false
	}
	var c composer
	if m.Recursive {
		c.respondPeers(v, m, unmapped(from), peers, make([]byte, 0, writeSize))
		b, err := c.m.Append(dst)
		return b, err == nil
	}
	c.respond(v, m, &m.InfoHash, unmapped(from))
	c.addToken()
	limit, err := c.peerRoom(make([]byte, 0, writeSize))
	if err != nil {
		return dst, false
	}
	for _, p := range peers[:min(limit, len(peers))] {
		c.m.Values = krpc.AppendPeer(c.m.Values, p)
	}
	b, err := c.m.Append(dst)
	return b, err == nil
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
