package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"kdht/appliance/disk/ext4"
)

// Perm prepares the persistent partition of the running box, see [Place.Prepare]. It must
// be called before anything uses /perm. Of what takes long, progress is told how far it is: what is done to the files, and how many
// bytes of all.
func Perm(ctx context.Context, log *slog.Logger, progress func(what string, done, all int64)) (Report, error) {
	p, err := Locate()
	p.Progress = progress
	if err != nil {
		r := Report{Sentences: []string{fmt.Sprintf("No persistent partition was found: %v.", err)}}
		return r, err
	}
	return p.Prepare(ctx, log)
}

// Prepare mounts the partition if it is not mounted, after mending it or setting it aside
// where needed, and grows it. It is done in a second or two unless files must be saved,
// which takes as long as reading and writing them twice.
//
// An error means that the partition is not usable; it wraps [ErrNotMounted], or is
// ctx's. A call that was interrupted in any way is completed by the next.
func (p Place) Prepare(ctx context.Context, log *slog.Logger) (Report, error) {
	j := &job{Place: p, log: log, Report: Report{Device: p.Partition}}
	if err := j.prepare(ctx); err != nil {
		j.say("The persistent partition is not in use: %v.", err)
		return j.Report, fmt.Errorf("%w: %w", ErrNotMounted, err)
	}
	m, ok, err := mounted(p.Mountpoint)
	if err != nil || !ok {
		return j.Report, errors.Join(ErrNotMounted, err)
	}
	j.Kind, j.Mounted = m.kind, !m.readOnly
	if !j.Mounted {
		return j.Report, fmt.Errorf("%w: it is read-only", ErrNotMounted)
	}
	return j.Report, nil
}

func (j *job) prepare(ctx context.Context) error {
	m, ok, err := mounted(j.Mountpoint)
	if err != nil {
		return err
	}
	if ok && m.kind != "ext4" {
		j.say("The persistent partition has a %s file system, which is used as it is: it is not checked and does not grow.", m.kind)
		return nil
	}
	if ok {
		if ours, err := m.isPartition(j.Partition); err != nil {
			return err
		} else if !ours {
			j.say("What is mounted at %s is not the persistent partition: it is not checked and does not grow.", j.Mountpoint)
			return nil
		}
		suspect, err := j.suspect(m)
		if err != nil {
			return err
		}
		switch err := j.release(suspect); {
		case err != nil:
			// Somebody uses it already: better to go on than to take it away from under them.
			j.say("The kernel found errors in the file system (%s), and it is in use, so it could not be checked: %v.", suspect, err)
			return nil
		case suspect == "":
			if err := j.finishRescue(ctx); err != nil {
				return err
			}
			j.grow()
			return nil
		}
		j.say("The kernel found errors in the file system: %s.", suspect)
	}
	if err := j.heal(ctx); err != nil {
		return err
	}
	j.grow()
	return nil
}

// suspect says why a mounted file system must be looked at, or nothing.
func (j *job) suspect(m mount) (string, error) {
	f, err := os.Open(j.Partition)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s, err := liveSuperblock(f)
	switch {
	case errors.Is(err, ext4.ErrUnsupported):
		// Somebody else's choice of features, which the kernel knows.
		j.log.Info("disk: the file system is not one that this program can check", "reason", err)
		return "", nil
	case err != nil:
		return err.Error(), nil
	case s.Errors > 0:
		return fmt.Sprintf("%d errors, the last in %s", s.Errors, s.LastError), nil
	case notedErrors(j.Partition) > 0:
		return fmt.Sprintf("%d errors", notedErrors(j.Partition)), nil
	case s.NotedErrors():
		return "they were noted at an earlier boot", nil
	case m.readOnly:
		return "it is mounted read-only", nil
	}
	return "", nil
}

// release unmounts a suspect file system.
func (j *job) release(suspect string) error {
	if suspect == "" {
		return nil
	}
	return j.unmount()
}
