package router

import (
	"context"
	"net/netip"

	"kdht/router/krpc"
)

// Ping sends one ping.
func (n *Node) Ping(ctx context.Context, addr netip.AddrPort) (Pong, error) {
	r, err := n.query(ctx, Contact{Addr: addr}, krpc.Message{Method: krpc.MethodPing}, nil)
	if err != nil {
		return Pong{}, err
	}
	if r.Type == krpc.TypeError {
		return Pong{}, &r.Err
	}
	return Pong{ID: r.ID, RTT: r.rtt, Version: r.Version, IP: r.IP}, nil
}

// FindNode looks up the nodes closest to a target. ErrNoNodes if none answered.
func (n *Node) FindNode(ctx context.Context, target ID, opts ...Option) (*NodesResult, error) {
	l := n.newLookup(target, krpc.Message{Method: krpc.MethodFindNode, Target: target, HasTarget: true}, opts)
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	r := &NodesResult{Nodes: l.closest(), Stats: l.stats()}
	if len(r.Nodes) == 0 {
		return r, ErrNoNodes
	}
	return r, nil
}

// Peers looks up the peers of an infohash. No peers is no error; ErrNoNodes if no node answered and none are known
// here.
func (n *Node) Peers(ctx context.Context, infohash ID, opts ...Option) (*PeersResult, error) {
	l, found := n.peersLookup(infohash, opts)
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	r := &PeersResult{
		Peers: found.list, Nodes: l.closest(), Stats: l.stats(),
		Counted: found.counted, Seeds: found.seeds.Estimate(), Downloaders: found.downloaders.Estimate(),
	}
	if len(r.Nodes) == 0 && len(r.Peers) == 0 {
		return r, ErrNoNodes
	}
	return r, nil
}

// maxPeers bounds how many peers one lookup collects.
const maxPeers = 4096

// peerSet is a set of peers in the order of their finding.
type peerSet struct {
	list  []netip.AddrPort
	known map[netip.AddrPort]bool
	ends  []int // of each node's part of the list
	// named is how many nodes of each family, the second index, have named any of each, known or not, and added how many have named
	// some that were not known. A lookup asks a host once in each family, and both addresses of a host with two may answer.
	named [2][2]int
	added [2]int
	// The union of all filters that nodes gave (BEP 33), and how many nodes did.
	seeds, downloaders krpc.BloomFilter
	counted            int
}

func (s *peerSet) add(a netip.AddrPort) {
	ip := a.Addr()
	if a.Port() == 0 || !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.Is4In6() || s.known[a] || len(s.list) == maxPeers {
		return
	}
	s.known[a] = true
	s.list = append(s.list, a)
}

// end ends a node's part, if it has named any that were not known.
func (s *peerSet) end() {
	if n := len(s.ends); len(s.list) > 0 && (n == 0 || s.ends[n-1] < len(s.list)) {
		s.ends = append(s.ends, len(s.list))
	}
}

// sources is how many hosts, at least, have named peers of a family.
func (s *peerSet) sources(f Family) int { return max(s.named[f][IPv4], s.named[f][IPv6]) }

// adders is how many hosts, at least, have named peers that were not known.
func (s *peerSet) adders() int { return max(s.added[IPv4], s.added[IPv6]) }

// mixed returns the peers in turn from each node's part: where not all have room, none that names many crowds out the others'.
func (s *peerSet) mixed() []netip.AddrPort {
	all := make([]netip.AddrPort, 0, len(s.list))
	for i := 0; len(all) < len(s.list); i++ {
		begin := 0
		for _, end := range s.ends {
			if begin+i < end {
				all = append(all, s.list[begin+i])
			}
			begin = end
		}
	}
	return all
}

// count takes in the bloom filters of an answer, if it has them.
func (s *peerSet) count(r *reply) {
	if len(r.BFSeeds) != len(s.seeds) || len(r.BFPeers) != len(s.downloaders) {
		return
	}
	s.seeds.Merge((*krpc.BloomFilter)(r.BFSeeds))
	s.downloaders.Merge((*krpc.BloomFilter)(r.BFPeers))
	s.counted++
}

// addHeld adds the peers that are stored here to a set, of each family at most so many, as if a node had named those of each.
func (n *Node) addHeld(found *peerSet, infohash ID, limit int, noSeeds bool) {
	for f := range n.tables {
		if n.tables[f] == nil || !n.holds(infohash) {
			continue
		}
		peers, err := n.store.Peers(infohash, Family(f) == IPv6, limit, noSeeds, nil)
		if err != nil {
			n.log.Warn("reading peers failed", "infohash", infohash, "error", err)
		}
		for _, p := range peers {
			found.add(p.Addr)
		}
		found.end()
	}
}

// peersLookup prepares a get_peers lookup, which begins with the peers known here.
func (n *Node) peersLookup(infohash ID, opts []Option) (*lookup, *peerSet) {
	l := n.newLookup(infohash, krpc.Message{Method: krpc.MethodGetPeers, InfoHash: infohash, HasInfoHash: true}, opts)
	l.query.NoSeed, l.query.Scrape = l.options.noSeeds, l.options.scrape
	found := &peerSet{known: make(map[netip.AddrPort]bool)}
	n.addHeld(found, infohash, maxPeers, l.options.noSeeds)
	l.progress.Found = len(found.list)
	l.onAnswer = func(c *candidate, r *reply) bool {
		var named [2]int
		before := len(found.list)
		for p := range krpc.Peers(r.Values) {
			if !Usable(p, n.config.Private) { // what is kept here may have any address that it came from
				continue
			}
			found.add(p)
			named[FamilyOf(p.Addr())], l.hit = 1, true
		}
		if c != nil { // else the lookup is over
			by := FamilyOf(c.Addr.Addr())
			for f := range named {
				found.named[f][by] += named[f]
			}
			if len(found.list) > before {
				found.added[by]++
			}
		}
		found.end()
		found.count(r)
		l.progress.Found = len(found.list)
		return false
	}
	return l, found
}

// Announce tells the nodes closest to an infohash that this host is a peer of it. Port 0 stands for the UDP source
// port (implied_port). The error is nil if at least one node stored it.
func (n *Node) Announce(ctx context.Context, infohash ID, port uint16, seed bool, opts ...Option) (*StoreResult, error) {
	l, _ := n.peersLookup(infohash, opts)
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	m := announceOf(infohash, port, seed)
	if l.options.keep {
		n.announces.add(ownAnnounce{infohash, port, seed})
	}
	defer n.forgetPeers(infohash)
	return l.write(ctx, m, func(f Family) error {
		addr := n.external[f].address()
		if !addr.IsValid() {
			return errNoAddress
		}
		peer := netip.AddrPortFrom(addr, port)
		if port == 0 {
			peer = netip.AddrPortFrom(addr, n.primary[f].conn.LocalAddr().Port())
		}
		return n.keepPeer(infohash, peer, seed, netip.Addr{})
	})
}

// announceOf returns the query that announces a port of this host, 0 for the UDP source port.
func announceOf(infohash ID, port uint16, seed bool) krpc.Message {
	return krpc.Message{
		Method: krpc.MethodAnnouncePeer, InfoHash: infohash, HasInfoHash: true,
		Port: port, HasPort: true, ImpliedPort: port == 0, HasImpliedPort: true, Seed: seed, HasSeed: true,
	}
}
