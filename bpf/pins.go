package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// pins is the directory where maps and links are pinned:
//
//	maps-<fingerprint of the object>/<map>
//	link-<ifindex>-<mode>
//	launch-<ifindex>
//
// Maps are shared only between programs of the same object, so that no layout can differ. The zero value pins nothing.
type pins struct{ dir string }

// unpinned are the maps that hold nothing worth keeping.
var unpinned = map[string]bool{kdhtMapScratch: true, ".rodata": true}

func openPins(dir string) (pins, error) {
	if dir == "" {
		return pins{}, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return pins{}, classify("make the pin directory", err)
	}
	return pins{dir}, nil
}

// load loads the objects with their maps pinned, and removes the pins of other versions.
func (p pins) load(spec *ebpf.CollectionSpec, objs *kdhtObjects) error {
	if p.dir == "" {
		return spec.LoadAndAssign(objs, nil)
	}
	fingerprint := sha256.Sum256(_KdhtBytes)
	name := "maps-" + hex.EncodeToString(fingerprint[:8])
	for n, m := range spec.Maps {
		if !unpinned[n] {
			m.Pinning = ebpf.PinByName
		}
	}
	dir := filepath.Join(p.dir, name)
	opts := ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := spec.LoadAndAssign(objs, &opts)
	if errors.Is(err, ebpf.ErrMapIncompatible) { // somebody else's
		if err := emptyDir(dir); err != nil {
			return err
		}
		err = spec.LoadAndAssign(objs, &opts)
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return errors.Join(err, objs.Close())
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "maps-") && e.Name() != name {
			// The program that uses them keeps them alive until it is replaced.
			if err := os.RemoveAll(filepath.Join(p.dir, e.Name())); err != nil {
				return errors.Join(err, objs.Close())
			}
		}
	}
	return nil
}

// link is where the link of an interface is pinned.
func (p pins) link(ifindex int, mode Mode) string {
	return filepath.Join(p.dir, fmt.Sprintf("link-%d-%v", ifindex, mode))
}

// links calls f for every pinned link.
func (p pins) links(f func(path string, ifindex int, mode Mode) error) error {
	if p.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("read the pin directory: %w", err)
	}
	for _, e := range entries {
		for _, mode := range []Mode{ModeNative, ModeGeneric} {
			index, ok := strings.CutPrefix(e.Name(), "link-")
			if !ok {
				continue
			}
			if index, ok = strings.CutSuffix(index, "-"+mode.String()); !ok {
				continue
			}
			n, err := strconv.Atoi(index)
			if err != nil {
				continue
			}
			if err := f(filepath.Join(p.dir, e.Name()), n, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// openLink opens a pinned link. What is no link is removed, because nothing else may stand in its place; then, and
// where there is nothing, the link is nil.
func openLink(path string) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	for _, scarce := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EPERM} { // says nothing of what is there
		if errors.Is(err, scarce) {
			return nil, classify("open a pinned link", err)
		}
	}
	if err != nil {
		return nil, classify("remove what is no link", os.RemoveAll(path))
	}
	return l, nil
}

// Orphaned reports whether what is pinned in dir, a process's [Config.PinDir], is of no use to anybody: it was attached to
// interfaces, and all of them are gone.
func Orphaned(dir string) bool {
	attached, orphans := 0, 0
	err := pins{dir}.links(func(path string, _ int, _ Mode) error {
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			return err
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return err
		}
		if info.XDP() != nil && info.XDP().Ifindex == 0 {
			orphans++
		} else {
			attached++
		}
		return nil
	})
	return err == nil && orphans > 0 && attached == 0
}

// RemovePins undoes what a process has left pinned in dir, its [Config.PinDir], without loading anything: the program
// is detached wherever it still is, and the maps go. Other things in dir stay, and so does dir then. It is no error if
// there is no such directory. Nobody may use dir at the same time.
func RemovePins(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p := pins{dir}
	err := p.links(func(path string, _ int, _ Mode) error {
		l, err := openLink(path)
		if err != nil || l == nil {
			return err
		}
		return classify("detach", errors.Join(l.Unpin(), l.Close()))
	})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the pin directory: %w", err)
	}
	if err := p.launchers(entries, os.Remove); err != nil {
		return fmt.Errorf("remove a pinned link: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "maps-") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove pinned maps: %w", err)
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("remove the pin directory: %w", err)
	}
	return nil
}

// remove removes everything.
func (p pins) remove() error {
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
