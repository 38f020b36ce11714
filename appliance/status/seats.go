package status

import (
	"net/netip"
	"sync"
)

// maxFollowers bounds those who follow the page, and maxPerClient those at one address, which may be several browsers behind one router, or
// one with many tabs.
const maxFollowers, maxPerClient = 32, 8

// seats are taken by those who follow. When all are taken, who comes from an address that has none gets one: the oldest of the address that
// has most, and of several such of that whose network, the /64 of IPv6, has most. So whoever has none always gets one. He keeps it while
// somebody has more than one, or while others have most of a /64; in the /64 of somebody who comes again and again from ever new addresses, or
// among as many IPv4 addresses, he loses it in his turn, and comes again. The zero value is empty.
type seats struct {
	mu    sync.Mutex
	taken []*seat // the oldest first
}

// seat is that of one follower.
type seat struct {
	client  netip.Addr
	network netip.Prefix
	vacate  func() // tells the follower that he has lost it
}

// take takes one for a client, whom vacate tells when another one gets it. Without one are those whose address has as many as it may, and,
// when all are taken, those whose address would then have as many as the one that lost it, or more.
func (s *seats) take(client netip.Addr, vacate func()) (mine *seat, ok bool) {
	client = client.Unmap().WithZone("")
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	network, _ := client.Prefix(bits) // of no address it is none
	s.mu.Lock()
	defer s.mu.Unlock()
	ofClient, ofNetwork := make(map[netip.Addr]int), make(map[netip.Prefix]int)
	for _, x := range s.taken {
		ofClient[x.client]++
		ofNetwork[x.network]++
	}
	own := ofClient[client]
	if own >= maxPerClient {
		return nil, false
	}
	if len(s.taken) >= maxFollowers {
		victim := 0
		for i, x := range s.taken {
			v := s.taken[victim]
			if n, most := ofClient[x.client], ofClient[v.client]; n > most || n == most && ofNetwork[x.network] > ofNetwork[v.network] {
				victim = i
			}
		}
		if own > 0 && ofClient[s.taken[victim].client] <= own+1 {
			return nil, false
		}
		s.taken[victim].vacate()
		s.remove(victim)
	}
	mine = &seat{client, network, vacate}
	s.taken = append(s.taken, mine)
	return mine, true
}

// leave gives a seat back, unless somebody else has it.
func (s *seats) leave(mine *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.taken {
		if x == mine {
			s.remove(i)
			return
		}
	}
}

// remove gives up a seat. s.mu is held.
func (s *seats) remove(i int) { s.taken = append(s.taken[:i], s.taken[i+1:]...) }
