package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"kdht/appliance/status"
)

// minEvery is the least time between two looks of --watch.
const minEvery = 100 * time.Millisecond

// Sequences of a terminal (ECMA-48, and xterm's for its second screen).
const (
	screenBegin = "\x1b[?1049h\x1b[?25l" // the second screen, without a cursor
	screenEnd   = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	lineEnd     = "\x1b[K" // the rest of the line is empty
	below       = "\x1b[J" // and what is below
)

// watch shows the status until it is interrupted, which is no failure. A node that is not there is waited for.
func (c *statusCmd) watch(s *system, u string) error {
	if s.stdoutIsTerminal {
		if _, err := io.WriteString(s.stdout, screenBegin); err != nil {
			return err
		}
		defer func() { _, _ = io.WriteString(s.stdout, screenEnd) }() // decoration only
	}
	v := statusView{colour: s.colours(), watch: true}
	seen := false
	for {
		begin := time.Now()
		doc, err := c.fetch(s.ctx, u)
		var r status.Report
		if err == nil {
			err = json.Unmarshal(doc, &r)
		}
		var fail *failure
		switch {
		case s.ctx.Err() != nil:
			return nil
		case err == nil:
			v.take(r)
			seen = true
		case errors.As(err, &fail) && fail.code == exitUsage:
			return err
		}
		text := ""
		if err != nil {
			text = v.paint(red, time.Now().UTC().Format(time.TimeOnly+" MST")+" "+"trying again: "+plain(err.Error())) + "\n\n"
		}
		if seen {
			text += v.text()
		}
		if err := s.frame(text); err != nil {
			return err
		}
		if err := sleep(s.ctx, c.Every-time.Since(begin)); err != nil {
			return nil
		}
	}
}

// frame shows a text in place of the one before, cut to the terminal; without one, after it.
func (s *system) frame(text string) error {
	if !s.stdoutIsTerminal {
		_, err := io.WriteString(s.stdout, text+"\n")
		return err
	}
	columns, rows := 80, 24
	if s.screen != nil {
		columns, rows = s.screen()
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[:min(len(lines), rows)]
	for i := range lines {
		lines[i] = cut(lines[i], columns) + lineEnd
	}
	_, err := io.WriteString(s.stdout, screenHome+strings.Join(lines, "\r\n")+below)
	return err
}

// cut shortens a line to so many columns. Colours take none.
func cut(line string, columns int) string {
	var b strings.Builder
	for at := 0; line != ""; {
		if end := strings.IndexByte(line, 'm'); strings.HasPrefix(line, "\x1b[") && end > 0 {
			b.WriteString(line[:end+1])
			line = line[end+1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(line)
		if at++; at <= columns {
			b.WriteRune(r)
		}
		line = line[n:]
	}
	return b.String()
}

// sleep waits for a time, if there is any left.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Colours, as a terminal has them (ECMA-48, SGR).
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// colours says whether standard output understands colours, and nobody objects (no-color.org).
func (s *system) colours() bool {
	return s.stdoutIsTerminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// paint gives a text a colour.
func (v *statusView) paint(colour, text string) string {
	if !v.colour || colour == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%sm%s\x1b[0m", colour, text)
}
