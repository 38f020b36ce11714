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
	// same family, which need not be the client's. All but the last have answered with referrals, and End says what became of that one.
	Asked []Node
	End   End
	// Referral is what the last that has answered referred to, at most 11 nodes.
	Referral []Node
	// Transaction is the transaction ID of the query to the last node asked, and Sent says how long ago that was.
	Transaction [4]byte
	Sent        time.Duration
}

// End says whether a path has come to nothing.
type End uint8

// The ways in which a path can end, as in the program's enum end.
const (
	// GoesOn: the last node has not answered yet.
	GoesOn End = iota
	// NobodyCloser: the last node has answered, and named nobody who could be asked next.
	NobodyCloser
	// Failed: the last node has answered with an error, or under another ID than it was said to have.
	Failed
)

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
//
// Before the other paths are ended, which takes a while, answer is called with what is known without them, and reports whether
// the client has its answer; then nobody waits for what is still to come on those. It must not call the program. Nil: it has not.
func (p *Program) TakeRecursion(tid []byte, from netip.AddrPort, answer func(*Recursion) bool) (r Recursion, ok bool, err error) {
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
	if End(state.Ended) != GoesOn {
		return r, false, nil // its last node says again what ended it
	}
	if n := int(state.Hops); n == 0 || n > MaxHops || addrPort(state.Asked[n-1].Addr, state.Asked[n-1].Port) != netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) {
		return r, false, nil
	}
	return p.take(key, answer, false)
}

// take takes a recursion out of the maps by the transaction ID of one of its paths, whose answer is to be awaited or is at hand.
// p.taking is held.
func (p *Program) take(key uint32, answer func(*Recursion) bool, await bool) (r Recursion, ok bool, err error) {
	var state kdhtRecursion
	ok, err = p.takePath(key, &state, await)
	if err != nil || !ok {
		return r, false, err
	}
	now, err := monotonic()
	if err != nil {
		return r, false, err
	}
	r = decodeRecursion(&state, now)
	r.Path = decodePath(key, &state, now)
	answered := answer != nil && answer(&r)
	others, err := p.takeOthers(&state, !answered)
	if err != nil {
		return r, answered, err
	}
	for transaction, state := range others {
		r.Others = append(r.Others, decodePath(transaction, state, now))
	}
	return r, true, nil
}

// takePath takes a path out of the map; ok is false if the program has gone on with it meanwhile, or another call has it. With await
// the answer to its last query, if it is still to come, goes up from now on.
func (p *Program) takePath(key uint32, state *kdhtRecursion, await bool) (ok bool, err error) {
	if await { // before the program knows the query no more
		if err := p.objs.Awaited.Put(key, uint32(1)); err != nil {
			return false, classify("wait for an answer", err)
		}
	}
	err = p.objs.Pending.LookupAndDelete(key, state)
	ok = err == nil
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	if await && (!ok || End(state.Ended) != GoesOn) {
		err = errors.Join(err, p.dismiss(key))
	}
	return ok, classify("take over a recursion", err)
}

// dismiss has the program leave out the answer to a query.
func (p *Program) dismiss(key uint32) error {
	err := p.objs.Awaited.Delete(key)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Dismiss says that nobody waits any more for the answer to the last query on a path that was taken over: if it still comes, the
// program drops it. Until then it passes it, without [Program.TakeRecursion] knowing of it.
func (p *Program) Dismiss(tid [4]byte) error {
	p.taking.Lock()
	defer p.taking.Unlock()
	if p.left {
		return ErrClosed
	}
	return classify("dismiss an answer", p.dismiss(binary.LittleEndian.Uint32(tid[:])))
}

// takeOthers takes the other paths of a recursion, by transaction ID, has the program pass the client's query up, should it come
// again, and makes room for others of the client.
func (p *Program) takeOthers(state *kdhtRecursion, await bool) (map[uint32]*kdhtRecursion, error) {
	key := joinKey(state)
	var j kdhtJoin
	others := map[uint32]*kdhtRecursion{}
	var looked [MaxPaths]uint32 // for what was not there
	var failed error            // the rest is taken all the same, so that nobody else answers the client
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
			ok, err := p.takePath(transaction, other, await)
			switch {
			case err != nil:
				failed = errors.Join(failed, err)
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
		err = nil
	}
	return others, errors.Join(failed, classify("mark a client's query", err))
}

// SetPatience tells the program how long it may take a node to answer, as [Program.TakeOverdue] is told: where a path ends while
// the nodes of all others are late, the recursion goes up at once. Zero: however long.
func (p *Program) SetPatience(hop time.Duration) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if p.settings.Patience == uint64(max(hop, 0)) {
		return nil
	}
	p.settings.Patience = uint64(max(hop, 0))
	return p.putSettings()
}

// UnderWay are the recursions that go on.
type UnderWay struct {
	Count int
	// Next is how long it takes until the first of them is overdue, unless an answer comes before; it may have been less. Zero: there are
	// none, or it is not known.
	Next time.Duration
}

// TakeOverdue ends the recursions on none of whose paths a node was asked within the last hop that may still answer, and those
// that have begun longer than whole ago, and returns what was known of them, and which others are under way. One node that is
// late does not end a recursion that goes on elsewhere.
//
// One that begins after a call is overdue no sooner than a hop later. So who goes on calling this once a hop, and when the first is
// overdue, takes every one over just in time, but for one that a call may miss because it goes on just then: the next one sees it.
func (p *Program) TakeOverdue(hop, whole time.Duration) (overdue []Recursion, others UnderWay, err error) {
	now, err := monotonic()
	if err != nil {
		return nil, others, err
	}
	p.taking.Lock()
	defer p.taking.Unlock()
	if p.left {
		return nil, others, ErrClosed
	}
	hop, whole = max(hop, 0), max(whole, 0)
	since := now - min(now, uint64(hop))
	var late map[uint32]*kdhtRecursion
	var under map[recursionKey]uint64 // those under way, and when they are overdue
	var key uint32
	var state kdhtRecursion
	it := p.objs.Pending.Iterate()
	for it.Next(&key, &state) {
		if late == nil { // mostly there are none
			late, under = map[uint32]*kdhtRecursion{}, map[recursionKey]uint64{}
		}
		switch {
		case state.Begun+uint64(whole) <= now:
			late[key] = nil
		case End(state.Ended) != GoesOn: // it is taken over with the others
		case state.Sent <= since:
			s := state
			late[key] = &s
		default:
			k := keyOf(&state)
			under[k] = min(max(under[k], state.Sent+uint64(hop)), state.Begun+uint64(whole))
		}
	}
	// When elements go meanwhile the walk may begin again or end early: what it missed is there the next time.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, others, classify("list the recursions", err)
	} else if err != nil {
		others.Count++
	}
	for key, state := range late {
		if state != nil {
			if _, goesOn := under[keyOf(state)]; goesOn {
				continue
			}
			// The walk sees no one moment: a path may have gone on meanwhile.
			if goesOn, err := p.goesOn(state, since); err != nil {
				return overdue, others, err
			} else if goesOn {
				under[keyOf(state)] = min(now+uint64(hop), state.Begun+uint64(whole))
				continue
			}
		}
		r, ok, err := p.take(key, nil, true)
		if err != nil {
			return overdue, others, err
		}
		if !ok { // it has gone on meanwhile, perhaps where the walk had been
			others.Count++
			continue
		}
		for i := range r.Others { // their answers are waited for
			delete(late, binary.LittleEndian.Uint32(r.Others[i].Transaction[:]))
		}
		overdue = append(overdue, r)
	}
	for _, due := range under {
		if wait := time.Duration(due - now); others.Next == 0 || wait < others.Next {
			others.Next = wait
		}
	}
	if others.Count > 0 {
		others.Next = 0
	}
	others.Count += len(under)
	return overdue, others, nil
}

// recursionKey tells recursions apart.
type recursionKey struct {
	join  kdhtJoinKey
	begun uint64
}

func keyOf(state *kdhtRecursion) recursionKey { return recursionKey{joinKey(state), state.Begun} }

// joinKey finds what the paths of a recursion have in common: in the slots of an IPv4 address or an IPv6 /64.
func joinKey(state *kdhtRecursion) kdhtJoinKey {
	key := kdhtJoinKey{Addr: state.Client, Slot: uint64(state.Slot)}
	if key.Addr[0] != 0 {
		key.Addr[1] = 0
	}
	return key
}

// goesOn reports whether there is another path of a recursion on which a node was asked since then that may still answer.
func (p *Program) goesOn(state *kdhtRecursion, since uint64) (bool, error) {
	var j kdhtJoin
	err := p.objs.Joins.Lookup(joinKey(state), &j)
	if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && (j.Begun != state.Begun || j.Taken != 0) { // forgotten for others, or taken this moment
		return false, nil
	}
	if err != nil {
		return false, classify("look for a client's query", err)
	}
	for i, transaction := range j.Transaction {
		if transaction == 0 || i == int(state.Path) {
			continue
		}
		var other kdhtRecursion
		err := p.objs.Pending.Lookup(transaction, &other)
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist): // a reply has come this moment
			return true, nil
		case err != nil:
			return false, classify("look for a recursion", err)
		case End(other.Ended) == GoesOn && other.Sent > since:
			return true, nil
		}
	}
	return false, nil
}

// Recursions calls f when recursions have begun, until ctx ends, and then returns nil, or until the
// program is closed, which is an [ErrClosed]. Nobody is woken by those that begin while f runs: it is called once more for all of them.
func (p *Program) Recursions(ctx context.Context, f func()) error {
	return p.records(ctx, p.objs.Begun, "hear of recursions", func(r *ringbuf.Record) {
		if r.Remaining == 0 {
			f()
		}
	})
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
	r.Sent, r.End = time.Duration(now-s.Sent), End(s.Ended)
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
