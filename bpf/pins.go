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
)

// pins is the directory where maps and links are pinned:
//
//	maps-<fingerprint of the object>/<map>
//	link-<ifindex>-<mode>
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
