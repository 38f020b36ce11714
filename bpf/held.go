package bpf

import (
	"errors"
	"iter"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Hold says that key, a target or infohash, is held here: get and get_peers for it go up. When more keys are held than
// the kernel half can know, it passes every get and get_peers until there is room again and HoldAll was called.
func (p *Program) Hold(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return p.hold(key)
}

func (p *Program) hold(key [20]byte) error {
	err := p.objs.Held.Put(key, uint8(1))
	if isFull(err) {
		return p.setOverflow(1)
	}
	return classify("hold a key", err)
}

// Release says that key is no longer held here.
func (p *Program) Release(key [20]byte) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return p.unhold(key)
}

func (p *Program) unhold(key [20]byte) error {
	err := p.objs.Held.Delete(key)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return classify("release a key", err)
}

// HoldAll makes keys the set of keys held here. At no moment does the program answer for a key that is in both the old
// set and the new.
func (p *Program) HoldAll(keys iter.Seq[[20]byte]) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	want := map[[20]byte]struct{}{}
	for k := range keys {
		want[k] = struct{}{}
	}
	var key [20]byte
	var value uint8
	var gone [][20]byte
	for it := p.objs.Held.Iterate(); it.Next(&key, &value); {
		if _, ok := want[key]; !ok {
			gone = append(gone, key)
		}
	}
	for _, k := range gone {
		if err := p.unhold(k); err != nil {
			return err
		}
	}
	overflow := uint64(0)
	for k := range want {
		err := p.objs.Held.Put(k, uint8(1))
		if isFull(err) {
			overflow = 1
			break
		}
		if err != nil {
			return classify("hold a key", err)
		}
	}
	return p.setOverflow(overflow)
}

// setOverflow says whether more keys are held than the map has.
func (p *Program) setOverflow(to uint64) error {
	if p.settings.HeldOverflow == to {
		return nil
	}
	p.settings.HeldOverflow = to
	return p.putSettings()
}

// isFull says whether an error of an update means that the map has no room.
func isFull(err error) bool {
	return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOMEM)
}
