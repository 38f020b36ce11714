package bpf

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// holdStep is how many keys one [Program.HoldMissing] tries, so that others wait for it a few milliseconds at most.
const holdStep = 4096

// held is the set of keys held here, as the kernel half knows it: a map of the keys, and in front of it a filter, a set
// of bits of which a key has one, because a search for a key that is not in the map takes much longer than a look at
// one bit. What the map could not take in is kept aside, so that map and missing together are always what is held.
type held struct {
	keys, filter *ebpf.Map
	bits         [1 << 18]uint32 // keys per bit of the filter
	known        int             // keys in the map
	missing      map[[20]byte]struct{}
	unsure       bool // something else may be missing: only HoldAll can tell

	overflows uint64    // how often something began to be missing
	since     time.Time // when it did last
}

// bit is the number of a key's bit: its first 18 bits. Keys are hashes, so they are spread evenly.
func (h *held) bit(key [20]byte) uint32 { return binary.BigEndian.Uint32(key[:]) >> 14 }

// adopt counts the keys that are in the map and writes the filter from them: a process that was killed may have left
// a key without its bit.
func (h *held) adopt() error {
	for key, err := range h.all() {
		if err != nil {
			return err
		}
		h.bits[h.bit(key)]++
		h.known++
	}
	slots := make([]uint32, len(h.bits)/64)
	words := make([]uint64, len(slots))
	for i := range slots {
		slots[i], words[i] = uint32(i), h.word(uint32(i))
	}
	_, err := h.filter.BatchUpdate(slots, words, nil)
	return classify("write the filter of held keys", err)
}

// all lists the keys in the map.
func (h *held) all() iter.Seq2[[20]byte, error] {
	return func(yield func([20]byte, error) bool) {
		var key [20]byte
		var value uint64
		it := h.keys.Iterate()
		for it.Next(&key, &value) {
			if !yield(key, nil) {
				return
			}
		}
		if err := it.Err(); err != nil {
			yield(key, classify("list the held keys", err))
		}
	}
}

// add adds a key, unless the map is full. The filter comes first, so that the key is seen as soon as it is there,
// whenever this process ends.
func (h *held) add(key [20]byte) (full bool, err error) {
	switch full, err := h.insert(key, 0); {
	case errors.Is(err, ebpf.ErrKeyExist):
		return false, nil
	case full || err != nil:
		return full, err
	}
	h.known++
	return false, nil
}

// insert adds a key that is not there, with the places that it has in the hot map.
func (h *held) insert(key [20]byte, places uint64) (full bool, err error) {
	bit := h.bit(key)
	h.bits[bit]++
	if err := h.putFilter(key); err != nil {
		h.bits[bit]--
		return false, err
	}
	err = h.keys.Update(key, places, ebpf.UpdateNoExist)
	if err == nil {
		return false, nil
	}
	h.bits[bit]--
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOMEM) {
		return true, h.putFilter(key)
	}
	return false, errors.Join(classify("hold a key", err), h.putFilter(key))
}

// remove removes a key, if it is there.
func (h *held) remove(key [20]byte) error {
	switch err := h.drop(key); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil
	case err != nil:
		return err
	}
	h.known--
	return nil
}

// drop takes a key out of the map.
func (h *held) drop(key [20]byte) error {
	if err := h.keys.Delete(key); err != nil {
		return classify("release a key", err)
	}
	h.bits[h.bit(key)]--
	return h.putFilter(key)
}

// hold adds a key, or counts it among the missing.
func (h *held) hold(key [20]byte) error {
	full, err := h.add(key)
	if full || err != nil {
		h.missing[key] = struct{}{}
		return err
	}
	delete(h.missing, key)
	return nil
}

// fill adds up to n of the missing keys, until one finds no room.
func (h *held) fill(n int) error {
	for key := range h.missing {
		if n--; n < 0 {
			return nil
		}
		if full, err := h.add(key); full || err != nil {
			return err
		}
		delete(h.missing, key)
	}
	return nil
}

// replace makes keys the set, and returns the first error. What could not be added for whatever reason is missing.
func (h *held) replace(keys iter.Seq[[20]byte]) (err error) {
	want := map[[20]byte]struct{}{}
	for k := range keys {
		want[k] = struct{}{}
	}
	var gone [][20]byte
	for key, err := range h.all() {
		if err != nil {
			h.unsure = true
			return err
		}
		if _, ok := want[key]; !ok {
			gone = append(gone, key)
		}
		delete(want, key)
	}
	for _, k := range gone {
		if err = h.remove(k); err != nil {
			break // it goes up for nothing, no more
		}
	}
	h.missing, h.unsure = want, false
	return errors.Join(err, h.fill(len(want)))
}

// word is a word of the filter.
func (h *held) word(slot uint32) (word uint64) {
	for i, n := range h.bits[slot*64:][:64] {
		if n > 0 {
			word |= 1 << i
		}
	}
	return word
}

// putFilter publishes the word of the filter that a key's bit is in.
func (h *held) putFilter(key [20]byte) error {
	slot := h.bit(key) / 64
	return classify("write the filter of held keys", h.filter.Put(slot, h.word(slot)))
}

// overflowed says whether the kernel half must pass every get and get_peers.
func (h *held) overflowed() bool { return len(h.missing) > 0 || h.unsure }

// Held is what the kernel half knows of the keys held here.
type Held struct {
	Known int // keys that it knows
	Room  int // keys that it can know
	// Missing is how many keys held here it does not know: there is no room for them, or the kernel refused to take
	// them in. While there are any, it passes every get and get_peers (held_overflow).
	Missing int
	// Since is when keys began to be missing, the zero Time if none are.
	Since time.Time
	// Overflows is how often keys began to be missing since Load.
	Overflows uint64
}

// Held says what the kernel half knows of the keys held here. What an earlier process left counts as one key missing
// if that one had any, until [Program.HoldAll].
func (p *Program) Held() Held {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.held
	s := Held{Known: h.known, Room: int(h.keys.MaxEntries()), Missing: len(h.missing), Overflows: h.overflows}
	if h.overflowed() {
		s.Missing, s.Since = max(1, s.Missing), h.since
	}
	return s
}

// Hold says that key, a target or infohash, is held here: get and get_peers for it go up from now on, also if it was in
// the hot map ([Program.SetHotItem]). If the kernel half
// cannot take it in, it passes every get and get_peers from now on, until [Program.Release] of another key makes room or
// [Program.HoldMissing] finds some: see [Program.Held]. That there is no room is no error.
func (p *Program) Hold(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if err := p.cool(key); err != nil {
		return errors.Join(err, p.setOverflow())
	}
	err := p.held.hold(key)
	if _, missing := p.held.missing[key]; missing && err == nil {
		for other, e := range p.hot.entries {
			if e.added { // what is held here needs the room more than what is only hot
				if err = p.cool(other); err == nil {
					err = p.held.hold(key)
				}
				break
			}
		}
	}
	return errors.Join(err, p.setOverflow())
}

// Release says that key is no longer held here. Its room is given to a key that is missing.
func (p *Program) Release(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	delete(p.held.missing, key)
	err := p.cool(key)
	if err == nil {
		err = p.held.remove(key)
	}
	if err == nil {
		err = p.held.fill(1)
	}
	return errors.Join(err, p.setOverflow())
}

// HoldMissing tries again to take in keys that are missing, until one finds no room, 4,096 at most. It is for when
// the kernel had no memory for a key, or refused it for another reason that may pass.
func (p *Program) HoldMissing() error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return errors.Join(p.held.fill(holdStep), p.setOverflow())
}

// HoldAll makes keys, which are listed within the call, the set of keys held here. At no moment does the program answer
// for a key that is in both the old set and the new; Hold and Release wait meanwhile. Keys that cannot be taken in are
// missing afterwards: [Program.Held].
func (p *Program) HoldAll(keys iter.Seq[[20]byte]) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if err := p.coolAll(); err != nil {
		return err
	}
	return errors.Join(p.held.replace(keys), p.setOverflow())
}

// setOverflow tells the program whether a key is missing, if it does not know yet. It comes after the changes of the
// map: until all keys are there, every get and get_peers goes up.
func (p *Program) setOverflow() error {
	was, now := p.settings.HeldOverflow, uint64(0)
	if p.held.overflowed() {
		now = 1
	}
	if now == was {
		return nil
	}
	p.settings.HeldOverflow = now
	if err := p.putSettings(); err != nil {
		p.settings.HeldOverflow = was // to be tried again
		return err
	}
	if now == 1 {
		p.held.overflows++
		p.held.since = time.Now()
	}
	return nil
}
