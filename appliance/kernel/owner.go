package kernel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf"
)

const (
	// ownTries and ownPause are how long own waits for another instance that takes the directory for a dead one's and removes it.
	ownTries = 500
	ownPause = 10 * time.Millisecond
)

// own makes a pin directory, if there is none, and marks it as that of a living process, until the result is closed or the process
// has died. The error is [unix.EWOULDBLOCK] if it is that of another living process.
func own(dir string) (io.Closer, error) {
	for try := 1; ; try++ {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		o, err := lock(dir)
		if err == nil {
			return o, nil
		}
		if try == ownTries || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		time.Sleep(ownPause)
	}
}

// lock locks a directory that exists, in whatever namespaces those are who do so as well: EWOULDBLOCK if another process has.
func lock(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var locked, there unix.Stat_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &locked), unix.Stat(dir, &there)); err != nil || locked.Ino != there.Ino {
		return nil, errors.Join(fs.ErrNotExist, err, f.Close()) // it was removed meanwhile
	}
	return f, nil
}

// sweep removes the pins of dead instances of the program whose interfaces are all gone, mostly with their network namespace: nobody
// can take them over, and their maps hold memory of the kernel, some 12 MB each. It returns the directories.
func sweep(ownDir string) (removed []string) {
	dirs, err := filepath.Glob(filepath.Join(filepath.Dir(ownDir), "*"))
	if err != nil {
		return nil // the pattern is a good one
	}
	for _, dir := range dirs {
		if dir != filepath.Clean(ownDir) && removeDead(dir, bpf.Orphaned) {
			removed = append(removed, dir)
		}
	}
	return removed
}

// removeDead removes a pin directory if no living process has it and what is in it is such that it may go.
func removeDead(dir string, mayGo func(dir string) bool) bool {
	if !mayGo(dir) {
		return false
	}
	o, err := lock(dir)
	if err != nil {
		return false // its process lives
	}
	defer o.Close()
	return mayGo(dir) && os.RemoveAll(dir) == nil
}

// reclaim removes the pins that dead instances of the program in this network namespace have at an interface, and
// with them what is attached there. It returns the directories. Where the next process of the same instance would
// have taken over, another instance cannot: the interface would be busy for good.
func reclaim(ownDir string, ifindex int) (removed []string) {
	root, base := filepath.Split(ownDir)
	_, namespace, ok := strings.Cut(base, "-")
	if !ok {
		return nil
	}
	links, err := filepath.Glob(filepath.Join(root, "*-"+namespace, fmt.Sprintf("link-%d-*", ifindex)))
	if err != nil {
		return nil // the pattern is a good one
	}
	for _, l := range links {
		if dir := filepath.Dir(l); dir != filepath.Clean(ownDir) && removeDead(dir, func(string) bool { return true }) {
			removed = append(removed, dir)
		}
	}
	return removed
}
