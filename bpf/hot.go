package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// hotBytes is the memory of the hot map if the configuration does not say.
	hotBytes = 4 << 20
	// What a place may be marked with, see enum place in maps.h.
	hotLarge     = 1 << 31
	hotRecursive = 1 << 30
	hotPlain     = 1 << 29
	// maxHotPeers is how many peers an entry has room for; a reply has room for 115 at most.
	maxHotPeers = 115
)

// Errors of the hot map.
var (
	// ErrNoHot says that the hot map has no room for an entry, or none for its key.
	ErrNoHot = errors.New("no room in the hot map")
	// ErrNoHotKey is the ErrNoHot that no other entry of the hot map could make room for: of the keys held here, which all hot keys are
	// among for the program, it does not know all, or knows as many as it can.
	ErrNoHotKey = fmt.Errorf("%w for a key", ErrNoHot)
)

// HotItem is an item of BEP 44 that the kernel half answers get from. Who gives it one has verified it.
type HotItem struct {
	V       []byte // bencoded, at most 1,000 bytes
	Mutable bool
	K       [32]byte // of mutable items only, as are those below
	Seq     int64
	Sig     [64]byte
	For     HotFor
}

// HotFor says which queries an entry of the hot map is for.
type HotFor uint8

// Kinds of queries.
const (
	All       HotFor = iota
	Recursive        // those that ask for recursion and may; others are answered as if the key were not known
	Plain            // those that do not; others go up
)

// HotPeers are the peers that the kernel half answers get_peers from, those of the asker's family. It takes as many from
// the front as a reply has room for, and of a family at most 115. Recursive queries go up where there are no peers of the asker's
// family, and where it wants those of the other as well and there are some, or others may know some (that family is for plain queries only).
type HotPeers struct {
	IPv4, IPv6       []netip.AddrPort
	ForIPv4, ForIPv6 HotFor // queries over that family
}

// hot is the hot map as user space keeps it. The map's places are arrays in the kernel; which of them a key has is the
// key's value in the map of held keys.
//
// A place is written only while no program reads it: what a key has lost rests until all programs that ran at that
// moment have ended. So replies are never made from two entries, and never from one of another key.
type hot struct {
	classes [2]hotClass // small, large
	hits    *ebpf.Map
	apart   bool // its counters cannot be read together
	entries map[[20]byte]*hotEntry

	barrier, beyond *ebpf.Map // a map of maps, and a map, only to wait for readers
}

// hotClass are the places of one size.
type hotClass struct {
	entries *ebpf.Map
	first   uint32 // counter of the first place
	after   int    // room for what follows the token, bytes
	free    []uint32
	resting []uint32
	none    bool // the class has no room at all
}

// hotEntry is a key in the hot map.
type hotEntry struct {
	class  int
	whose  [2]HotFor // by family; the same for an item
	places [2]uint32 // likewise
	added  bool      // to the map of held keys, for the sake of this
	base   uint64    // what the counters said at the start, less what was counted before
}

// configureHot divides the memory evenly between the classes.
func configureHot(spec *ebpf.CollectionSpec, budget int64) {
	if budget == 0 {
		budget = hotBytes
	}
	places := uint32(0)
	for _, name := range []string{kdhtMapHotSmall, kdhtMapHotLarge} {
		m := spec.Maps[name]
		m.MaxEntries = uint32(max(1, budget/2/int64(m.ValueSize)))
		places += m.MaxEntries
	}
	spec.Maps[kdhtMapHotHits].MaxEntries = places
}

// adoptHot takes the maps over. No value of an earlier process is answered from any more.
func (p *Program) adoptHot() error {
	h := &p.hot
	h.hits, h.entries = p.objs.HotHits, map[[20]byte]*hotEntry{}
	h.classes[0] = hotClass{entries: p.objs.HotSmall, after: len(kdhtSmallEntry{}.After)}
	h.classes[1] = hotClass{entries: p.objs.HotLarge, after: len(kdhtLargeEntry{}.After), first: p.objs.HotSmall.MaxEntries()}
	for i := range h.classes {
		c := &h.classes[i]
		c.none = p.hotSize < 0
		for place := range c.entries.MaxEntries() { // the first is taken first, so that counters in use are close to each other
			c.resting = append(c.resting, c.entries.MaxEntries()-1-place)
		}
	}
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	outer := &ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner}
	var err error
	if h.beyond, err = ebpf.NewMap(inner); err != nil {
		return classify("create a map", err)
	}
	if h.barrier, err = ebpf.NewMap(outer); err != nil {
		return classify("create a map", err)
	}
	var stale [][20]byte
	var key [20]byte
	var places uint64
	it := p.objs.Held.Iterate()
	for it.Next(&key, &places) {
		if places != 0 {
			stale = append(stale, key)
		}
	}
	if err := it.Err(); err != nil {
		return classify("list the held keys", err)
	}
	for _, key := range stale {
		if err := p.objs.Held.Update(key, uint64(0), ebpf.UpdateExist); err != nil {
			return classify("forget a hot key", err)
		}
	}
	return nil
}

// SetHotItem makes the program answer get for a key, which need not be held here, from an item, for as long as ttl says,
// or until [Program.Cool], [Program.Hold], [Program.Release] or [Program.HoldAll]. What the key had before is replaced
// at once. ErrNoHot if there is no room; then the key keeps what it had.
func (p *Program) SetHotItem(key [20]byte, it *HotItem, ttl time.Duration) error {
	d, err := draftItem(it)
	if err != nil {
		return err
	}
	return p.setHot(key, ttl, [2]HotFor{it.For, it.For}, d)
}

// SetHotPeers makes the program answer get_peers for an infohash likewise, in either family.
func (p *Program) SetHotPeers(key [20]byte, peers *HotPeers, ttl time.Duration) error {
	v4, v6 := draftPeers(peers.IPv4), draftPeers(peers.IPv6)
	if len(peers.IPv4) > 0 || peers.ForIPv4 == Plain {
		v6.entry.Hot.Others = wantIPv4
	}
	if len(peers.IPv6) > 0 || peers.ForIPv6 == Plain {
		v4.entry.Hot.Others = wantIPv6
	}
	return p.setHot(key, ttl, [2]HotFor{peers.ForIPv4, peers.ForIPv6}, v4, v6)
}

// Large says whether the item needs a large entry of the hot map, of which there is a number of its own.
func (it *HotItem) Large() bool { return len("1:v")+len(it.V) > len(kdhtSmallEntry{}.After) }

// Large says whether the peers need large entries of the hot map.
func (h *HotPeers) Large() bool {
	room := len(kdhtSmallEntry{}.After) - len("6:valuesl")
	return len(h.IPv4)*len("6:AAAAPP") > room || len(h.IPv6)*len("18:AAAAAAAAAAAAAAAAPP") > room
}

// setHot writes entries, one for both families or one for each, and makes key point to them.
func (p *Program) setHot(key [20]byte, ttl time.Duration, whose [2]HotFor, drafts ...*hotDraft) error {
	if ttl <= 0 {
		return p.Cool(key)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if _, missing := p.held.missing[key]; missing || p.held.unsure {
		return fmt.Errorf("%w: not all held keys are known", ErrNoHotKey)
	}
	n := &hotEntry{whose: whose}
	for _, d := range drafts {
		if d.after > p.hot.classes[0].after {
			n.class = 1
		}
	}
	c := &p.hot.classes[n.class]
	if err := p.hot.makeRoom(c, len(drafts)); err != nil {
		return err
	}
	for i, d := range drafts {
		place := c.free[len(c.free)-1-i]
		h := &d.entry.Hot
		h.Key.Bytes, h.Expires, h.Hits = key, uint64(now.Nano())+uint64(ttl), c.first+place
		hits, err := p.hot.count(h.Hits)
		if err != nil {
			return err
		}
		n.base += hits
		if err := c.write(place, &d.entry); err != nil {
			return err
		}
		n.places[i], n.places[1] = place, place
	}
	old := p.hot.entries[key]
	if old != nil {
		n.added = old.added
		hits, err := p.hot.answered(old, p.hot.count)
		if err != nil {
			return err
		}
		n.base -= hits // counting goes on: the difference is that of numbers modulo 2^64
	}
	if err := p.pointTo(key, n); err != nil {
		return err
	}
	c.free = c.free[:len(c.free)-len(drafts)]
	if old != nil {
		p.hot.rest(old)
	}
	p.hot.entries[key] = n
	return nil
}

// pointTo publishes the places of a key, and adds the key if it is not there.
func (p *Program) pointTo(key [20]byte, n *hotEntry) error {
	value := p.hot.value(n)
	switch err := p.objs.Held.Update(key, value, ebpf.UpdateExist); {
	case err == nil:
		return nil
	case !errors.Is(err, ebpf.ErrKeyNotExist):
		return classify("point to a hot entry", err)
	}
	if len(p.held.missing) > 0 { // they wait for the room
		return fmt.Errorf("%w: not all held keys are known", ErrNoHotKey)
	}
	full, err := p.held.insert(key, value)
	if full {
		return fmt.Errorf("%w: as many keys are known as there is room for", ErrNoHotKey)
	}
	n.added = err == nil
	return err
}

// value is what the map of held keys says of an entry.
func (h *hot) value(n *hotEntry) (value uint64) {
	for i, place := range n.places {
		at := place + 1
		if n.class == 1 {
			at |= hotLarge
		}
		switch n.whose[i] {
		case Recursive:
			at |= hotRecursive
		case Plain:
			at |= hotPlain
		}
		value |= uint64(at) << (32 * i)
	}
	return value
}

// write fills a place that nobody reads.
func (c *hotClass) write(place uint32, e *kdhtLargeEntry) error {
	if c.after == len(e.After) {
		return classify("write a hot entry", c.entries.Put(place, e))
	}
	small := kdhtSmallEntry{Hot: e.Hot}
	copy(small.After[:], e.After[:])
	return classify("write a hot entry", c.entries.Put(place, &small))
}

// makeRoom makes sure that n places of a class are free. It may take some 10 ms.
func (h *hot) makeRoom(c *hotClass, n int) error {
	if c.none || len(c.free)+len(c.resting) < n {
		return ErrNoHot
	}
	if len(c.free) >= n {
		return nil
	}
	// The kernel waits for all readers before an update of a map of maps returns, whichever map that is.
	if err := h.barrier.Put(uint32(0), h.beyond); err != nil {
		return classify("wait for readers", err)
	}
	h.awake()
	return nil
}

// awake frees all resting places.
func (h *hot) awake() {
	for i := range h.classes {
		c := &h.classes[i]
		c.free = append(c.free, c.resting...)
		c.resting = c.resting[:0]
	}
}

// rest takes the places of an entry to which no key points any more.
func (h *hot) rest(e *hotEntry) {
	c := &h.classes[e.class]
	c.resting = append(c.resting, e.places[0])
	if e.places[1] != e.places[0] {
		c.resting = append(c.resting, e.places[1])
	}
}

// Cool ends what [Program.SetHotItem] or SetHotPeers began: no reply to a query that arrives from now on is made from
// it. A key that is held goes up again, any other is answered as one that is not known.
func (p *Program) Cool(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return p.cool(key)
}

// cool is Cool for who has locked.
func (p *Program) cool(key [20]byte) error {
	e := p.hot.entries[key]
	if e == nil {
		return nil
	}
	if err := p.unpoint(key, e); err != nil {
		return err
	}
	delete(p.hot.entries, key)
	p.hot.rest(e)
	return nil
}

// unpoint ends that a key points to its entry.
func (p *Program) unpoint(key [20]byte, e *hotEntry) error {
	if e.added {
		return p.held.drop(key)
	}
	err := p.objs.Held.Update(key, uint64(0), ebpf.UpdateExist)
	if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	// There is no memory, which taking the key away does not need.
	p.held.missing[key] = struct{}{}
	if err := p.setOverflow(); err != nil {
		return err
	}
	p.held.known--
	return p.held.drop(key)
}

// coolAll is cool for all keys.
func (p *Program) coolAll() error {
	for key := range p.hot.entries {
		if err := p.cool(key); err != nil {
			return err
		}
	}
	return nil
}

// count reads a counter of answers.
func (h *hot) count(counter uint32) (sum uint64, err error) {
	var perCPU []uint64
	if err := h.hits.Lookup(counter, &perCPU); err != nil {
		return 0, classify("read a counter of hits", err)
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

// HotHits calls f for every hot key, with how many queries the program has answered from its entry since the key became hot.
func (p *Program) HotHits(f func(key [20]byte, hits uint64)) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	read := p.hot.reader()
	for key, e := range p.hot.entries {
		hits, err := p.hot.answered(e, read)
		if err != nil {
			return err
		}
		f(key, hits)
	}
	return nil
}

// answered is how many queries were answered from an entry and those of the same key that it has replaced.
func (h *hot) answered(e *hotEntry, read func(counter uint32) (uint64, error)) (hits uint64, err error) {
	first := h.classes[e.class].first
	if hits, err = read(first + e.places[0]); err != nil {
		return 0, err
	}
	if e.places[1] != e.places[0] {
		more, err := read(first + e.places[1])
		if err != nil {
			return 0, err
		}
		hits += more
	}
	return hits - e.base, nil
}

const (
	// hitsBatch is how many counters are read in one system call, where they are read together.
	hitsBatch = 512
	// hitsApart is how many counters are read together in the time that one takes alone.
	hitsApart = 6
)

// reader returns what reads the counters of all hot keys: one by one or, where that takes less and the kernel can (Linux 5.13), together with those between them.
func (h *hot) reader() func(counter uint32) (uint64, error) {
	most, needed := 0, 0
	for _, e := range h.entries {
		needed++
		if e.places[1] != e.places[0] {
			needed++
		}
		most = max(most, int(h.classes[e.class].first+max(e.places[0], e.places[1])))
	}
	if h.apart || most >= hitsApart*needed {
		return h.count
	}
	all, err := h.countTo(most)
	if err != nil {
		h.apart = errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL)
		return h.count // whose error it is, if there is one
	}
	return func(counter uint32) (uint64, error) { return all[counter], nil }
}

// countTo reads the counters of answers up to and with that one.
func (h *hot) countTo(most int) ([]uint64, error) {
	sums := make([]uint64, most+1)
	cpus, size := ebpf.MustPossibleCPU(), min(most+1, hitsBatch)
	keys, values := make([]uint32, size), make([]uint64, size*cpus)
	var at ebpf.MapBatchCursor
	for begin := 0; begin <= most; {
		want := min(most+1-begin, size)
		n, err := h.hits.BatchLookup(&at, keys[:want], values[:want*cpus], nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) || n == 0 { // that there are no more is said with the last
			return nil, classify("read counters of hits", errors.Join(err, io.ErrUnexpectedEOF))
		}
		for i, key := range keys[:n] {
			for _, v := range values[i*cpus:][:cpus] {
				sums[key] += v
			}
		}
		begin += n
	}
	return sums, nil
}

// Hot is how full the hot map is.
type Hot struct {
	Keys        int // keys that are answered from it
	Small, Room int // entries for up to 192 bytes of value, and how many there can be
	Large       int // entries for more
	LargeRoom   int
	Bytes       int // memory of all entries, used or not
}

// Hot says how full the hot map is.
func (p *Program) Hot() Hot {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.hot
	s := Hot{Keys: len(h.entries)}
	for i, c := range h.classes {
		if c.none || c.entries == nil {
			continue
		}
		room := int(c.entries.MaxEntries())
		used := room - len(c.free) - len(c.resting)
		s.Bytes += room * int(c.entries.ValueSize())
		if i == 0 {
			s.Small, s.Room = used, room
		} else {
			s.Large, s.LargeRoom = used, room
		}
	}
	return s
}

// Methods, and wanted families, as the C code numbers them.
const (
	methodGetPeers = 3
	methodGet      = 4

	wantIPv4 = 1
	wantIPv6 = 2
)

// hotDraft is an entry to be written, and how long what follows the token is.
type hotDraft struct {
	entry kdhtLargeEntry
	after int
}

// draftItem lays out an item.
func draftItem(it *HotItem) (*hotDraft, error) {
	d := new(hotDraft)
	h := &d.entry.Hot
	h.Method = methodGet
	v := append([]byte("1:v"), it.V...)
	if len(v) > len(d.entry.After) || len(it.V) == 0 || it.Mutable && it.Seq < 0 {
		return nil, fmt.Errorf("%w: a value of %d bytes, seq %d", ErrNoHot, len(it.V), it.Seq)
	}
	d.after = copy(d.entry.After[:], v)
	h.V_len, h.V_sum = uint16(d.after), sum(v)
	if !it.Mutable {
		return d, nil
	}
	h.IsMutable, h.Seq = 1, uint64(it.Seq)
	k := append([]byte("1:k32:"), it.K[:]...)
	h.K_len, h.K_sum = uint16(copy(h.K[:], k)), sum(k)
	seq := append(strconv.AppendInt([]byte("3:seqi"), it.Seq, 10), 'e')
	h.SeqLen, h.SeqSum = uint16(len(seq)), sum(seq)
	seq = append(seq, "3:sig64:"...)
	seq = append(seq, it.Sig[:]...)
	h.SigLen, h.SigSum = uint16(copy(h.Before[:], seq)), sum(seq)
	return d, nil
}

// draftPeers lays out the peers of one family.
func draftPeers(peers []netip.AddrPort) *hotDraft {
	d := new(hotDraft)
	h := &d.entry.Hot
	h.Method = methodGetPeers
	values := append(make([]byte, 0, len(d.entry.After)+32), "6:valuesl"...)
	for i, p := range peers[:min(len(peers), maxHotPeers)] {
		if values = appendValue(values, p); len(values) > len(d.entry.After) {
			break
		}
		h.Values = uint16(i + 1)
		d.after = copy(d.entry.After[:], values)
		binary.LittleEndian.PutUint16(h.Before[2*(i+1):], sum(values))
	}
	return d
}

// appendValue appends a peer as an entry of "values" (BEP 5, 32).
func appendValue(b []byte, p netip.AddrPort) []byte {
	a := p.Addr().Unmap().AsSlice()
	b = append(strconv.AppendInt(b, int64(len(a)+2), 10), ':')
	return binary.BigEndian.AppendUint16(append(b, a...), p.Port())
}
