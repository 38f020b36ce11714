package disk

import (
	"errors"
	"fmt"
	"log/slog"
)

// Errors of [Perm] and [Place.Prepare].
var (
	// ErrNoDisk means that the disk that gokrazy booted from, or its partition 4, was not found.
	ErrNoDisk = errors.New("the boot disk has no persistent partition")
	// ErrNotMounted means that the persistent partition could not be made usable.
	ErrNotMounted = errors.New("the persistent partition cannot be mounted")
)

// Report says what was found and done. It is complete even when there is an error.
type Report struct {
	// Device is the partition, such as /dev/mmcblk0p4; empty if none was found.
	Device string
	// Mounted says that the partition can be read and written at its mount point.
	Mounted bool
	// Kind is the kind of file system, as the kernel names it; empty if not mounted.
	Kind string
	// Size is the size of the file system in bytes; 0 if it is not ext4 or not mounted.
	Size int64
	// GrownFrom and GrownTo are the size of the file system before and after growing, in
	// bytes; equal when it did not grow.
	GrownFrom, GrownTo int64
	// Repaired says that damage was mended without loss.
	Repaired bool
	// SetAside says that the old file system was beyond repair and a new one was made.
	SetAside bool
	// Saved counts the files taken over from the one that was set aside; Lost names what was not,
	// at most 100 of them, and LostCount counts them.
	Saved     int
	Lost      []string
	LostCount int
	// Sentences tell all this and every failure, in order, for people. Empty when
	// everything was as it should be.
	Sentences []string
}

// Grown says whether the file system is larger than before.
func (r *Report) Grown() bool { return r.GrownTo > r.GrownFrom }

// maxLost bounds Report.Lost.
const maxLost = 100

func (r *Report) lose(what ...string) {
	r.LostCount += len(what)
	r.Lost = append(r.Lost, what[:min(len(what), maxLost-len(r.Lost))]...)
}

// A job is one call of Prepare.
type job struct {
	Place
	Report
	log *slog.Logger
	// waits says that saved files lie at the end of the partition, and are not put back yet.
	waits bool
}

// say records a sentence, and logs it.
func (j *job) say(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	j.Sentences = append(j.Sentences, s)
	j.log.Warn("disk: "+s, "device", j.Device)
}

// size writes bytes as people read them.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
