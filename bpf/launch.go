package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// launcher is the program in the hook of traffic control behind an XDP program: that one can send one frame for one that came,
// this one as many as it likes, so that a recursion begins on several paths (see xdp/launch.h).
type launcher struct {
	link   link.Link
	pinned bool
}

// errDetached is why there is one path until [Program.Relaunch].
var errDetached = errors.New("somebody has detached the program in traffic control")

// remove detaches it.
func (l *launcher) remove() error {
	if l == nil {
		return nil
	}
	var err error
	if l.pinned {
		err = l.link.Unpin()
	}
	return errors.Join(err, l.link.Close())
}

// launchPrefix begins the name of a pinned launcher; the index of the interface follows.
const launchPrefix = "launch-"

// launch is where the launcher of an interface is pinned.
func (p pins) launch(ifindex int) string {
	return filepath.Join(p.dir, launchPrefix+strconv.Itoa(ifindex))
}

// isAttached says whether it is still that of an interface: whoever may can detach it.
func (l *launcher) isAttached(ifindex int) bool {
	if l == nil {
		return false
	}
	info, err := l.link.Info()
	return err == nil && info.TCX() != nil && info.TCX().Ifindex == uint32(ifindex)
}

// addLauncher attaches a launcher to an interface, or gives the program to that of an earlier process, and lets recursions
// that begin there have several paths. If it fails, they have one, whatever an earlier process has left.
func (p *Program) addLauncher(ifindex int) (*launcher, error) {
	l, err := p.attachLauncher(ifindex)
	if err != nil {
		return nil, errors.Join(err, p.removeLauncher(ifindex, nil))
	}
	if err := p.objs.Launchers.Put(uint32(ifindex), uint32(1)); err != nil {
		return nil, errors.Join(classify("note a launcher", err), p.removeLauncher(ifindex, l))
	}
	return l, nil
}

func (p *Program) attachLauncher(ifindex int) (*launcher, error) {
	l, err := p.takeLauncher(ifindex)
	if err != nil {
		return nil, err
	}
	if l == nil {
		made, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p.objs.KdhtLaunch, Attach: ebpf.AttachTCXIngress,
			// Others may let a frame pass and end the chain with that, which ours, for all frames but its notes, does not.
			Anchor: link.Head()})
		if err != nil {
			return nil, classify(fmt.Sprintf("attach to traffic control of interface %d", ifindex), err)
		}
		l = &launcher{link: made}
		if p.pins.dir != "" {
			if err := made.Pin(p.pins.launch(ifindex)); err != nil {
				return nil, errors.Join(classify("pin a link", err), made.Close())
			}
			l.pinned = true
		}
	}
	return l, nil
}

// Relaunch looks after what lets recursions that begin at an interface have several paths. If somebody has detached it, Relaunch says
// so and attaches it again, if it can: [Program.Attachments] says how many paths there are now.
func (p *Program) Relaunch(ifindex int) (lost bool, err error) {
	if err := p.lock(); err != nil {
		return false, err
	}
	defer p.mu.Unlock()
	a := p.links[ifindex]
	if a == nil || a.launcher == nil && !a.lost || a.launcher.isAttached(ifindex) || !p.isAttached(a, ifindex) {
		return false, nil
	}
	lost = a.launcher != nil
	err = p.removeLauncher(ifindex, a.launcher) // from now on there is one path
	a.launcher, a.onePath = p.addLauncher(ifindex)
	a.lost = a.launcher == nil
	return lost, errors.Join(err, a.onePath)
}

// takeLauncher gives the program to the launcher that an earlier process has pinned for an interface; nil if there is none that is
// good for anything.
func (p *Program) takeLauncher(ifindex int) (*launcher, error) {
	if p.pins.dir == "" {
		return nil, nil
	}
	l, err := openLink(p.pins.launch(ifindex))
	if err != nil || l == nil {
		return nil, err
	}
	old := &launcher{l, true}
	if old.isAttached(ifindex) && l.Update(p.objs.KdhtLaunch) == nil {
		return old, nil
	}
	return nil, old.remove()
}

// removeLauncher undoes addLauncher: recursions that begin there have one path from now on.
func (p *Program) removeLauncher(ifindex int, l *launcher) error {
	err := p.objs.Launchers.Delete(uint32(ifindex))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	return errors.Join(err, l.remove())
}

// launchers calls f for every pinned launcher.
func (p pins) launchers(entries []fs.DirEntry, f func(path string) error) error {
	for _, e := range entries {
		if _, err := strconv.Atoi(strings.TrimPrefix(e.Name(), launchPrefix)); err != nil || !strings.HasPrefix(e.Name(), launchPrefix) {
			continue
		}
		if err := f(filepath.Join(p.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
