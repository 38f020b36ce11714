package fat

import (
	"fmt"
)

// label is the name of the volume that people see.
const label = "KDHT       "

// SetLabel names the volume.
func (fs FS) SetLabel() error {
	if _, err := fs.layout(); err != nil {
		return err
	}
	copy(fs[43:54], label)
	return fs.walk(func(e entry) error {
		if e.attr()&attrVolume != 0 {
			copy(e.raw, label)
		}
		return nil
	})
}

// Trim returns the file system without what lies behind its last sector.
func (fs FS) Trim() (FS, error) {
	l, err := fs.layout()
	if err != nil {
		return nil, err
	}
	if len(fs) < l.total*sector {
		return nil, fmt.Errorf("%w: %d sectors in %d bytes", ErrFormat, l.total, len(fs))
	}
	return fs[:l.total*sector], nil
}
