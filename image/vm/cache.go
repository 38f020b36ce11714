package vm

import (
	"errors"
	"io"
)

// before is called before every command that matters to a power cut.
func (d *Disk) before(w Write) error {
	if d.off {
		return errCut
	}
	if d.cutAt == nil {
		return nil
	}
	w.N = d.writes
	d.writes++
	if d.cutAt(w) {
		d.off, d.cutAt = true, nil
		close(d.cut)
		return errCut
	}
	return nil
}

func (d *Disk) read(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return errCut
	}
	if _, err := d.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for i := 0; i < len(p); i += sectorSize {
		if s, ok := d.cache[(off+int64(i))/sectorSize]; ok {
			copy(p[i:], s)
		}
	}
	return nil
}

func (d *Disk) write(p []byte, off int64, fua bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return errCut
	}
	w := Write{Offset: off, Length: int64(len(p))}
	d.recording.add(recorded{Write: w, fua: fua, data: p})
	err := d.before(w)
	// A write that the power cut hits is as lost as the cache is: it goes there.
	for i := 0; i+sectorSize <= len(p); i += sectorSize {
		d.cache[(off+int64(i))/sectorSize] = append([]byte(nil), p[i:i+sectorSize]...)
	}
	switch {
	case err != nil:
		return err
	case fua:
		for i := 0; i < len(p); i += sectorSize {
			delete(d.cache, (off+int64(i))/sectorSize)
		}
		_, err := d.file.WriteAt(p, off)
		return err
	case len(d.cache) > cacheSize/sectorSize:
		return d.writeBack()
	}
	return nil
}

func (d *Disk) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording.add(recorded{Write: Write{Flush: true}})
	if err := d.before(Write{Flush: true}); err != nil {
		return err
	}
	return d.writeBack()
}

// writeBack empties the cache into the file.
func (d *Disk) writeBack() error {
	for s, b := range d.cache {
		if _, err := d.file.WriteAt(b, s*sectorSize); err != nil {
			return err
		}
		delete(d.cache, s)
	}
	return nil
}

// ReadAt reads what is on the disk, its cache not included: what a machine would find after a power cut that loses all.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) { return d.file.ReadAt(p, off) }

// WriteAt changes what is on the disk while no machine runs on it.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) { return d.file.WriteAt(p, off) }
