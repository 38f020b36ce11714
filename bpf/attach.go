package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sort"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Attachment is an interface that the program is attached to.
type Attachment struct {
	Ifindex int
	Mode    Mode
	// Fallback says why native mode was not to be had, where [ModeAuto] fell back to generic mode; else nil.
	Fallback error
	// OnePath says why recursions that begin here ask one node at a time, where they do: the kernel has no links of traffic
	// control (they came with Linux 6.6), mostly; else nil, and they go on on [MaxPaths] paths at a time.
	OnePath error
}

type attachment struct {
	link     link.Link
	mode     Mode
	pinned   bool
	fallback error
	launcher *launcher // nil: there is none, because of onePath
	onePath  error
	lost     bool // there was one
}

// remove detaches the program.
func (a *attachment) remove() error {
	var err error
	if a.pinned {
		err = a.link.Unpin()
	}
	return errors.Join(err, a.link.Close())
}

// Attach attaches the program to an interface and returns the mode it got. If an earlier process left its program
// there, that one is replaced without a packet passing by, unless mode demands another than it has.
//
// Native mode can fail for reasons of the driver (ErrNotSupported, or its own errors for an MTU or a number of queues that it
// cannot handle); [ModeAuto] then falls back to generic mode, and [Program.Attachments] tells why.
func (p *Program) Attach(ifindex int, mode Mode) (Mode, error) {
	if err := p.lock(); err != nil {
		return 0, err
	}
	defer p.mu.Unlock()
	if a := p.links[ifindex]; a != nil {
		if p.isAttached(a, ifindex) && (mode == ModeAuto || mode == a.mode) {
			return a.mode, nil
		}
		delete(p.links, ifindex)
		if err := errors.Join(p.removeLauncher(ifindex, a.launcher), a.remove()); err != nil {
			return 0, classify("detach", err)
		}
	}
	a, err := p.takeOver(ifindex, mode)
	if err == nil && a == nil {
		a, err = p.attach(ifindex, mode)
	}
	if err != nil { // what an earlier process has left for recursions is of no use without
		left, _ := p.takeLauncher(ifindex)
		return 0, errors.Join(err, p.removeLauncher(ifindex, left))
	}
	a.launcher, a.onePath = p.addLauncher(ifindex)
	p.links[ifindex] = a
	return a.mode, nil
}

// isAttached says whether the link is still that of the interface: when an interface goes, its link is orphaned.
func (p *Program) isAttached(a *attachment, ifindex int) bool {
	info, err := a.link.Info()
	return err == nil && info.XDP() != nil && info.XDP().Ifindex == uint32(ifindex)
}

// takeOver gives the program to a link that an earlier process pinned, if there is one, and removes pins of the
// same number that belong to an interface long gone, and whatever else stands in the place of a pinned link.
func (p *Program) takeOver(ifindex int, mode Mode) (*attachment, error) {
	var found *attachment
	err := p.pins.links(func(path string, index int, m Mode) error {
		if index != ifindex {
			return nil
		}
		l, err := openLink(path)
		if err != nil || l == nil {
			return err
		}
		a := &attachment{link: l, mode: m, pinned: true}
		if found == nil && p.isAttached(a, ifindex) && (mode == ModeAuto || mode == m) {
			prog, err := p.variant(m)
			if err != nil {
				return errors.Join(err, l.Close())
			}
			if err := l.Update(prog); err == nil {
				found = a
				return nil
			}
		}
		return a.remove()
	})
	return found, err
}

// attach makes a new link.
func (p *Program) attach(ifindex int, mode Mode) (*attachment, error) {
	modes := []Mode{mode}
	if mode == ModeAuto {
		modes = []Mode{ModeNative, ModeGeneric}
	}
	var first error
	for _, m := range modes {
		flags := link.XDPDriverMode
		if m == ModeGeneric {
			flags = link.XDPGenericMode
		}
		prog, err := p.variant(m)
		if err != nil {
			return nil, errors.Join(first, err)
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: flags})
		if errors.Is(err, unix.EINVAL) { // what the kernel says of an interface that is not there, among others
			if _, absent := net.InterfaceByIndex(ifindex); absent != nil {
				err = errors.Join(unix.ENODEV, err)
			}
		}
		err = classify(fmt.Sprintf("attach to interface %d in %v mode", ifindex, m), err)
		if err == nil {
			a := &attachment{link: l, mode: m, fallback: first}
			if p.pins.dir != "" {
				if err := l.Pin(p.pins.link(ifindex, m)); err != nil {
					return nil, errors.Join(classify("pin a link", err), l.Close())
				}
				a.pinned = true
			}
			return a, nil
		}
		if first == nil {
			first = err
		}
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrPermission) || errors.Is(err, ErrNoInterface) {
			break
		}
	}
	return nil, first
}

// Detach detaches the program from an interface. It is no error if it is not attached there.
func (p *Program) Detach(ifindex int) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	a := p.links[ifindex]
	if a == nil {
		return nil
	}
	delete(p.links, ifindex)
	if err := errors.Join(p.removeLauncher(ifindex, a.launcher), a.remove()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify("detach", err)
	}
	return nil
}

// Attachments lists the interfaces that the program is attached to, by index.
func (p *Program) Attachments() []Attachment {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Attachment
	for ifindex, a := range p.links {
		if p.isAttached(a, ifindex) {
			onePath := a.onePath
			if onePath == nil && !a.launcher.isAttached(ifindex) {
				onePath = errDetached
			}
			out = append(out, Attachment{Ifindex: ifindex, Mode: a.mode, Fallback: a.fallback, OnePath: onePath})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Ifindex < out[j].Ifindex })
	return out
}
