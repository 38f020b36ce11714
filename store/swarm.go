package store

// swarm is the peers of one infohash.
type swarm struct {
	// expires is when the last of them will expire.
	expires uint32
	v4, v6  []peer
}

func isIPv6(addr [16]byte) bool {
	for _, b := range addr[:10] {
		if b != 0 {
			return true
		}
	}
	return addr[10] != 0xff || addr[11] != 0xff
}

func (w *swarm) family(ipv6 bool) *[]peer {
	if ipv6 {
		return &w.v6
	}
	return &w.v4
}

func (w *swarm) len() int { return len(w.v4) + len(w.v6) }

// find returns the peer with an address, nil if there is none.
func (w *swarm) find(addr [16]byte, port uint16) *peer {
	if w == nil {
		return nil
	}
	list := *w.family(isIPv6(addr))
	for i := range list {
		if list[i].port == port && list[i].addr == addr {
			return &list[i]
		}
	}
	return nil
}

func (w *swarm) add(p peer) {
	list := w.family(isIPv6(p.addr))
	*list = append(*list, p)
	w.expires = max(w.expires, p.expires)
}

// remove removes a peer that find returned.
func (w *swarm) remove(p *peer) {
	list := w.family(isIPv6(p.addr))
	n := len(*list) - 1
	*p = (*list)[n]
	*list = (*list)[:n]
	// Give memory back when a crowd has left.
	if n == 0 {
		*list = nil
	} else if n >= 8 && cap(*list) > 4*n {
		*list = append(make([]peer, 0, 2*n), *list...)
	}
}

// swarm returns the peers of an infohash, nil if there are none.
func (x *index) swarm(infohash Key) *swarm { return x.swarms[infohash] }

func (x *index) addPeer(infohash Key, p peer) {
	w := x.swarms[infohash]
	if w == nil {
		w = new(swarm)
		x.swarms[infohash] = w
	}
	w.add(p)
	x.peers++
	x.charge(p.source, peerCost)
}

func (x *index) removePeer(infohash Key, p *peer) {
	w := x.swarms[infohash]
	x.charge(p.source, -peerCost)
	x.peers--
	if w.remove(p); w.len() == 0 {
		delete(x.swarms, infohash)
	}
}
