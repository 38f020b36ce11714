package appliance

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A flood is logged when it begins and when it is over, once each, and is a problem in between. What was counted before the
// process began is none.
func TestFloodWatch(t *testing.T) {
	var out bytes.Buffer
	now, count := time.Unix(1000, 0), refused{dropped: 1e9, challenged: 1e9}
	f := newFloodWatch(func() refused { return count }, slog.New(slog.NewTextHandler(&out, nil)))
	pass := func(n int, dropped, challenged uint64) {
		for range n {
			now = now.Add(floodLook)
			count.dropped += dropped * 5
			count.challenged += challenged * 5
			f.look(now)
		}
	}
	f.look(now)
	pass(3, 40, 50)
	if out.Len() > 0 || f.problems() != nil {
		t.Errorf("90 per second are a flood: %s, %q", out.String(), f.problems())
	}
	pass(4, 1000, 2000)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "dropped/s=1000 challenged/s=2000") {
		t.Errorf("logged at the begin: %s", got)
	}
	if got := f.problems(); len(got) != 1 || !strings.Contains(got[0], "1000 per second are dropped and 2000 ") {
		t.Errorf("problems %q", got)
	}
	pass(3, 0, 0)
	pass(1, 5000, 0)
	pass(5, 0, 0)
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("it is not over yet: %s", out.String())
	}
	pass(1, 0, 0)
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "lasted=40s dropped=45000 challenged=40000 peak/s=5000") {
		t.Errorf("logged at the end: %s", got)
	}
	if f.problems() != nil {
		t.Errorf("problems %q", f.problems())
	}
	pass(2, 1000, 0)
	if strings.Count(out.String(), "\n") != 3 {
		t.Errorf("the next one is not logged: %s", out.String())
	}
}
