package admin

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"kdht/appliance/journal"
)

// What tsnet says at the level DEBUG has the URL of a login. The log's reader gets it, and nobody else who gets lines of the journal.
func TestLoginURLOfTheTailnetsPartsIsPrivate(t *testing.T) {
	const url = "https://login.example/a/0123456789"
	j := journal.New(1 << 20)
	next := slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})
	p := &plane{log: slog.New(j.Handler(next)), keys: &keys{}}
	p.logf("To start this tsnet server, restart with TS_AUTHKEY set, or go to: %s", url)
	p.logf("control: AuthURL is %v", url)
	p.logf("magicsock: derp-%d connected", 1)
	var all, public string
	for _, l := range j.Lines(10, slog.LevelDebug) {
		all += l.String() + "\n"
		public += l.Public().String() + "\n"
	}
	if strings.Count(all, url) != 2 {
		t.Errorf("the log does not have the URL twice:\n%s", all)
	}
	if strings.Contains(public, "0123456789") {
		t.Errorf("others get the URL:\n%s", public)
	}
	if !strings.Contains(public, "derp-1 connected") {
		t.Errorf("others do not get what has no URL:\n%s", public)
	}
}
