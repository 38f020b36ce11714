// Package flash writes images to disks and cards, and makes sure that it is the right one and that it was written.
package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrVerify means that a device does not give back what was written to it: it is broken, or not as large as it says.
var ErrVerify = errors.New("the disk does not hold what was written to it")

// block is how much is written and read at a time.
const block = 4 << 20

// Write writes an image to a device and reads it back from the medium. Progress is told before each step, with what was
// done of all, in bytes: all is twice the size of the image. The device must have passed [Device.Check].
func Write(ctx context.Context, d Device, image *os.File, progress func(verb string, done, all int64)) (err error) {
	info, err := image.Stat()
	if err != nil {
		return err
	}
	dev, err := d.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	size, buf := info.Size(), make([]byte, block)
	for off := int64(0); off < size; off += block {
		progress("writing", off, 2*size)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped after %d MiB, the disk is not usable now: %w", off>>20, err)
		}
		n, err := image.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := dev.WriteAt(buf[:n], off); err != nil {
			return err
		}
		if off%(16*block) == 0 { // or else all the time would go by at the end, without progress
			if err := dev.Sync(); err != nil {
				return err
			}
		}
	}
	if err := dev.Sync(); err != nil {
		return err
	}
	if err := forget(dev); err != nil {
		return err
	}
	back := make([]byte, block)
	for off := int64(0); off < size; off += block {
		progress("reading back", size+off, 2*size)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("all is written, and read back up to %d MiB: %w", off>>20, err)
		}
		n, err := image.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if m, err := dev.ReadAt(back[:n], off); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(buf[:n], back[:m]) {
			return errors.Join(fmt.Errorf("%w: it differs between %d and %d MiB", ErrVerify, off>>20, (off+int64(n))>>20), err)
		}
	}
	progress("done", 2*size, 2*size)
	reread(dev)
	return nil
}
