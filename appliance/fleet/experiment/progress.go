package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress says what is under way: in place on a terminal, otherwise by a line now and then.
type progress struct {
	w     io.Writer
	live  bool
	begun time.Time
	said  time.Time
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, live: ok && term.IsTerminal(int(f.Fd())), begun: time.Now()}
}

// step says that some of something is done. The first and the last step are always said.
func (p *progress) step(what string, done, all int) {
	pause := 10 * time.Second
	if p.live {
		pause = 100 * time.Millisecond
	}
	if now := time.Now(); done != 0 && done != all && now.Sub(p.said) < pause {
		return
	} else {
		p.said = now
	}
	line := fmt.Sprintf("%7s  %s: %d of %d", time.Since(p.begun).Round(100*time.Millisecond), what, done, all)
	switch {
	case !p.live:
		_, _ = fmt.Fprintln(p.w, line)
	case done == all:
		_, _ = fmt.Fprintf(p.w, "\r%s\x1b[K\n", line)
	default:
		_, _ = fmt.Fprintf(p.w, "\r%s\x1b[K", line)
	}
}
