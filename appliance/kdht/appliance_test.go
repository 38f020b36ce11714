package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/box"
	"kdht/config"
)

// TestServeAppliance has the configuration of an appliance made of its file, the flags, and its own defaults.
func TestServeAppliance(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		args []string
		want func(config.Config) bool
		word string // in a problem
	}{
		"nothing": {"", nil, func(c config.Config) bool {
			return c.HTTP == ":80" && c.Network == config.Public && c.XDP.Linger == 30*time.Second
		}, ""},
		"a file":             {`{"http": ":8080", "network": "private"}`, nil, func(c config.Config) bool { return c.HTTP == ":8080" && c.Network == config.Private }, ""},
		"flags go first":     {`{"http": ":8080"}`, []string{"--http", "off"}, func(c config.Config) bool { return c.HTTP == "" }, ""},
		"a wrong file":       {`{"htpp": 1}`, nil, func(c config.Config) bool { return c.HTTP == ":80" }, "kdht.hujson:1:2"},
		"not with the flags": {`{"external": "10.0.0.1", "network": "private"}`, []string{"--network", "public"}, func(c config.Config) bool { return c.HTTP == ":80" && c.External == nil }, "private address"},
	} {
		t.Run(name, func(t *testing.T) {
			perm := t.TempDir()
			if c.file != "" {
				if err := os.MkdirAll(filepath.Join(perm, "kdht"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(perm, "kdht", "kdht.hujson"), []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var b *box.Box
			var got config.Config
			ctx, stop := context.WithCancel(t.Context())
			r := kdhtWith(t, &system{
				ctx:  ctx,
				args: append([]string{"serve", "--appliance"}, c.args...),
				boot: func(ctx context.Context, log *slog.Logger) (*box.Box, error) {
					b = box.Boot(ctx, box.Layout{Perm: perm, Memory: t.TempDir(), NICs: perm, SetHostname: func(string) error { return nil }}, log)
					return b, nil
				},
				serve: func(_ context.Context, cfg config.Config, _ *slog.Logger, _ ...appliance.Extension) error {
					got = cfg
					stop()
					return nil
				},
			})
			if r.code != exitOK {
				t.Errorf("%+v", r)
			}
			if !c.want(got) || got.State != filepath.Join(perm, "kdht") {
				t.Errorf("it serves with %+v", got)
			}
			if problems := strings.Join(b.Problems(), "\n"); !strings.Contains(problems, c.word) {
				t.Errorf("problems: %s", problems)
			}
		})
	}
}

// TestServeApplianceElsewhere leaves a machine alone that is no appliance.
func TestServeApplianceElsewhere(t *testing.T) {
	r := kdhtWith(t, &system{args: []string{"serve", "--appliance"}, boot: boot})
	if r.code != exitFailure || !strings.Contains(r.stderr, "does not run gokrazy") {
		t.Errorf("%+v", r)
	}
	if r = kdht(t, "serve", "--appliance", "--config", "x"); r.code != exitUsage || !strings.Contains(r.stderr, "exclude each other") {
		t.Errorf("%+v", r)
	}
	if r = kdht(t, "serve", "--appliance", "--xdp", "maybe"); r.code != exitUsage || !strings.Contains(r.stderr, "--xdp") {
		t.Errorf("%+v", r)
	}
}
