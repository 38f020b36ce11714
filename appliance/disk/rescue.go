package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk/ext4"
)

// setAside saves what can be read, makes a new file system and puts the files back. An
// empty reason means that there never was one.
func (j *job) setAside(ctx context.Context, reason string) error {
	if reason == "" {
		j.say("The persistent partition was empty: a file system is made.")
	} else {
		j.SetAside = true
		j.say("The file system of the persistent partition is beyond repair (%s): it is set aside and a new one is made.", reason)
	}
	start := time.Now()
	tiny := false
	err := j.exclusively(func(f *os.File) error {
		room, err := deviceSize(f)
		if err != nil {
			return err
		}
		if tiny = room < 2*minFiles; tiny {
			return makeFiles(f, room, "perm")
		}
		n, err := save(ctx, f, room, reason, j.far("saved"))
		if err == nil {
			j.log.Info("disk: saved", "files", n.Files, "bytes", n.Length, "took", time.Since(start).Round(time.Millisecond))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set the old file system aside: %w", err)
	}
	if tiny {
		j.say("The partition is too small to save anything of it.")
		return j.Mount()
	}
	return j.finishRescue(ctx)
}

// makeFiles formats with a new identity.
func makeFiles(f *os.File, size int64, label string) error {
	o := ext4.Options{Size: size, Label: label, Time: time.Now()}
	if _, err := rand.Read(o.UUID[:]); err != nil {
		return err
	}
	return ext4.Format(f, o)
}

// finishRescue does what the note at the end of the partition says, if there is one, and
// then erases it. The new file system is mounted after that. Where somebody uses the old one, it waits.
func (j *job) finishRescue(ctx context.Context) error {
	n, err := j.note()
	if errors.Is(err, errNoNote) {
		return nil
	} else if err != nil {
		return err
	}
	if !j.SetAside && n.Reason != "" {
		j.SetAside = true
		j.say("A rescue of files was interrupted and is completed now; the reason for it was: %s.", n.Reason)
	}
	_, isMounted, err := mounted(j.Mountpoint)
	if err != nil {
		return err
	}
	made, err := j.isMade(n)
	if err != nil {
		return err
	}
	if isMounted && !made {
		if err := j.unmount(); err != nil {
			j.say("The old file system is in use, so the rescue waits for the next boot, and what is written until then will be lost: %v.", err)
			j.waits = true
			return nil
		}
		isMounted = false
	}
	if !made {
		if err := j.exclusively(func(f *os.File) error { return n.format(f) }); err != nil {
			return fmt.Errorf("make a new file system: %w", err)
		}
	}
	if !isMounted {
		if err := j.Mount(); err != nil {
			return err
		}
	}
	return j.putBack(ctx, n)
}

func (j *job) note() (*note, error) {
	f, err := os.Open(j.Partition)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	room, err := deviceSize(f)
	if err != nil {
		return nil, err
	}
	if room < 2*minFiles {
		return nil, errNoNote
	}
	return readNote(f, room)
}

// isMade says whether the new file system is there.
func (j *job) isMade(n *note) (bool, error) {
	f, err := os.Open(j.Partition)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return n.isMade(f), nil
}

// isMade says whether d holds the new file system: its superblock is written last.
func (n *note) isMade(d io.ReaderAt) bool {
	s, err := liveSuperblock(d)
	return err == nil && s.UUID == n.UUID
}

// format makes the new file system, which ends where the saved files begin.
func (n *note) format(d device) error {
	return ext4.Format(d, ext4.Options{Size: n.Start, UUID: n.UUID, Label: n.Label, Time: n.Time})
}

// putBack unpacks the saved files into the new file system, flushes it, and erases the note.
func (j *job) putBack(ctx context.Context, n *note) error {
	f, err := os.OpenFile(j.Partition, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	lost, err := unpack(ctx, &metered{r: io.NewSectionReader(f, n.Start, n.Length), all: n.Length, far: j.far("put back")}, j.Mountpoint)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		lost = append(lost, "a part of what was saved: "+err.Error())
	}
	if n.Reason != "" {
		if err := n.tell(j.Mountpoint); err != nil {
			lost = append(lost, err.Error())
		}
	}
	if err := syncFS(j.Mountpoint); err != nil {
		return err
	}
	room, err := deviceSize(f)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, noteSize), notePlace(room)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	j.Saved = n.Files
	j.lose(n.Lost...)
	j.LostCount += n.LostCount - len(n.Lost)
	j.lose(lost...)
	if n.Reason != "" {
		j.say("%d files and folders were taken over from the old file system, %d could not be; /perm/%s says more.",
			j.Saved, j.LostCount, n.folder())
	}
	return nil
}

// tell leaves a description in the new file system.
func (n *note) tell(root string) error {
	text := fmt.Sprintf("%s\n\nThe file system of the persistent partition was beyond repair:\n%s\n\n"+
		"%d files and folders were taken over. The beginning of the old partition is in metadata.img.\n"+
		"%d could not be taken over:\n%s\n",
		n.Time.Format(time.RFC1123), n.Reason, n.Files, n.LostCount, strings.Join(n.Lost, "\n"))
	return os.WriteFile(root+"/"+n.folder()+"/what-happened.txt", []byte(text), 0o600)
}

func syncFS(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return nil
}
