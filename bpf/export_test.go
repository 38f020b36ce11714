package bpf

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cilium/ebpf"

	"kdht/bpf/limit"
)

// ReadHitsApart has the counters of hot keys read one by one, as on kernels that cannot read them together.
func (p *Program) ReadHitsApart() { p.hot.apart = true }

// HitsApart reports whether they are.
func (p *Program) HitsApart() bool { return p.hot.apart }

// AgeSightings makes all that the program remembers of sightings older by about that many seconds.
func (p *Program) AgeSightings(seconds uint32) error {
	return p.shiftSightings(func(units uint64) uint64 { return units - min(units, uint64(seconds)*1e9>>30) })
}

// AdvanceSightings makes all that the program remembers of sightings come from a clock that is units of 2^30 ns ahead.
func (p *Program) AdvanceSightings(units uint32) error {
	return p.shiftSightings(func(old uint64) uint64 { return old + uint64(units) })
}

// shiftSightings changes the times of all that the program remembers of sightings.
func (p *Program) shiftSightings(shift func(units uint64) uint64) error {
	n := int(p.objs.Seen.MaxEntries())
	keys, values := make([]uint32, n), make([]uint64, n)
	var cursor ebpf.MapBatchCursor
	if _, err := p.objs.Seen.BatchLookup(&cursor, keys, values, nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	for i, v := range values {
		if v > 0 {
			values[i] = shift(v>>32)<<32 | v&0xffffffff
		}
	}
	_, err := p.objs.Seen.BatchUpdate(keys, values, nil)
	return err
}

// RunGeneric is Run of the variant for generic mode.
func (p *Program) RunGeneric(frame []byte) (verdict uint32, out []byte, err error) {
	p.mu.Lock()
	prog, err := p.variant(ModeGeneric)
	p.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+2048)}
	verdict, err = prog.Run(&opts)
	return verdict, opts.DataOut, err
}

// RunWithMetadata is Run where n bytes of the headroom, a multiple of 4, are taken by the driver's metadata.
func (p *Program) RunWithMetadata(n int, frame []byte) (verdict uint32, out []byte, err error) {
	var ctx, ctxOut struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }
	ctx.Data, ctx.DataEnd = uint32(n), uint32(n+len(frame))
	opts := ebpf.RunOptions{
		Data: append(make([]byte, n), frame...), DataOut: make([]byte, n+len(frame)+2048),
		Context: &ctx, ContextOut: &ctxOut,
	}
	verdict, err = p.objs.Kdht.Run(&opts)
	if err != nil {
		return 0, nil, err
	}
	return verdict, opts.DataOut[ctxOut.Data:ctxOut.DataEnd], nil
}

// Time runs the program once on a frame, and returns how long it took by the kernel's own clock.
func (p *Program) Time(frame []byte) (verdict uint32, took time.Duration, err error) {
	return p.objs.Kdht.Benchmark(frame, 1, nil)
}

// PendingTID returns the transaction ID of the one recursion under way.
func (p *Program) PendingTID() (tid []byte, err error) {
	var key uint32
	if err := p.objs.Pending.NextKey(nil, &key); err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint32(nil, key), nil
}

// AgePath makes the query of the program with that transaction ID older.
func (p *Program) AgePath(tid []byte, by time.Duration) error {
	var state kdhtRecursion
	key := binary.LittleEndian.Uint32(tid)
	if err := p.objs.Pending.Lookup(key, &state); err != nil {
		return err
	}
	state.Sent -= uint64(by)
	return p.objs.Pending.Update(key, &state, ebpf.UpdateExist)
}

// Seed is the key of the hash of sources.
func (p *Program) Seed() uint64 { return p.seed }

// Sources is a set of the table of sources.
func (p *Program) Sources(set uint32) (s limit.Set, err error) {
	return s, p.objs.Sources.Lookup(set, &s)
}

// SetSources replaces a set.
func (p *Program) SetSources(set uint32, s limit.Set) error { return p.objs.Sources.Put(set, &s) }

// Proofs is a set of the table of proofs.
func (p *Program) Proofs(set uint32) (s limit.Set, err error) {
	return s, p.objs.Proofs.Lookup(set, &s)
}

// SetProofs replaces a set of it.
func (p *Program) SetProofs(set uint32, s limit.Set) error { return p.objs.Proofs.Put(set, &s) }

// Destinations is a set of the table of destinations.
func (p *Program) Destinations(set uint32) (s limit.Set, err error) {
	return s, p.objs.Destinations.Lookup(set, &s)
}

// PutDestinations replaces a set.
func (p *Program) PutDestinations(set uint32, s limit.Set) error {
	return p.objs.Destinations.Put(set, &s)
}

// SetDestinations replaces the table.
func (p *Program) SetDestinations(t *limit.Table) error {
	for i := range t {
		if err := p.objs.Destinations.Put(uint32(i), &t[i]); err != nil {
			return err
		}
	}
	return nil
}

// ForgetSources makes the program forget all sources, what they sent and proved, and what all together have used up.
func (p *Program) ForgetSources() error {
	for _, m := range []*ebpf.Map{p.objs.Sources, p.objs.Proofs} {
		slots := make([]uint32, m.MaxEntries())
		for i := range slots {
			slots[i] = uint32(i)
		}
		if _, err := m.BatchUpdate(slots, make([]limit.Set, len(slots)), nil); err != nil {
			return err
		}
	}
	return p.SetBudgets(0)
}

// Growth is the budget for replies that are longer than their queries.
func (p *Program) Growth() (limit.Budget, error) {
	var b kdhtBudget
	err := p.objs.Budgets.Lookup(uint32(0), &b)
	return limit.Budget(b.Growth), err
}

// SetBudgets sets what is used up of all budgets but that of queries for clients, of which nothing is.
func (p *Program) SetBudgets(b limit.Budget) error {
	return p.objs.Budgets.Put(uint32(0), &kdhtBudget{Growth: uint64(b), Unproven: uint64(b), Trusted: uint64(b)})
}

// SpendUnproven uses up what unproven sources may pass up, and SpendTrusted what those may that are exempt or clients.
func (p *Program) SpendUnproven() error {
	return p.spend(func(b *kdhtBudget) { b.Unproven = 1 << 62 })
}

func (p *Program) SpendTrusted() error {
	return p.spend(func(b *kdhtBudget) { b.Trusted = 1 << 62 })
}

func (p *Program) spend(f func(*kdhtBudget)) error {
	var b kdhtBudget
	if err := p.objs.Budgets.Lookup(uint32(0), &b); err != nil {
		return err
	}
	f(&b)
	return p.objs.Budgets.Put(uint32(0), &b)
}

// Clock is the time that the program has read last on a CPU.
func (p *Program) Clock(cpu int) (limit.Time, error) {
	var all []kdhtScratch
	if err := p.objs.Scratch.Lookup(uint32(0), &all); err != nil {
		return 0, err
	}
	return limit.Time(all[cpu].Time), nil
}

// SetLauncher says whether recursions that begin at an interface have several paths.
func (p *Program) SetLauncher(ifindex int, on bool) error {
	if on {
		return p.objs.Launchers.Put(uint32(ifindex), uint32(1))
	}
	err := p.objs.Launchers.Delete(uint32(ifindex))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Launches says whether recursions that begin at an interface have several paths.
func (p *Program) Launches(ifindex int) (bool, error) {
	var on uint32
	err := p.objs.Launchers.Lookup(uint32(ifindex), &on)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return on != 0, err
}

// TimeLauncher runs the launcher n times on a frame that is none of its notes, and returns what it says and how long it took each time by
// the kernel's own clock.
func (p *Program) TimeLauncher(frame []byte, n int) (verdict uint32, took time.Duration, err error) {
	return p.objs.KdhtLaunch.Benchmark(frame, n, nil)
}

// LaunchNote is the type of the frame that says that there are queries to be launched; their key follows it.
const LaunchNote = 0x88b5

// TakeFlight returns the frames that a note tells of, the interfaces by which they leave, and forgets them.
func (p *Program) TakeFlight(key []byte) (frames [][]byte, ifindexes []uint32, err error) {
	var f kdhtFlight
	if err := p.objs.Flights.LookupAndDelete(binary.LittleEndian.Uint32(key), &f); err != nil {
		return nil, nil, err
	}
	for _, l := range f.Launch[:f.Count] {
		frames, ifindexes = append(frames, l.Frame[:l.Len]), append(ifindexes, l.Ifindex)
	}
	return frames, ifindexes, nil
}
