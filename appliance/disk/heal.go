package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk/ext4"
)

// beyondRepair is why a file system must be set aside.
type beyondRepair struct{ reason string }

func (e *beyondRepair) Error() string { return e.reason }

// heal takes a partition that is not mounted to one that is, in use and sound. The
// device is opened exclusively, which fails if it is mounted elsewhere.
func (j *job) heal(ctx context.Context) error {
	if err := j.finishRescue(ctx); err != nil {
		return err
	}
	if _, ok, err := mounted(j.Mountpoint); err != nil || ok {
		return err // the rescue ends with mounting
	}
	var beyond *beyondRepair
	err := j.mend(ctx)
	if err == nil {
		if err = j.Mount(); err == nil {
			return nil
		}
		if !systems(err) { // the checks found nothing, and still the kernel does not take it
			err = &beyondRepair{err.Error()}
		}
	}
	if errors.As(err, &beyond) {
		return j.setAside(ctx, beyond.reason)
	}
	return err
}

// systems says whether an error of a mount is one of the system, such as a kernel without ext4, and so says nothing about
// the file system.
func systems(err error) bool {
	for _, e := range []unix.Errno{unix.ENODEV, unix.ENXIO, unix.ENOENT, unix.ENOTDIR, unix.ENOTBLK, unix.ENOMEM, unix.EBUSY, unix.EPERM, unix.EACCES} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// exclusively runs fn with the partition opened for it alone.
func (j *job) exclusively(fn func(f *os.File) error) (err error) {
	f, err := os.OpenFile(j.Partition, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return err
	}
	// The kernel must not mount from, nor the next open read from, what was cached before.
	defer func() { err = errors.Join(err, f.Sync(), dropCache(f), f.Close()) }()
	return fn(f)
}

// mend repairs what can be repaired without loss. A [*beyondRepair] says that it cannot;
// other errors are those of the device.
func (j *job) mend(ctx context.Context) error {
	restored := false
	err := j.exclusively(func(f *os.File) error {
		var err error
		restored, err = j.superblock(f)
		return err
	})
	if err != nil {
		return err
	}
	if err := j.journal(); err != nil {
		return err
	}
	return j.exclusively(func(f *os.File) error { return j.groups(ctx, f, restored) })
}

// superblock makes sure that there is a primary superblock.
func (j *job) superblock(f *os.File) (restored bool, err error) {
	_, err = ext4.ReadSuperblock(f, 0)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, ext4.ErrUnsupported):
		return false, &beyondRepair{"the kernel does not mount it, and this program cannot check it: " + err.Error()}
	case !errors.Is(err, ext4.ErrNoSuperblock) && !errors.Is(err, ext4.ErrChecksum) && !errors.Is(err, ext4.ErrGeometry):
		return false, err
	}
	room, sizeErr := deviceSize(f)
	if sizeErr != nil {
		return false, sizeErr
	}
	s, findErr := ext4.FindSuperblock(f, room)
	if findErr != nil {
		if errors.Is(err, ext4.ErrNoSuperblock) && blank(f) {
			return false, &beyondRepair{""}
		}
		return false, &beyondRepair{fmt.Sprintf("%v; %v", err, findErr)}
	}
	if err := ext4.RestoreSuperblock(f, s); err != nil {
		return false, &beyondRepair{err.Error()}
	}
	j.say("The superblock was lost (%v) and was restored from the copy in block group %d.", err, s.Group)
	return true, nil
}

// blank says whether nothing was ever written to the beginning of the partition.
func blank(r io.ReaderAt) bool {
	b := make([]byte, 1<<20)
	n, err := r.ReadAt(b, 0)
	return (err == nil || err == io.EOF) && bytes.Count(b[:n], []byte{0}) == n
}

// journal has the kernel replay the journal if it holds anything. If the kernel cannot mount, the
// descriptors are made good enough for it; as the last resort the journal is given up.
func (j *job) journal() error {
	reset := func(f *os.File) error {
		j.say("The journal cannot be replayed and was given up: the last changes before the failure may be lost.")
		return ext4.ResetJournal(f)
	}
	first := func(f *os.File) error {
		if s, err := ext4.ReadSuperblock(f, 0); err != nil || s.Pending() || ext4.JournalIntact(f) {
			return err
		}
		return reset(f)
	}
	patch := func(f *os.File) error { return ext4.PatchDescriptors(f) }
	for _, step := range []func(*os.File) error{first, patch, reset} {
		pending := false
		err := j.exclusively(func(f *os.File) error {
			if err := step(f); err != nil {
				return err
			}
			s, err := ext4.ReadSuperblock(f, 0)
			pending = err == nil && s.Pending()
			return err
		})
		if err != nil {
			return &beyondRepair{err.Error()}
		}
		if !pending {
			return nil
		}
		if err = j.replay(); err == nil || systems(err) {
			return err
		}
		j.log.Warn("disk: the journal was not replayed", "device", j.Device, "error", err)
	}
	return &beyondRepair{"its journal cannot be replayed"}
}

// groups verifies everything and makes descriptors and bitmaps anew if that helps.
func (j *job) groups(ctx context.Context, f *os.File, restored bool) error {
	problems, err := ext4.Check(ctx, f)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &beyondRepair{err.Error()}
	case len(problems) > 0:
		if problems.Worst() == ext4.Files {
			return &beyondRepair{problems.String()}
		}
		if err := ext4.RebuildGroups(ctx, f); err != nil {
			return &beyondRepair{err.Error()}
		}
		j.say("Descriptors or bitmaps were damaged and were made anew from the files, which are sound: %v.", problems)
		j.Repaired = true
	}
	s, err := ext4.ReadSuperblock(f, 0)
	if err != nil {
		return err
	}
	if !s.NotedErrors() {
		return nil
	}
	if err := ext4.ClearErrors(f); err != nil {
		return err
	}
	if restored {
		j.Repaired = true
	} else if len(problems) == 0 {
		j.say("All metadata was checked and is sound: the note of errors was cleared.")
	}
	return nil
}
