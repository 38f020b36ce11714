package journal

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
)

// DefaultBytes is what a journal keeps if nobody says otherwise: some thousand lines.
const DefaultBytes = 512 << 10

// Journal is the last lines of a log. All methods may be called by any goroutine.
type Journal struct {
	mu      sync.Mutex
	last    uint64    // Seq of the newest line
	usual   ring      // what is less severe than WARN
	severe  ring      // the rest, which no flood of the usual drives out
	counted [4]uint64 // lines by severity
	missed  uint64
	wake    chan struct{} // closed when a line comes; nil while nobody waits
}

// New returns a journal that keeps lines of up to about so many bytes together, a quarter of that for lines of WARN and
// above.
func New(bytes int) *Journal {
	return &Journal{usual: ring{max: bytes - bytes/4}, severe: ring{max: bytes / 4}}
}

// Counts says what a journal has seen.
type Counts struct {
	Debug, Info, Warn, Error uint64 // lines by severity
	Forgotten                uint64 // lines that are not kept any more
	Missed                   uint64 // by readers of Follow, all together
	Bytes                    int    // that are kept
}

// Counts returns what the journal has seen.
func (j *Journal) Counts() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Counts{
		Debug: j.counted[0], Info: j.counted[1], Warn: j.counted[2], Error: j.counted[3],
		Forgotten: j.usual.forgotten + j.severe.forgotten,
		Missed:    j.missed,
		Bytes:     j.usual.bytes + j.severe.bytes,
	}
}

// add keeps a line.
func (j *Journal) add(l Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	l.Seq = j.last
	switch {
	case l.Level >= slog.LevelError:
		j.counted[3]++
	case l.Level >= slog.LevelWarn:
		j.counted[2]++
	case l.Level >= slog.LevelInfo:
		j.counted[1]++
	default:
		j.counted[0]++
	}
	if l.Level >= slog.LevelWarn {
		j.severe.add(l)
	} else {
		j.usual.add(l)
	}
	if j.wake != nil {
		close(j.wake)
		j.wake = nil
	}
}

// Last is the number of the newest line; 0 if there was none.
func (j *Journal) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// Lines returns the last n lines that are at least so severe, the oldest first.
func (j *Journal) Lines(n int, least slog.Level) []Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []Line
	usual, severe := j.usual.kept(), j.severe.kept()
	if least >= slog.LevelWarn {
		usual = nil
	}
	for len(lines) < n && len(usual)+len(severe) > 0 {
		from := &severe
		if len(severe) == 0 || len(usual) > 0 && usual[len(usual)-1].Seq > severe[len(severe)-1].Seq {
			from = &usual
		}
		l := (*from)[len(*from)-1]
		*from = (*from)[:len(*from)-1]
		if l.Level >= least {
			lines = append(lines, l)
		}
	}
	slices.Reverse(lines)
	return lines
}

// batch is how many lines a reader takes at once.
const batch = 64

// Follow yields the lines that are at least so severe from the one after a certain number on, those that are kept first, then
// those that come, until ctx ends. With after = 0 it begins with the oldest, with after = [Journal.Last] with the next;
// who was interrupted goes on with the Seq of the last line that he got.
func (j *Journal) Follow(ctx context.Context, after uint64, least slog.Level) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		var missed uint64
		after := after
		for {
			lines, more := j.after(after)
			for _, l := range lines {
				missed += l.Seq - after - 1
				after = l.Seq
				if l.Level < least {
					continue
				}
				l.Missed, missed = missed, 0
				if !yield(l) {
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			if more == nil {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// after returns some of the lines behind a number, or what is closed when there is one.
func (j *Journal) after(seq uint64) (lines []Line, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq >= j.last {
		if j.wake == nil {
			j.wake = make(chan struct{})
		}
		return nil, j.wake
	}
	usual, severe := j.usual.after(seq), j.severe.after(seq)
	for len(lines) < batch && len(usual)+len(severe) > 0 {
		from := &severe
		if len(severe) == 0 || len(usual) > 0 && usual[0].Seq < severe[0].Seq {
			from = &usual
		}
		lines = append(lines, (*from)[0])
		*from = (*from)[1:]
	}
	for _, l := range lines {
		j.missed += l.Seq - seq - 1
		seq = l.Seq
	}
	return lines, nil
}
