package vm

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
)

// Recording is what a disk was at a moment, and every command since that changed it or made changes durable. From it the
// disk can be made that a power cut at any of them would have left, as often as one likes.
type Recording struct {
	base *os.File

	mu       sync.Mutex
	cache    map[int64][]byte // by sector: what was not flushed at the beginning
	commands []recorded
}

type recorded struct {
	Write
	fua  bool
	data []byte
}

// Record begins a recording, which keeps a copy of the disk in a file and the data in memory, and ends one under way.
func (d *Disk) Record(path string) (*Recording, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := errors.Join(f.Truncate(d.size), copySparse(f, d.file, d.size)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r := &Recording{base: f, cache: make(map[int64][]byte, len(d.cache))}
	for s, b := range d.cache {
		r.cache[s] = slices.Clone(b)
	}
	d.recording = r
	return r, nil
}

// StopRecording ends a recording.
func (d *Disk) StopRecording() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording = nil
}

// add takes a command in.
func (r *Recording) add(c recorded) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.N, c.data = len(r.commands), slices.Clone(c.data)
	r.commands = append(r.commands, c)
}

// Commands returns the commands so far.
func (r *Recording) Commands() []Write {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Write, len(r.commands))
	for i, c := range r.commands {
		list[i] = c.Write
	}
	return list
}

// Cut makes a file of what the disk would have been after a power cut at command n, which is lost like all that was not
// flushed, or not, as loss says.
func (r *Recording) Cut(n int, loss Loss, path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := r.base.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), copySparse(f, r.base, size)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := &Disk{file: f, size: size, cache: make(map[int64][]byte, len(r.cache)), cut: make(chan struct{})}
	for s, b := range r.cache {
		d.cache[s] = slices.Clone(b)
	}
	for i, c := range r.commands[:min(n+1, len(r.commands))] {
		d.mu.Lock()
		d.cutAt = func(Write) bool { return i == n }
		d.mu.Unlock()
		if c.Flush {
			err = d.flush()
		} else {
			err = d.write(c.data, c.Offset, c.fua)
		}
		if err != nil && !errors.Is(err, errCut) {
			return err
		}
	}
	return d.powerOff(loss)
}

// Close ends the use of a recording.
func (r *Recording) Close() error { return r.base.Close() }
