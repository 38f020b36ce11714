package admin

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kdht/store"
)

// The database of before a restore is removed a week after it, however old it was.
func TestDatabaseOfBeforeARestoreIsRemoved(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(dir, slog.New(slog.DiscardHandler))
	if err := k.look(); err != nil {
		t.Fatalf("there is none: %v", err)
	}
	path := filepath.Join(dir, "kdht.db"+store.BeforeRestore)
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil { // nobody has written into it for long
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		there bool
	}{{0, true}, {beforeFor - time.Hour, true}, {beforeFor + time.Hour, false}} {
		k.now = func() time.Time { return time.Now().Add(c.after) }
		if err := k.look(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != c.there {
			t.Errorf("after %s: %v, want it there: %t", c.after, err, c.there)
		}
	}
}
