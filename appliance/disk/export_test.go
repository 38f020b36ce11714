package disk

import (
	"context"
	"errors"
	"io"
)

// Device lets tests rescue in memory.
type Device = device

// Save writes what can be read of a file system, and the note, to the end of d.
func Save(ctx context.Context, d Device, size int64) error {
	_, err := save(ctx, d, size, "a test", func(int64, int64) {})
	return err
}

// Resume does what the next boot does with d: nothing if there is no note; otherwise the new file
// system is made unless it is there. It reports whether there was a note.
func Resume(d Device, size int64) (bool, error) {
	n, err := readNote(d, size)
	if errors.Is(err, errNoNote) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if n.isMade(d) {
		return true, nil
	}
	return true, n.format(d)
}

// Unpack puts what was saved below root.
func Unpack(ctx context.Context, d Device, size int64, root string) ([]string, error) {
	n, err := readNote(d, size)
	if err != nil {
		return nil, err
	}
	return unpack(ctx, io.NewSectionReader(d, n.Start, n.Length), root)
}
