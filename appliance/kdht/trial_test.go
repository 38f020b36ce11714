package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/admin/change"
	"kdht/config"
	"kdht/store"
)

// TestServeTakesChangeBack starts the program with a changed configuration on trial that it cannot serve with: it goes back to the
// one before, at once, and serves; what is not on trial ends it as ever.
func TestServeTakesChangeBack(t *testing.T) {
	dir := t.TempDir()
	file, state := filepath.Join(dir, "kdht.hujson"), filepath.Join(dir, "state")
	if err := os.WriteFile(file, []byte(`{"http": ":1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h := change.Open(filepath.Join(state, historyDir), file)
	if _, err := h.Begin([]byte(`{"http": ":2"}`), "", "alice", time.Minute, change.Before{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	var fault error
	serve := func(fails string) (r result, served []string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r = kdhtWith(t, &system{ctx: ctx, args: []string{"serve", "--config", file, "--state", state},
			serve: func(ctx context.Context, c config.Config, _ *slog.Logger, _ ...appliance.Extension) error {
				if served = append(served, c.HTTP); c.HTTP == fails {
					return fault
				}
				cancel()
				return nil
			}})
		return r, served
	}
	fault = store.ErrLocked // by another process, which is none of the change's business
	if r, served := serve(":2"); r.code != exitFailure || strings.Join(served, " ") != ":2" {
		t.Errorf("locked: exit code %d, served at %v: %s", r.code, served, r.stderr)
	}
	fault = errors.New("port 2 is taken")
	r, served := serve(":2")
	if r.code != exitOK || strings.Join(served, " ") != ":2 :1" || !strings.Contains(r.stderr, "was taken back: the program could not serve with it: port 2 is taken") {
		t.Errorf("exit code %d, served at %v: %s", r.code, served, r.stderr)
	}
	if v := change.Open(filepath.Join(state, historyDir), file).Versions(); !strings.HasPrefix(v[0].Outcome, "taken back: ") || v[1].Outcome != "in force" {
		t.Errorf("%+v", v)
	}
	if r, served = serve(":1"); r.code != exitFailure || strings.Join(served, " ") != ":1" {
		t.Errorf("without a trial: exit code %d, served at %v", r.code, served)
	}
}

// TestServeStartsAnew makes sure that the program is started anew when that was asked for, and that where this is for gokrazy
// to do its exit code says so.
func TestServeStartsAnew(t *testing.T) {
	times := 0
	for _, again := range []func() error{nil, func() error { times++; return errors.New("no such file") }} {
		r := kdhtWith(t, &system{ctx: t.Context(), args: []string{"serve", "--state", t.TempDir()}, again: again,
			serve: func(context.Context, config.Config, *slog.Logger, ...appliance.Extension) error {
				return appliance.ErrRestart
			}})
		if r.code != exitFailure {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	}
	if times != 1 {
		t.Errorf("it was started anew %d times", times)
	}
}
