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

// Changed compares a staged boot file system with the one in force. It tells which of the staged files differ; in those
// with a command line, which root partition they name does not count.
func (d *Disk) Changed(reserved int) ([]string, error) {
	next, err := readFAT(d.Boot, int64(reserved+bootCopy)*sector)
	if err != nil {
		return nil, err
	}
	return d.changed(next)
}

// ChangedImage is [Disk.Changed] for a boot image that was not placed.
func (d *Disk) ChangedImage(image io.ReaderAt) ([]string, error) {
	next, err := readFAT(image, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	return d.changed(next)
}

func (d *Disk) changed(next *fat) ([]string, error) {
	now, err := readFAT(d.Boot, 0)
	if err != nil {
		return nil, err
	}
	have, err := now.files()
	if err != nil {
		return nil, err
	}
	staged, err := next.files()
	if err != nil {
		return nil, err
	}
	old := make(map[string]file)
	for _, x := range have {
		old[x.path] = x
	}
	var changed []string
	for _, x := range staged {
		y, ok := old[x.path]
		same := false
		if ok {
			if same, err = sameFile(now, y, next, x); err != nil {
				return nil, err
			}
		}
		if !same {
			changed = append(changed, x.path)
		}
	}
	if _, err := next.find(kernelFile); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	return changed, nil
}

// sameFile compares two files.
func sameFile(f *fat, x file, g *fat, y file) (bool, error) {
	if x.path == cmdlineFile || x.path == loaderFile {
		a, err := line(f, x.path)
		if err != nil {
			return false, err
		}
		b, err := line(g, y.path)
		if err != nil {
			return false, err
		}
		slot, err := RootSlot(a)
		if err != nil {
			return false, err
		}
		if a, err = withRoot(a, a, slot); err != nil {
			return false, err
		}
		like := a
		b, err = withRoot(b, like, slot)
		return a == b, err
	}
	if x.size != y.size {
		return false, nil
	}
	r, err := f.open(x)
	if err != nil {
		return false, err
	}
	s, err := g.open(y)
	if err != nil {
		return false, err
	}
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(r, a)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		m, err := io.ReadFull(s, b)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if n < len(a) {
			return true, nil
		}
	}
}

// Seal makes a staged boot file system one that a commit can put in force: it boots the given slot, keeps the boot loader
// of the one in force, which no trial can test, and has its card.
func (d *Disk) Seal(reserved int, slot Slot) error {
	now, err := readFAT(d.Boot, 0)
	if err != nil {
		return err
	}
	next, err := readFAT(d.Boot, int64(reserved+bootCopy)*sector)
	if err != nil {
		return err
	}
	like, err := line(now, cmdlineFile)
	if err != nil {
		return err
	}
	for _, path := range []string{cmdlineFile, loaderFile} {
		text, err := line(next, path)
		if errors.Is(err, ErrFAT) && path == loaderFile && d.Platform != UEFI {
			continue
		}
		if err != nil {
			return err
		}
		if text, err = withRoot(text, like, slot); err != nil {
			return err
		}
		if err := d.setLine(next, path, text); err != nil {
			return err
		}
	}
	if err := d.keepLoader(now, next); err != nil {
		return err
	}
	c := card{prev: now.reserved}
	code, err := readAny(d.Whole, 0, codeSize)
	if err != nil {
		return err
	}
	if !bytes.Equal(code[:codeKernel], make([]byte, codeKernel)) {
		copy(c.code[:], code)
		if err := d.pointCode(next, c.code[:]); err != nil {
			return err
		}
	}
	if err := d.Boot.Sync(); err != nil {
		return err
	}
	if c.sum, err = d.sum(next); err != nil {
		return err
	}
	return errors.Join(writeHeader(d.Boot, reserved, next.boot, c), d.Boot.Sync())
}

// isLoader says whether a file runs before any kernel does: UEFI's boot loaders, and what the Raspberry Pi's processors begin with
// and its EEPROM is updated from.
func isLoader(path string) bool {
	if strings.HasPrefix(path, "efi/boot/") {
		return true
	}
	if strings.Contains(path, "/") {
		return false
	}
	switch path[max(0, strings.LastIndexByte(path, '.')):] {
	case ".elf", ".dat", ".bin", ".upd", ".sig":
		return true
	}
	return false
}

// keepLoader gives a staged boot file system the boot loaders of the one in force. Those that this one does not have, such as
// the updater of an EEPROM, which renames itself when it is done, go.
func (d *Disk) keepLoader(now, next *fat) error {
	have, err := now.files()
	if err != nil {
		return err
	}
	staged, err := next.files()
	if err != nil {
		return err
	}
	in := func(all []file, path string) (file, bool) {
		i := slices.IndexFunc(all, func(x file) bool { return x.path == path })
		if i < 0 {
			return file{}, false
		}
		return all[i], true
	}
	for _, x := range have {
		if y, ok := in(staged, x.path); isLoader(x.path) && !ok {
			return fmt.Errorf("%w: it has no %s", ErrBootImage, x.path)
		} else if isLoader(x.path) {
			if err := d.keep(now, x, next, y); err != nil {
				return err
			}
		}
	}
	for _, y := range staged {
		if _, ok := in(have, y.path); isLoader(y.path) && !ok {
			if err := d.remove(y); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep gives a staged file the content of another one.
func (d *Disk) keep(now *fat, x file, next *fat, y file) error {
	same, err := sameFile(now, x, next, y)
	if err != nil || same {
		return err
	}
	content, err := now.read(x)
	if err != nil {
		return err
	}
	return d.replace(next, y, content)
}

// remove takes the name of a staged file away.
func (d *Disk) remove(x file) error {
	at := x.entry / sector * sector
	b, err := readAny(d.Boot, at, sector)
	if err != nil {
		return err
	}
	b[x.entry-at] = 0xe5
	_, err = d.Boot.WriteAt(b, at)
	return err
}

// replace gives a file of a staged boot file system another content, in clusters that were free.
func (d *Disk) replace(f *fat, x file, content []byte) error {
	n := int((int64(len(content)) + f.cluster - 1) / f.cluster)
	var free []uint32
	for c := uint32(2); c < f.clusters+2 && len(free) < n; c++ {
		if f.next(c) == 0 {
			free = append(free, c)
		}
	}
	if len(free) < n || n == 0 {
		return fmt.Errorf("%w: no free clusters for %s", ErrNoRoom, x.path)
	}
	padded := make([]byte, int64(n)*f.cluster)
	copy(padded, content)
	for i, c := range free {
		next := uint16(0xffff)
		if i+1 < n {
			next = uint16(free[i+1])
		}
		binary.LittleEndian.PutUint16(f.entries[2*c:], next)
		if _, err := d.Boot.WriteAt(padded[int64(i)*f.cluster:][:f.cluster], f.offset(c)); err != nil {
			return err
		}
	}
	if _, err := d.Boot.WriteAt(f.entries, f.start()); err != nil {
		return err
	}
	at := x.entry / sector * sector
	b, err := readAny(d.Boot, at, sector)
	if err != nil {
		return err
	}
	e := b[x.entry-at:]
	binary.LittleEndian.PutUint16(e[26:], uint16(free[0]))
	binary.LittleEndian.PutUint32(e[28:], uint32(len(content)))
	_, err = d.Boot.WriteAt(b, at)
	return err
}
