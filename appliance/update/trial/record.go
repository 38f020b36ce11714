// Package trial is what the program, its guard, and their successors after a restart tell each other about the trial of
// an update: records in the state directory, and what health is.
package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/durable"
	"kdht/appliance/update/bootdisk"
)

// Directory is where the records are, below the state directory.
const Directory = "update"

// Names of the records.
const (
	TrialFile   = "trial.json"
	OutcomeFile = "outcome.json"
)

// DefaultDeadline and DefaultPasses are what the guard uses when nothing says how long the trial is.
const (
	DefaultDeadline = 5 * time.Minute
	DefaultPasses   = 5
	// What else is said is believed between these.
	minDeadline, maxDeadline = 10 * time.Second, time.Hour
)

// Trial is the record of a trial, for the guard and for whoever starts after it.
type Trial struct {
	Target   bootdisk.Target `json:"target"`
	From     string          `json:"from"` // versions
	To       string          `json:"to"`
	Serial   uint64          `json:"serial"`
	Floor    uint64          `json:"floor,omitempty"` // lowest serial that is taken after it
	By       string          `json:"by"`
	Method   string          `json:"method"` // "kexec", "flag" or "once"
	Note     string          `json:"note,omitempty"`
	Armed    time.Time       `json:"armed"`
	Deadline float64         `json:"deadline"` // seconds after the start of the machine
	Passes   int             `json:"passes"`   // in a row
	Before   Before          `json:"before"`
}

// Before is what the box did before a trial, and must do in it.
type Before struct {
	Kernel bool `json:"kernel"` // the kernel half was attached
	Good   int  `json:"good"`   // contacts
	// Memory says that the state was in memory, and Failing that nothing could be stored: what was so before cannot be
	// held against a new version, which may be what mends it.
	Memory  bool `json:"memory,omitempty"`
	Failing bool `json:"failing,omitempty"`
	// NoLink says that no interface was up, NoAddress that none had an address beside the link-local ones.
	NoLink    bool `json:"noLink,omitempty"`
	NoAddress bool `json:"noAddress,omitempty"`
	// Tailnet says that the admin plane was in its tailnet.
	Tailnet bool `json:"tailnet,omitempty"`
	// Tasks are those that did not run.
	Tasks []string `json:"tasks,omitempty"`
}

// Limit is how long after the start of the machine a trial ends that was not committed; ok is false if the record does not say so.
func (t *Trial) Limit() (d time.Duration, ok bool) {
	d = time.Duration(t.Deadline * float64(time.Second))
	return d, d >= minDeadline && d <= maxDeadline
}

// beforeKey begins the word on the kernel's command line for a trial that finds no record, as when /perm cannot be mounted: it tells
// [Before], and behind a comma the deadline in seconds.
const beforeKey = "kdht.before="

// Word is the word for the kernel's command line.
func (t *Trial) Word() string {
	s := beforeKey + t.Before.letters()
	if d, ok := t.Limit(); ok {
		s += fmt.Sprintf(",%d", int(d.Seconds()))
	}
	return s
}

func (b Before) letters() (s string) {
	for _, x := range []struct {
		yes    bool
		letter string
	}{{b.Kernel, "k"}, {b.Good > 0, "g"}, {b.Memory, "m"}, {b.Failing, "f"}, {b.NoLink, "l"}, {b.NoAddress, "a"}, {b.Tailnet, "t"}} {
		if x.yes {
			s += x.letter
		}
	}
	return s
}

// FindBefore reads the word from a command line; ok says whether there is one, and limit is [DefaultDeadline] if it has none.
func FindBefore(line string) (b Before, limit time.Duration, ok bool) {
	for _, w := range strings.Fields(line) {
		s, found := strings.CutPrefix(w, beforeKey)
		if !found {
			continue
		}
		letters, seconds, _ := strings.Cut(s, ",")
		has := func(letter string) bool { return strings.Contains(letters, letter) }
		b = Before{Kernel: has("k"), Memory: has("m"), Failing: has("f"), NoLink: has("l"), NoAddress: has("a"), Tailnet: has("t")}
		if has("g") {
			b.Good = 1
		}
		var t Trial
		t.Deadline, _ = strconv.ParseFloat(seconds, 64) // 0 is none
		if limit, ok = t.Limit(); !ok {
			limit = DefaultDeadline
		}
		return b, limit, true
	}
	return b, DefaultDeadline, false
}

// Outcome is what the guard leaves behind.
type Outcome struct {
	Committed bool   `json:"committed"`
	Reason    string `json:"reason,omitempty"`
	// Failed names the checks of [Health] that failed at last, if those were the reason.
	Failed []string  `json:"failed,omitempty"`
	Time   time.Time `json:"time"`
}

// Outside says that the trial ended for nothing but what the network around the box may be to blame for.
func (o Outcome) Outside() bool {
	return len(o.Failed) > 0 && !slices.ContainsFunc(o.Failed, func(name string) bool { return !slices.Contains(Outside, name) })
}

// Read reads a record; without one it leaves v as it is and gives false.
func Read(dir, name string, v any) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(b, v)
}

// Write writes a record so that after a power cut the old one is there, or the new one. On a full disk it takes what [Reserve] has
// made.
func Write(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for {
		if err := durable.Write(filepath.Join(dir, name), b, 0o600); !errors.Is(err, unix.ENOSPC) || !yield(dir) {
			return err
		}
	}
}

// Remove removes records durably.
func Remove(dir string, names ...string) error {
	var errs []error
	for _, n := range names {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		errs = append(errs, durable.SyncParent(filepath.Join(dir, "record")))
	}
	return errors.Join(errs...)
}
