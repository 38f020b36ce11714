package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// ErrStopped means that a machine stopped while something was expected of it.
var ErrStopped = errors.New("the machine has stopped")

// Console is what a machine has said on its serial port.
type Console struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced with every line
	ended bool
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?=]*[A-Za-z]")

// read takes in lines until r ends, and copies everything to w.
func (c *Console) read(r io.Reader, w io.Writer) {
	br := bufio.NewReader(io.TeeReader(r, w))
	for {
		line, err := br.ReadString('\n')
		c.mu.Lock()
		if line = strings.TrimSpace(escapes.ReplaceAllString(line, "")); line != "" {
			c.lines = append(c.lines, line)
		}
		c.ended = err != nil
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Wait waits for a line that matches, since the machine started, and returns the match and its groups.
func (c *Console) Wait(ctx context.Context, pattern string) ([]string, error) {
	return c.WaitAfter(ctx, 0, pattern)
}

// WaitAfter is like Wait for lines behind the first n; see [Console.Len].
func (c *Console) WaitAfter(ctx context.Context, n int, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for {
		c.mu.Lock()
		lines, more, ended := c.lines[min(n, len(c.lines)):], c.more, c.ended
		c.mu.Unlock()
		for _, line := range lines {
			if m := re.FindStringSubmatch(line); m != nil {
				return m, nil
			}
		}
		n += len(lines)
		if ended {
			return nil, fmt.Errorf("waiting for %q on the console: %w", pattern, ErrStopped)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q on the console: %w; its last lines:\n%s", pattern, ctx.Err(), strings.Join(c.Last(20), "\n"))
		}
	}
}

// says tells whether one of the last lines has a text.
func (c *Console) says(text string) bool {
	return strings.Contains(strings.Join(c.Last(5), "\n"), text)
}

// Len is the number of lines so far.
func (c *Console) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// Last returns the last n lines.
func (c *Console) Last(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines[max(0, len(c.lines)-n):]...)
}
