package bpf

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"kdht/bpf/limit"
)

// SetLimits makes c what sources are held to. Until then, nothing is limited. What sources have used up and proved stays. More
// exempt prefixes than the map has room for are an [ErrLimits], which changes nothing.
func (p *Program) SetLimits(c limit.Config) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	want := map[kdhtPrefix]uint8{}
	for _, e := range c.Exempt {
		if !e.IsValid() {
			return fmt.Errorf("%w: %v is no prefix", ErrLimits, e)
		}
		if coversIPv4(e) {
			want[exemptKey(allIPv4)] = 0
		}
	}
	for _, e := range c.Exempt {
		want[exemptKey(e)] = 1
	}
	if max := int(p.objs.Exempt.MaxEntries()); len(want) > max {
		return fmt.Errorf("%w: %d exempt prefixes are more than %d", ErrLimits, len(want), max)
	}
	var gone []kdhtPrefix
	var key kdhtPrefix
	var value uint8
	it := p.objs.Exempt.Iterate()
	for it.Next(&key, &value) {
		if _, ok := want[key]; !ok {
			gone = append(gone, key)
		}
	}
	if err := it.Err(); err != nil {
		return classify("list exempt prefixes", err)
	}
	for _, k := range gone {
		if err := p.objs.Exempt.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return classify("remove an exempt prefix", err)
		}
	}
	for k, yes := range want {
		if err := p.objs.Exempt.Put(k, yes); err != nil {
			return classify("add an exempt prefix", err)
		}
	}
	s, params := &p.settings, c.Params()
	s.Interval, s.Window, s.GrowthCost, s.UnprovenCost = params.Interval, params.Window, params.GrowthCost, params.UnprovenCost
	s.QueryCost, s.QueryWindow = params.QueryCost, params.QueryWindow
	s.Cookie = siphashState(c.Secret)
	return p.putSettings()
}

// allIPv4 is every IPv4 address.
var allIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// coversIPv4 reports whether a prefix of IPv6 addresses holds the IPv4-mapped ones, as ::/0 does. IPv4 addresses are not meant by it,
// but in the tables of prefixes they have that form.
func coversIPv4(p netip.Prefix) bool {
	mapped := netip.AddrFrom16(netip.IPv4Unspecified().As16())
	return !p.Addr().Is4() && p.Bits() < 96 && p.Contains(mapped)
}

// exemptKey lays out a prefix as the C code looks for addresses, in IPv4-mapped form.
func exemptKey(e netip.Prefix) kdhtPrefix {
	e = limit.Canonical(e)
	k := kdhtPrefix{Bits: uint32(e.Bits()), Addr: e.Addr().As16()}
	if e.Addr().Is4() {
		k.Bits += 96
	}
	return k
}

// Prove tells the program that somebody has proved to be at an address, with all that counts as the same source: another
// way than by a challenge of the program's own, which it has learnt by itself.
func (p *Program) Prove(a netip.Addr) error { return p.setProof(a, (*limit.Set).Prove) }

// Expect tells the program that a query was sent to an address: a reply goes up for 10 s, whatever the limits.
func (p *Program) Expect(a netip.Addr) error { return p.setProof(a, (*limit.Set).Expect) }

// setProof changes what is known of the proof of a source. A proof that the program writes into the same set at the same
// moment may be lost; the source will be challenged again then.
func (p *Program) setProof(a netip.Addr, change func(*limit.Set, limit.Hash, limit.Time) bool) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	p.proving.Lock()
	defer p.proving.Unlock()
	if p.parted {
		return ErrClosed
	}
	h := limit.HashOf(p.seed, a)
	var set limit.Set
	if err := p.objs.Proofs.Lookup(h.Set(), &set); err != nil {
		return classify("read proofs", err)
	}
	if !change(&set, h, limit.Time(now)) {
		return nil
	}
	return classify("write a proof", p.objs.Proofs.Put(h.Set(), &set))
}
