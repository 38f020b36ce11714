package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// What an endpoint is, see enum endpoint_kind in maps.h.
const (
	endpointOurs = iota + 1
	endpointMany
)

// SetEndpoints makes addrs the addresses and ports whose datagrams are ours; all others pass. They are exact unicast
// addresses; IPv4-mapped ones count as IPv4, and zones are ignored. many are those by which sockets of ours hear what is for many:
// addresses of broadcasts, and unspecified addresses, which stand for all groups of their family and the broadcast to everybody. What comes
// there is not answered, and goes up within the limits. An [ErrEndpoint] changes nothing.
func (p *Program) SetEndpoints(addrs []netip.AddrPort, many ...netip.AddrPort) error {
	want := map[kdhtEndpoint]uint32{}
	var likely [2]kdhtEndpoint
	var ports uint64
	for _, a := range addrs {
		addr := a.Addr().Unmap()
		if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || a.Port() == 0 || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return fmt.Errorf("%w: %v", ErrEndpoint, a)
		}
		e := endpointKey(addr, a.Port())
		want[e] = endpointOurs
		ports |= 1 << (e.Port % 64)
		if f := familyOf(addr); likely[f] == (kdhtEndpoint{}) {
			likely[f] = e
		}
	}
	for _, a := range many {
		if !a.Addr().IsValid() || a.Port() == 0 {
			return fmt.Errorf("%w: %v", ErrEndpoint, a)
		}
		if e := endpointKey(a.Addr().Unmap(), a.Port()); want[e] == 0 {
			want[e] = endpointMany
			ports |= 1 << (e.Port % 64)
		}
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if max := int(p.objs.Endpoints.MaxEntries()); len(want) > max {
		return fmt.Errorf("%w: %d are more than %d", ErrEndpoint, len(want), max)
	}
	var gone []kdhtEndpoint
	var key kdhtEndpoint
	var value uint32
	for it := p.objs.Endpoints.Iterate(); it.Next(&key, &value); {
		if want[key] == 0 {
			gone = append(gone, key)
		}
	}
	for _, e := range gone {
		if err := p.objs.Endpoints.Delete(e); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return classify("remove an endpoint", err)
		}
	}
	for e, kind := range want {
		if err := p.objs.Endpoints.Put(e, kind); err != nil {
			return classify("add an endpoint", err)
		}
	}
	p.settings.Endpoint, p.settings.Ports = likely, ports
	return p.putSettings()
}

// endpointKey lays out an address and port as they are on the wire, in the C code's little-endian view.
func endpointKey(addr netip.Addr, port uint16) kdhtEndpoint {
	a := addr.As16()
	return kdhtEndpoint{
		Addr: [2]uint64{binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])},
		Port: uint64(port>>8 | port<<8),
	}
}

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return ipv4
	}
	return ipv6
}

// Renew lets the program answer for d from now (CLOCK_MONOTONIC, exact to some milliseconds); without renewal it then
// passes everything. So the kernel half of a process that died or hangs falls silent, and what it would have answered
// goes to whoever listens. Zero or less ends the lease at once.
func (p *Program) Renew(d time.Duration) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	p.settings.Lease = 0
	if d > 0 {
		p.settings.Lease = now + uint64(d)
	}
	return p.putSettings()
}
