package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"kdht/appliance/durable"
)

// oldPatience is how long the clock has to come to the end of what was kept; until then nothing is saved.
const oldPatience = 2 * time.Hour

// maxFile bounds the file; more than that nobody has written.
const maxFile = 1 << 20

// restore reads what the process before has kept. A file that makes no sense is as good as none.
func (r *Recorder) restore() {
	if r.o.File == "" {
		return
	}
	s, err := read(r.o.File)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.o.Log.Warn("the history of the last day is lost", "err", err)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.old = s
}

func read(path string) (*Span, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	var s Span
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.Step != DayStep.Seconds() {
		return nil, fmt.Errorf("%s: steps of %v s", path, s.Step)
	}
	return &s, nil
}

// mergeOld puts what the process before has kept to its place in the day, once the clock can be believed: machines without
// one begin long ago. r.mu is held.
func (r *Recorder) mergeOld(now time.Time) {
	if r.old == nil {
		return
	}
	ours := r.span(r.day).End
	age := ours.Sub(r.old.End)
	if now.Before(r.old.End) {
		if time.Since(r.begin) > oldPatience {
			r.old = nil // it was the clock of then that was wrong
		}
		return
	}
	steps := int64((age + DayStep/2) / DayStep)
	for m := range Metrics {
		r.day.merge(m, r.old.Of(m), steps)
	}
	r.old = nil
}

// save writes the day. What cannot be written is lost at the next restart, and nothing else.
func (r *Recorder) save() {
	if r.o.File == "" {
		return
	}
	r.mu.Lock()
	waiting := r.old != nil
	s := r.span(r.day)
	r.mu.Unlock()
	if waiting {
		return // what is there is worth more than the little since the start
	}
	if err := write(r.o.File, s); err != nil {
		r.o.Log.Debug("history not saved", "err", err)
	}
}

// write replaces a file as a whole.
func write(path string, s Span) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Write(path, b, 0o600)
}
