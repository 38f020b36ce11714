package main

import (
	"fmt"
	"sync"
	"time"

	"kdht/router"
)

// redraw is the least time between two states of the progress line.
const redraw = 50 * time.Millisecond

// progress shows a lookup on one line of the terminal. Without a terminal it shows nothing.
type progress struct {
	s     *system
	what  string
	found string // what is found, as in "peers"

	mu    sync.Mutex
	shown time.Time
}

// newProgress begins a progress line. what names the lookup, found the things it looks for ("" for none).
func (s *system) newProgress(what, found string) *progress {
	return &progress{s: s, what: what, found: found}
}

// option makes a lookup report to the line.
func (p *progress) option() router.Option {
	return router.WithProgress(p.update)
}

func (p *progress) update(r router.Progress) {
	p.show(p.line(r))
}

// show puts a text on the line, cut to the width of the terminal: a line that wraps cannot be drawn over.
func (p *progress) show(text string) {
	if !p.s.stderrIsTerminal {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.shown) < redraw {
		return
	}
	p.shown = now
	width := 80
	if p.s.columns != nil {
		width = p.s.columns()
	}
	if text = p.what + ": " + text; len(text) >= width { // ASCII throughout
		text = text[:max(0, width-1)]
	}
	_, _ = fmt.Fprint(p.s.stderr, "\r\x1b[K"+text) // decoration only
}

// line is the state of a lookup in words.
func (p *progress) line(r router.Progress) string {
	line := fmt.Sprintf("queried %d, answered %d, in flight %d", r.Queried, r.Answered, r.InFlight)
	if r.Answered > 0 {
		line += fmt.Sprintf(", closest %d bits", r.Bits)
	}
	if r.Stored+r.Refused > 0 {
		return line + fmt.Sprintf(", stored %d, refused %d", r.Stored, r.Refused)
	}
	if p.found != "" {
		line += fmt.Sprintf(", %s %d", p.found, r.Found)
	}
	return line
}

// wait shows, until the function that it returns is called, for how long an answer has been waited for, once that is worth telling.
func (p *progress) wait(whom string, most time.Duration) (end func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		begun := time.Now()
		tick := time.NewTicker(patience)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show(fmt.Sprintf("%s of %s, no answer from %s yet", time.Since(begun).Truncate(time.Second), most, whom))
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		p.end()
	}
}

// end removes the line.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shown.IsZero() {
		_, _ = fmt.Fprint(p.s.stderr, "\r\x1b[K") // decoration only
	}
}
