package bootdisk

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Slot is one of the two partitions for root file systems, by its number on the disk.
type Slot int

// Slots, as gokrazy numbers partitions.
const (
	Slot2 Slot = 2
	Slot3 Slot = 3
)

// Other is the slot that is not this one.
func (s Slot) Other() Slot { return 5 - s }

// Valid says whether there is such a slot.
func (s Slot) Valid() bool { return s == Slot2 || s == Slot3 }

// TryFlag makes gokrazy's init leave the root file system that the kernel mounted for the other one, once: it takes the
// flag off before.
const (
	TryFlag = "gokrazy.try_boot_inactive=1"
	// triedFlag is what init leaves in its place.
	triedFlag = "gokrazy.switch_on_boot=1"
	// ownKeys begins the words that are for a trial alone.
	ownKeys = "kdht."
)

// ErrCommandLine says that a command line does not have the form that gokrazy writes.
var ErrCommandLine = errors.New("unexpected kernel command line")

// The three ways in which gokrazy names a root partition; the last group is the number that tells the slots apart.
var roots = []struct {
	re   *regexp.Regexp
	base int // slot of number 0
}{
	{regexp.MustCompile(`^(root=PARTUUID=[0-9a-fA-F-]{36}/PARTNROFF=)([12])$`), 1},
	{regexp.MustCompile(`^(root=PARTUUID=[0-9a-fA-F]{8}-0)([23])$`), 0},
	{regexp.MustCompile(`^(root=/dev/[a-z0-9]+?)([23])$`), 0},
}

// rootOf finds the root= parameter of a command line: the parameter up to the slot's number, and the slot.
func rootOf(line string) (prefix string, base int, slot Slot, err error) {
	for _, word := range strings.Fields(line) {
		for _, r := range roots {
			if m := r.re.FindStringSubmatch(word); m != nil {
				n, _ := strconv.Atoi(m[2]) // one digit
				return m[1], r.base, Slot(n + r.base), nil
			}
		}
	}
	return "", 0, 0, fmt.Errorf("%w: no root partition in %q", ErrCommandLine, line)
}

// RootSlot tells which slot a command line names.
func RootSlot(line string) (Slot, error) {
	_, _, slot, err := rootOf(line)
	return slot, err
}

// withRoot gives a command line the root partition that another one names, but of the given slot. Flags of trials are
// left out.
func withRoot(line, like string, slot Slot) (string, error) {
	prefix, base, _, err := rootOf(like)
	if err != nil {
		return "", err
	}
	found := false
	var words []string
	for _, w := range strings.Fields(line) {
		switch {
		case w == TryFlag || w == triedFlag || strings.HasPrefix(w, ownKeys):
			continue
		case strings.HasPrefix(w, "root="):
			if found {
				return "", fmt.Errorf("%w: two root partitions in %q", ErrCommandLine, line)
			}
			found, w = true, prefix+strconv.Itoa(int(slot)-base)
		}
		words = append(words, w)
	}
	if !found {
		return "", fmt.Errorf("%w: no root partition in %q", ErrCommandLine, line)
	}
	return strings.Join(words, " "), nil
}

// Files with a command line. The first one is read by gokrazy's MBR loader, the Raspberry Pi's firmware and gokrazy's
// init, the other one by systemd-boot.
const (
	cmdlineFile = "cmdline.txt"
	loaderFile  = "loader/entries/gokrazy.conf"
	kernelFile  = "vmlinuz"
)

// options is what begins the line of the loader's file that has the command line.
const options = "options "

// lineOf finds the command line in the content of one of these files: where it begins and ends.
func lineOf(path string, content []byte) (from, to int, err error) {
	if path == loaderFile {
		if !bytes.HasPrefix(content, []byte(options)) {
			i := bytes.Index(content, []byte("\n"+options))
			if i < 0 {
				return 0, 0, fmt.Errorf("%w: %s has no options", ErrCommandLine, path)
			}
			from = i + 1
		}
		from += len(options)
	}
	to = len(content)
	if i := bytes.IndexByte(content[from:], '\n'); i >= 0 {
		to = from + i
	}
	return from, to, nil
}

// replaceLine puts another command line into the content of one of these files without changing its length: what is left
// over is filled with blanks, which gokrazy's packer leaves room for.
func replaceLine(path string, content []byte, line string) ([]byte, error) {
	from, to, err := lineOf(path, content)
	if err != nil {
		return nil, err
	}
	if len(line) > to-from {
		return nil, fmt.Errorf("%w: %d bytes for %q in %s", ErrCommandLine, to-from, line, path)
	}
	out := bytes.Clone(content)
	copy(out[from:to], line+strings.Repeat(" ", to-from-len(line)))
	return out, nil
}
