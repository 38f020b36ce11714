package bpf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// MaxHops is how many nodes a recursion of the kernel half asks at most one after the other, and MaxPaths on how many paths
// at the same time, where it can (see [Attachment]).
const (
	MaxHops  = 12
	MaxPaths = len(kdhtJoin{}.Transaction)
)

// joinLife is how long a recursion lasts at most, whatever becomes of it.
const joinLife = 20 * time.Second

// KernelTransaction reports whether a transaction ID of ours is one of the kernel half: they have 4 bytes, and in the
// first the highest bit is set. User space uses others.
func KernelTransaction(tid []byte) bool { return len(tid) == 4 && tid[0]&0x80 != 0 }

// Recursion is what the kernel half knows of a client's query that it has sent on, at the moment when it was taken
// over.
type Recursion struct {
	// Client asked, at the address Entry of ours, with the transaction ID TID.
	Client, Entry netip.AddrPort
	TID           []byte
	// Method is "find_node", "get_peers" or "get", and Target its target or infohash.
	Method string
	Target [20]byte
	// Seq is the "seq" of a get, if HasSeq.
	Seq    int64
	HasSeq bool
	// Want4 and Want6 are what "want" said; neither: nothing.
	Want4, Want6 bool
	// Begun says how long ago the query came.
	Begun time.Duration
	// Path is the one that was taken over, and Others are those that were under way beside it, or had ended.
	Path
	Others []Path
}

// Path is one of the ways on which a recursion goes from node to node. No node is on two.
type Path struct {
	// Asked are the nodes that were asked, each closer to the target than the one before, from addresses of ours of the
	// same family, which need not be the client's. All but the last have answered, and that one as well if the path has Ended:
	// it named nobody who could be asked next.
	Asked []Node
	Ended bool
	// Referral is what the last that has answered referred to, at most 11 nodes.
	Referral []Node
	// Transaction is the transaction ID of the query to the last node asked, and Sent says how long ago that was.
	Transaction [4]byte
	Sent        time.Duration
}

// Node is a node's ID and address.
type Node struct {
	ID   [20]byte
	Addr netip.AddrPort
}

var methods = map[uint8]string{2: "find_node", 3: "get_peers", 4: "get"} // enum method

// SetClients makes prefixes those of the clients for which recursion is done. To others, a query that asks for it is
// like any other. IPv4-mapped prefixes count as IPv4. None: nobody's.
func (p *Program) SetClients(prefixes []netip.Prefix) error {
	want := map[kdhtRouteKey]uint32{}
	want[prefixKey(allIPv4)] = 0 // unless they are named: ::/0 does not mean them, but has their IPv4-mapped form
	for _, prefix := range prefixes {
		want[prefixKey(prefix)] = 1
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return replaceAll(p.objs.Clients, want, "tell who gets recursion")
}

// AllowRecursion lets the program begin recursions for d from now, as [Program.Renew] lets it answer. It is for who takes
// over what becomes of them: [Program.TakeRecursion] for the datagrams that come up, [Program.TakeOverdue] for what is
// late. Zero or less: it begins none, and the queries go up.
func (p *Program) AllowRecursion(d time.Duration, private bool) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	p.settings.Recursion, p.settings.PrivateNetwork = 0, 0
	if d > 0 {
		p.settings.Recursion = now + uint64(d)
	}
	if private {
		p.settings.PrivateNetwork = 1
	}
	return p.putSettings()
}

// TakeRecursion ends the recursion one of whose last queries has that transaction ID and went to that address, and returns
// what was known of it; ok is false if there is none. Whoever gets it goes on with it: nobody else does.
func (p *Program) TakeRecursion(tid []byte, from netip.AddrPort) (r Recursion, ok bool, err error) {
	if !KernelTransaction(tid) {
		return r, false, nil
	}
	p.taking.Lock()
	defer p.taking.Unlock()
	if p.left {
		return r, false, ErrClosed
	}
	key := binary.LittleEndian.Uint32(tid)
	var state kdhtRecursion
	switch err := p.objs.Pending.Lookup(key, &state); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return r, false, nil
	case err != nil:
		return r, false, classify("look for a recursion", err)
	}
	if state.Ended != 0 {
		return r, false, nil // its last node says again what ended it
	}
	if n := int(state.Hops); n == 0 || n > MaxHops || addrPort(state.Asked[n-1].Addr, state.Asked[n-1].Port) != netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) {
		return r, false, nil
	}
	return p.take(key)
}

// take takes a recursion out of the maps by the transaction ID of one of its paths. p.taking is held.
func (p *Program) take(key uint32) (r Recursion, ok bool, err error) {
	var state kdhtRecursion
	ok, err = p.takePath(key, &state)
	if err != nil || !ok {
		return r, false, err
	}
	others, err := p.takeOthers(&state)
	if err != nil {
		return r, false, err
	}
	now, err := monotonic()
	if err != nil {
		return r, false, err
	}
	r = decodeRecursion(&state, now)
	r.Path = decodePath(key, &state, now)
	for transaction, state := range others {
		r.Others = append(r.Others, decodePath(transaction, state, now))
	}
	return r, true, nil
}

// takePath takes a path out of the map; ok is false if the program has gone on with it meanwhile, or another call has it.
func (p *Program) takePath(key uint32, state *kdhtRecursion) (ok bool, err error) {
	err = p.objs.Pending.LookupAndDelete(key, state)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return err == nil, classify("take over a recursion", err)
}

// takeOthers takes the other paths of a recursion, by transaction ID, has the program pass the client's query up, should it come
// again, and makes room for others of the client.
func (p *Program) takeOthers(state *kdhtRecursion) (map[uint32]*kdhtRecursion, error) {
	key := kdhtJoinKey{Addr: state.Client, Slot: uint64(state.Slot)}
	var j kdhtJoin
	others := map[uint32]*kdhtRecursion{}
	var looked [MaxPaths]uint32 // for what was not there
	for {
		err := p.objs.Joins.Lookup(key, &j)
		if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && j.Begun != state.Begun { // forgotten for others
			return others, nil
		}
		if err != nil {
			return nil, classify("look for a client's query", err)
		}
		more := false
		for i, transaction := range j.Transaction {
			if transaction == 0 || i == int(state.Path) || looked[i] == transaction {
				continue
			}
			looked[i] = transaction
			other := new(kdhtRecursion)
			ok, err := p.takePath(transaction, other)
			switch {
			case err != nil:
				return nil, err
			case ok:
				others[transaction] = other
			default: // a reply has come meanwhile: what follows it is in the map already
				more = true
			}
		}
		if !more {
			break
		}
	}
	j.Taken = 1
	err := p.objs.Joins.Update(key, j, ebpf.UpdateExist)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return others, nil
	}
	return others, classify("mark a client's query", err)
}

// TakeOverdue ends all recursions of which a node was asked longer than budget ago, and has not answered, and returns what was
// known of them, and on how many paths others are under way.
func (p *Program) TakeOverdue(budget time.Duration) (overdue []Recursion, others int, err error) {
	now, err := monotonic()
	if err != nil {
		return nil, 0, err
	}
	p.taking.Lock()
	defer p.taking.Unlock()
	if p.left {
		return nil, 0, ErrClosed
	}
	var late []uint32
	var key uint32
	var state kdhtRecursion
	it := p.objs.Pending.Iterate()
	for it.Next(&key, &state) {
		switch {
		case state.Ended != 0 && state.Sent+uint64(joinLife) > now: // it is taken over with the others
		case state.Sent+uint64(max(budget, 0)) <= now:
			late = append(late, key)
		default:
			others++
		}
	}
	// When elements go meanwhile the walk may begin again or end early: what it missed is there the next time.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, 0, classify("list the recursions", err)
	} else if err != nil {
		others++
	}
	for _, key := range late {
		r, ok, err := p.take(key)
		if err != nil {
			return overdue, others, err
		}
		if ok {
			overdue = append(overdue, r)
		}
	}
	return overdue, others, nil
}

// Watch tells the program whether somebody calls [Program.TakeOverdue] anyway. If not, [Program.Recursions] says when a
// recursion begins.
func (p *Program) Watch(on bool) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	p.settings.Watching = 0
	if on {
		p.settings.Watching = 1
	}
	return p.putSettings()
}

// Recursions calls f when recursions have begun while nobody watched, until ctx ends, and then returns nil, or until the
// program is closed, which is an [ErrClosed].
func (p *Program) Recursions(ctx context.Context, f func()) error {
	return p.records(ctx, p.objs.Begun, "hear of recursions", func(*ringbuf.Record) { f() })
}

func decodeRecursion(s *kdhtRecursion, now uint64) Recursion {
	r := Recursion{
		Client: addrPort(s.Client, s.ClientPort), Entry: addrPort(s.Entry, s.EntryPort), Method: methods[s.Method],
		Want4: s.Want&1 != 0, Want6: s.Want&2 != 0, Begun: time.Duration(now - s.Begun),
	}
	if s.Flags&2 != 0 { // FLAG_SEQ
		r.Seq, r.HasSeq = int64(s.Seq), true
	}
	var tid [24]byte
	for i, w := range s.Tid {
		binary.LittleEndian.PutUint64(tid[8*i:], w)
	}
	r.TID = append(r.TID, tid[:min(int(s.TidLen), 20)]...)
	var target [24]byte
	for i, w := range s.Target {
		binary.BigEndian.PutUint64(target[8*i:], w)
	}
	r.Target = [20]byte(target[:20])
	return r
}

func decodePath(transaction uint32, s *kdhtRecursion, now uint64) (r Path) {
	binary.LittleEndian.PutUint32(r.Transaction[:], transaction)
	r.Sent, r.Ended = time.Duration(now-s.Sent), s.Ended != 0
	for _, a := range s.Asked[:min(int(s.Hops), MaxHops)] {
		r.Asked = append(r.Asked, Node{a.Id, addrPort(a.Addr, a.Port)})
	}
	size := 26
	if s.V6 != 0 {
		size = 38
	}
	for b := s.Referral[:min(int(s.ReferralLen), len(s.Referral))]; len(b) >= size; b = b[size:] {
		addr, _ := netip.AddrFromSlice(b[20 : size-2])
		r.Referral = append(r.Referral, Node{[20]byte(b), netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[size-2:]))})
	}
	return r
}

// addrPort reads an address and port that are as on the wire, in the C code's little-endian view.
func addrPort(addr [2]uint64, port uint16) netip.AddrPort {
	var a [16]byte
	binary.LittleEndian.PutUint64(a[:8], addr[0])
	binary.LittleEndian.PutUint64(a[8:], addr[1])
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port>>8|port<<8)
}

// wireAddr is an address as it is on the wire, in the C code's little-endian view; zeros for none.
func wireAddr(addr netip.Addr) [2]uint64 {
	if !addr.IsValid() {
		return [2]uint64{}
	}
	a := addr.As16()
	return [2]uint64{binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])}
}

// prefixKey lays out a prefix as a key.
func prefixKey(p netip.Prefix) kdhtRouteKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	a := wireAddr(p.Masked().Addr())
	return kdhtRouteKey{PrefixLen: uint32(bits), Addr: [4]uint32{uint32(a[0]), uint32(a[0] >> 32), uint32(a[1]), uint32(a[1] >> 32)}}
}

// replaceAll makes want the content of a map. What is in both is never missing from it.
func replaceAll[K, V comparable](m *ebpf.Map, want map[K]V, op string) error {
	if max := int(m.MaxEntries()); len(want) > max {
		return fmt.Errorf("%s: %d are more than %d", op, len(want), max)
	}
	var gone []K
	same := map[K]bool{}
	var key K
	var value V
	it := m.Iterate()
	for it.Next(&key, &value) {
		if v, ok := want[key]; !ok {
			gone = append(gone, key)
		} else if v == value {
			same[key] = true
		}
	}
	if err := it.Err(); err != nil {
		return classify(op, err)
	}
	for _, k := range gone {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return classify(op, err)
		}
	}
	for k, v := range want {
		if same[k] {
			continue
		}
		if err := m.Put(k, v); err != nil {
			return classify(op, err)
		}
	}
	return nil
}

// monotonic is CLOCK_MONOTONIC, which the program reads, in ns.
func monotonic() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the monotonic clock: %w", err)
	}
	return uint64(now.Nano()), nil
}
