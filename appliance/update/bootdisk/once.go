package bootdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The Raspberry Pi's firmware can be told to read tryboot.txt in place of config.txt, at the next start alone
// (https://www.raspberrypi.com/documentation/computers/config_txt.html#tryboot). So that it tries another kernel, this file names
// a directory of the file system in force as the one that has the kernel, its command line, device trees and overlays
// (os_prefix); Once makes both.
const (
	onceFile, onceDir = "TRYBOOT TXT", "TRY        " // as directory entries have them
	oncePrefix        = "try/"
	configFile        = "config.txt"
	// onceConfig is what is added to the settings of the new boot file system. Firmware from 2025 on starts a watchdog, which ends a
	// kernel that hangs, if gokrazy's init has not taken it over in so many seconds.
	onceConfig = "\n[all]\nos_prefix=" + oncePrefix + "\nkernel_watchdog_timeout=60\n"
)

// Once prepares a start, once, with what is placed at t.Boot, its kernel getting the given command line. Nothing that the machine
// reads at another start changes; a power cut leaves clusters that are in use by nobody, at most, and the next call takes
// those.
func (d *Disk) Once(t Target, text string) error {
	if err := d.forget(true); err != nil {
		return err
	}
	now, err := readFAT(d.Boot, 0)
	if err != nil {
		return err
	}
	next, err := d.at(t.Boot)
	if err != nil {
		return err
	}
	w := &volume{dev: d.Boot, fat: now}
	if err := w.reclaim(); err != nil {
		return err
	}
	config, err := next.content(configFile)
	if err != nil {
		return err
	}
	config = append(bytes.TrimRight(config, "\n"), onceConfig...)
	dir, err := w.copy(next, []byte(text))
	if err != nil {
		return err
	}
	file, err := w.store(bytes.NewReader(config), int64(len(config)))
	if err != nil {
		return err
	}
	return serial(
		d.Boot.Sync,
		w.flush,
		func() error { return w.enter(entry(onceDir, attrDirectory, dir, 0)) },
		func() error { return w.enter(entry(onceFile, 0, file, len(config))) },
		d.Boot.Sync)
}

// ForgetOnce removes what Once made.
func (d *Disk) ForgetOnce() error { return d.forget(false) }

// forget removes it; somebody's own tryboot.txt only if it must go.
func (d *Disk) forget(must bool) error {
	f, err := readFAT(d.Boot, 0)
	if err != nil || f.wide {
		return err
	}
	b, err := readAny(d.Boot, f.rootDir(), f.rootEntries*entrySize)
	if err != nil {
		return err
	}
	at := make(map[string]int)
	for i := 0; i < len(b) && b[i] != 0; i += entrySize {
		at[string(b[i:i+11])] = i
	}
	if _, ours := at[onceDir]; !ours && !must {
		return nil
	}
	found := false
	for _, name := range []string{onceFile, onceDir} { // the directory is what tells that the file is ours
		i, ok := at[name]
		if !ok {
			continue
		}
		b[i], found = 0xe5, true
		from := i / sector * sector
		if _, err := d.Boot.WriteAt(b[from:from+sector], f.rootDir()+int64(from)); err != nil {
			return err
		}
		if err := d.Boot.Sync(); err != nil {
			return err
		}
	}
	if !found {
		return nil
	}
	w := &volume{dev: d.Boot, fat: f}
	return serial(w.reclaim, w.flush, d.Boot.Sync)
}

// volume is a FAT16 to which files are added: clusters and table first, in memory and on the medium, and their names last.
type volume struct {
	dev Device
	*fat
	before []byte // the table as it is on the medium
	free   uint32 // where to look for free clusters
}

// reclaim makes clusters free that belong to no file.
func (w *volume) reclaim() error {
	if w.wide {
		return fmt.Errorf("%w: it is no FAT16", ErrNoRoom)
	}
	w.before, w.free = bytes.Clone(w.entries), 2
	used := make([]bool, w.clusters+2)
	all, err := w.walk()
	if err != nil {
		return err
	}
	for _, x := range all {
		list, err := w.chain(x.first)
		if err != nil {
			return err
		}
		for _, c := range list {
			used[c] = true
		}
	}
	for c := uint32(2); c < w.clusters+2; c++ {
		if !used[c] && !w.bad(c) {
			w.set(c, 0)
		}
	}
	return nil
}

func (w *volume) set(c uint32, to uint16) { binary.LittleEndian.PutUint16(w.entries[2*c:], to) }

// store writes a file of size bytes into free clusters, and gives the first.
func (w *volume) store(r io.Reader, size int64) (first uint32, err error) {
	n := int((size + w.cluster - 1) / w.cluster)
	var list []uint32
	for ; w.free < w.clusters+2 && len(list) < n; w.free++ {
		if w.next(w.free) == 0 {
			list = append(list, w.free)
		}
	}
	if len(list) < n || n == 0 {
		return 0, fmt.Errorf("%w: there is none for a trial of this one", ErrNoRoom)
	}
	for i := 0; i < n; {
		k := 1 // clusters in a row
		for i+k < n && list[i+k] == list[i]+uint32(k) {
			k++
		}
		out := &sectorWriter{dev: w.dev, off: w.offset(list[i]), end: w.offset(list[i] + uint32(k))}
		part := min(size, int64(k)*w.cluster)
		if _, err := io.CopyN(out, r, part); err != nil {
			return 0, err
		}
		if err := out.flush(); err != nil {
			return 0, err
		}
		size, i = size-part, i+k
	}
	for i, c := range list {
		next := uint16(0xffff)
		if i+1 < n {
			next = uint16(list[i+1])
		}
		w.set(c, next)
	}
	return list[0], nil
}

// flush writes those sectors of the table that changed.
func (w *volume) flush() error {
	for at := 0; at < len(w.entries); at += sector {
		if s := w.entries[at : at+sector]; !bytes.Equal(s, w.before[at:at+sector]) {
			if _, err := w.dev.WriteAt(s, w.start()+int64(at)); err != nil {
				return err
			}
		}
	}
	return w.dev.Sync()
}

// enter puts an entry into the root directory.
func (w *volume) enter(e []byte) error {
	b, err := readAny(w.dev, w.rootDir(), w.rootEntries*entrySize)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += entrySize {
		if b[i] != 0 && b[i] != 0xe5 {
			continue
		}
		copy(b[i:], e)
		at := i / sector * sector
		_, err := w.dev.WriteAt(b[at:at+sector], w.rootDir()+int64(at))
		return errors.Join(err, w.dev.Sync())
	}
	return fmt.Errorf("%w: its root directory is full", ErrNoRoom)
}

// copy makes a directory of what another file system has for the kernel, with another command line, and gives its cluster.
func (w *volume) copy(from *fat, line []byte) (dir uint32, err error) {
	root, err := readAny(from.dev, from.rootDir(), from.rootEntries*entrySize)
	if err != nil {
		return 0, err
	}
	return w.directory(from, "", root, line)
}

// directory copies a directory of another file system, given its entries.
func (w *volume) directory(from *fat, path string, b, line []byte) (uint32, error) {
	out := slices.Concat(entry(".          ", attrDirectory, 0, 0), entry("..         ", attrDirectory, 0, 0))
	var pending []byte // the parts of a long name
	var long []uint16
	for ; len(b) >= entrySize && b[0] != 0; b = b[entrySize:] {
		e := bytes.Clone(b[:entrySize])
		if e[0] != 0xe5 && e[11] == attrLongName {
			pending, long = append(pending, e...), append(longPart(e), long...)
			continue
		}
		name := strings.TrimPrefix(path+"/"+entryName(e, long), "/")
		names := pending
		pending, long = nil, nil
		if !isFile(e) || e[0] == '.' || path == "" && !forKernel(name) {
			continue
		}
		x := file{path: name, size: int64(binary.LittleEndian.Uint32(e[28:])), first: uint32(binary.LittleEndian.Uint16(e[26:]))}
		first, err := w.one(from, x, e, line)
		if err != nil {
			return 0, err
		}
		binary.LittleEndian.PutUint16(e[26:], uint16(first))
		out = append(append(out, names...), e...)
	}
	first, err := w.store(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		return 0, err
	}
	return first, w.itself(first)
}

// one copies what one entry stands for.
func (w *volume) one(from *fat, x file, e, line []byte) (uint32, error) {
	switch {
	case e[11]&attrDirectory != 0:
		if strings.Count(x.path, "/") > 8 {
			return 0, fmt.Errorf("%w: directories too deep", ErrFAT)
		}
		list, err := from.chain(x.first)
		if err != nil {
			return 0, err
		}
		var b []byte
		for _, c := range list {
			part, err := readAny(from.dev, from.offset(c), int(from.cluster))
			if err != nil {
				return 0, err
			}
			b = append(b, part...)
		}
		return w.directory(from, x.path, b, line)
	case x.path == cmdlineFile:
		binary.LittleEndian.PutUint32(e[28:], uint32(len(line)))
		return w.store(bytes.NewReader(line), int64(len(line)))
	case x.size == 0:
		return 0, nil
	}
	r, err := from.open(x)
	if err != nil {
		return 0, err
	}
	return w.store(r, x.size)
}

// itself has the first entry of a directory name its cluster.
func (w *volume) itself(first uint32) error {
	b, err := readAny(w.dev, w.offset(first), sector)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(b[26:], uint16(first))
	_, err = w.dev.WriteAt(b, w.offset(first))
	return err
}

// forKernel says whether the firmware looks for a file or directory of the root where os_prefix says.
func forKernel(name string) bool {
	return name == kernelFile || name == cmdlineFile || name == "overlays" || strings.HasSuffix(name, ".dtb")
}

// entry makes a directory entry.
func entry(name string, attr byte, first uint32, size int) []byte {
	e := make([]byte, entrySize)
	copy(e, name)
	e[11] = attr
	binary.LittleEndian.PutUint16(e[24:], 1<<5|1) // the first day of 1980
	binary.LittleEndian.PutUint16(e[26:], uint16(first))
	binary.LittleEndian.PutUint32(e[28:], uint32(size))
	return e
}
