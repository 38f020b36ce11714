package store_test

import (
	"testing"
	"time"

	"kdht/store"
)

func TestLockedByAnotherProcess(t *testing.T) {
	path := tempPath(t)
	cmd, lines := child(t, "hold", path)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("child says %q", lines.Text())
	}
	start := time.Now()
	_, err := store.Open(path, store.Options{LockTimeout: 100 * time.Millisecond})
	wantErr(t, err, store.ErrLocked)
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
	// Released while Open waits, the store opens.
	time.AfterFunc(50*time.Millisecond, func() { _ = cmd.Process.Kill() })
	s := open(t, path, store.Options{LockTimeout: time.Minute})
	if to, why := s.SetAside(); to != "" {
		t.Errorf("set aside: %s", why)
	}
}

func TestLockedInThisProcess(t *testing.T) {
	path := tempPath(t)
	open(t, path, store.Options{})
	start := time.Now()
	_, err := store.Open(path, store.Options{})
	wantErr(t, err, store.ErrLocked)
	if d := time.Since(start); d < 900*time.Millisecond || d > 3*time.Second {
		t.Errorf("default timeout is %v", d)
	}
}
