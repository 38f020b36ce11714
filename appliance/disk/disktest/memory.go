package disktest

import (
	"errors"
	"io"
	"maps"
	"slices"
)

const page = 512

// Memory is a sparse disk in memory that remembers every write, sector by sector in the
// order of issue, so that a power cut after any of them can be replayed.
type Memory struct {
	size   int64
	pages  map[int64][]byte
	writes []written
	// Limit, when positive, makes every write beyond that number of sectors fail.
	Limit int
}

type written struct {
	page int64
	data []byte
}

// ErrCut is what a [Memory] with a Limit returns once the power is off.
var ErrCut = errors.New("power cut")

// NewMemory gives an empty disk.
func NewMemory(size int64) *Memory { return &Memory{size: size, pages: map[int64][]byte{}} }

// Size is the disk's size in bytes.
func (m *Memory) Size() int64 { return m.size }

// ReadAt implements io.ReaderAt.
func (m *Memory) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= m.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), m.size-off))
	for done := 0; done < n; {
		at := (off + int64(done)) % page
		room := min(n-done, int(page-at))
		if p, ok := m.pages[(off+int64(done))/page]; ok {
			copy(b[done:done+room], p[at:])
		} else {
			clear(b[done : done+room])
		}
		done += room
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (m *Memory) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > m.size {
		return 0, errors.New("write beyond the end of the disk")
	}
	for done := 0; done < len(b); {
		if m.Limit > 0 && len(m.writes) >= m.Limit {
			return done, ErrCut
		}
		number, at := (off+int64(done))/page, (off+int64(done))%page
		p := make([]byte, page)
		copy(p, m.pages[number])
		done += copy(p[at:], b[done:])
		m.pages[number] = p
		m.writes = append(m.writes, written{number, p})
	}
	return len(b), nil
}

// Sync implements the flush of a device: everything written is there.
func (m *Memory) Sync() error { return nil }

// Writes is the number of sectors written since the disk was made or cloned.
func (m *Memory) Writes() int { return len(m.writes) }

// Clone gives an independent copy that has recorded nothing yet.
func (m *Memory) Clone() *Memory {
	return &Memory{size: m.size, pages: maps.Clone(m.pages)}
}

// Resized is a clone on a disk of another size: an image on a larger card.
func (m *Memory) Resized(size int64) *Memory {
	c := m.Clone()
	c.size = size
	return c
}

// Replay gives base with the first n sectors that were written to m.
func (m *Memory) Replay(base *Memory, n int) *Memory {
	c := base.Clone()
	for _, w := range m.writes[:n] {
		c.pages[w.page] = w.data
	}
	return c
}

// CopyTo writes the disk's contents, without the zeros, to w.
func (m *Memory) CopyTo(w io.WriterAt) error {
	for _, number := range slices.Sorted(maps.Keys(m.pages)) {
		if _, err := w.WriteAt(m.pages[number], number*page); err != nil {
			return err
		}
	}
	return nil
}
