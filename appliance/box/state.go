package box

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"kdht/config"
)

// What the store may take while it is in memory, which the box needs for other things.
const (
	memoryBytes       = 16 << 20
	memoryBytesSource = 1 << 20
)

// chooseState decides where the state is.
func (b *Box) chooseState() {
	if b.later != nil {
		b.useMemory(errRescue)
		return
	}
	b.state, b.permanent = filepath.Join(b.layout.Perm, "kdht"), true
	if err := b.finishReset(); err != nil {
		b.problem("A factory reset that was interrupted cannot be finished: %v.", err)
	}
	if err := usable(b.state); err != nil {
		b.useMemory(err)
	}
}

// usable says why files cannot be written in a directory, which is made if need be. A full disk is not reason enough:
// what is there can still be served.
func usable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe := filepath.Join(dir, "probe.new")
	f, err := os.Create(probe)
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = f.Close() // nothing was written
	return os.Remove(probe)
}

// useMemory keeps the state in memory from now on.
func (b *Box) useMemory(why error) {
	b.problem("The persistent partition cannot be used (%v): everything is kept in memory and lost when the box restarts.", why)
	b.state, b.permanent = b.layout.Memory, false
	if err := os.MkdirAll(b.state, 0o700); err != nil {
		b.problem("Nor can anything be kept in memory: %v.", err)
	}
}

// inMemory is a configuration with the state in memory.
func (b *Box) inMemory(c config.Config) config.Config {
	c.State = b.state
	c.Store.MaxBytes = min(c.Store.MaxBytes, memoryBytes)
	c.Store.MaxBytesPerSource = min(c.Store.MaxBytesPerSource, memoryBytesSource, c.Store.MaxBytes)
	return c
}
