package bpf

import (
	"encoding/binary"
	"errors"
	"iter"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// held is the set of keys held here, as the kernel half knows it: a map of the keys, and in front of it a filter, a set
// of bits of which a key has one, because a search for a key that is not in the map takes much longer than a look at
// one bit.
type held struct {
	keys, filter *ebpf.Map
	bits         [1 << 18]uint32 // keys per bit of the filter
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
		var value uint8
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
	bit := h.bit(key)
	h.bits[bit]++
	if err := h.putFilter(key); err != nil {
		h.bits[bit]--
		return false, err
	}
	err = h.keys.Update(key, uint8(1), ebpf.UpdateNoExist)
	if err == nil {
		return false, nil
	}
	h.bits[bit]--
	switch {
	case errors.Is(err, ebpf.ErrKeyExist):
		return false, nil
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOMEM):
		return true, h.putFilter(key)
	}
	return false, errors.Join(classify("hold a key", err), h.putFilter(key))
}

// remove removes a key, if it is there.
func (h *held) remove(key [20]byte) error {
	switch err := h.keys.Delete(key); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil
	case err != nil:
		return classify("release a key", err)
	}
	h.bits[h.bit(key)]--
	return h.putFilter(key)
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

// Hold says that key, a target or infohash, is held here: get and get_peers for it go up from now on. When more keys
// are held than the kernel half can know, it passes every get and get_peers until HoldAll finds room for all:
// [Program.Overflowed].
func (p *Program) Hold(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	full, err := p.held.add(key)
	if full || err != nil {
		return errors.Join(err, p.setOverflow(true))
	}
	return nil
}

// Release says that key is no longer held here.
func (p *Program) Release(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return p.held.remove(key)
}

// Overflowed says whether some key held here is unknown to the kernel half, so that it passes every get and get_peers.
// Once fewer keys are held, or after an error, [Program.HoldAll] mends that.
func (p *Program) Overflowed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings.HeldOverflow != 0
}

// HoldAll makes keys the set of keys held here. At no moment does the program answer for a key that is in both the old
// set and the new. If it fails part-way, the program passes every get and get_peers, as if there were no room.
func (p *Program) HoldAll(keys iter.Seq[[20]byte]) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	overflow, err := p.holdAll(keys)
	return errors.Join(err, p.setOverflow(overflow || err != nil))
}

func (p *Program) holdAll(keys iter.Seq[[20]byte]) (overflow bool, err error) {
	want := map[[20]byte]struct{}{}
	for k := range keys {
		want[k] = struct{}{}
	}
	var gone [][20]byte
	for key, err := range p.held.all() {
		if err != nil {
			return false, err
		}
		if _, ok := want[key]; !ok {
			gone = append(gone, key)
		}
	}
	for _, k := range gone {
		if err := p.held.remove(k); err != nil {
			return false, err
		}
	}
	for k := range want {
		if full, err := p.held.add(k); full || err != nil {
			return full, err
		}
	}
	return false, nil
}

// setOverflow says whether more keys are held than the map has.
func (p *Program) setOverflow(overflow bool) error {
	p.settings.HeldOverflow = 0
	if overflow {
		p.settings.HeldOverflow = 1
	}
	return p.putSettings()
}
