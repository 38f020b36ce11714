package health

import (
	"sync"
	"time"
)

// Tracker remembers since when everything is as it is. The zero value is ready; all methods may be called by any goroutine.
type Tracker struct {
	mu    sync.Mutex
	now   time.Time
	since map[string]since
}

type since struct {
	state State
	at    time.Time
}

// Date fills in the Since of a tree that was computed at a time. What is older than the last one changes nothing.
func (t *Tracker) Date(tree Tree, now time.Time) Tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	late := now.Before(t.now)
	if !late {
		t.now = now
	}
	if t.since == nil {
		t.since = make(map[string]since)
	}
	for i := range tree.Checks {
		c := &tree.Checks[i]
		s, known := t.since[c.Name]
		if !known || s.state != c.State && !late {
			s = since{c.State, now}
			t.since[c.Name] = s
		}
		c.Since = s.at
	}
	return tree
}
