package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kdht/appliance"
	"kdht/config"
)

func TestServeTakesFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kdht.hujson")
	if err := os.WriteFile(file, []byte(`{"http": ":1", "xdp": {"mode": "native", "linger": "3s"}, "log": {"format": "json"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var cfg config.Config
	r := kdhtWith(t, &system{
		ctx: ctx,
		args: []string{"serve", "--config", file, "--state", "./var", "--listen", "127.0.0.1:7000", "--listen", "[::1]:7000",
			"--http", "127.0.0.1:0", "--bootstrap", "10.0.0.1:1", "--bootstrap", "10.0.0.2:1", "--network", "private",
			"--interface", "eth0", "--interface", "eth1", "--xdp", "off", "--set", "store.maxBytes=1GiB", "--set", "external=10.0.0.9,fd00::9"},
		serve: func(ctx context.Context, c config.Config, l *slog.Logger, _ ...appliance.Extension) error {
			cfg = c
			l.Info("ready", "x", 1)
			cancel()
			<-ctx.Done()
			return ctx.Err()
		},
	})
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if !strings.HasPrefix(r.stderr, "{") || !strings.Contains(r.stderr, `"msg":"ready"`) {
		t.Errorf("log: %s", r.stderr)
	}
	if cfg.State != "./var" || len(cfg.Listen) != 2 || cfg.Listen[1].String() != "[::1]:7000" || cfg.HTTP != "127.0.0.1:0" ||
		len(cfg.Bootstrap) != 2 || cfg.Network != config.Private || len(cfg.Interfaces) != 2 || cfg.XDP.Mode != config.XDPOff ||
		cfg.XDP.Linger.Seconds() != 3 || cfg.Store.MaxBytes != 1<<30 || len(cfg.External) != 2 {
		t.Errorf("%+v", cfg)
	}
}

func TestServeExitCodes(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		code int
	}{
		"asked to stop":            {stopped, nil, exitOK},
		"asked, reports it":        {stopped, context.Canceled, exitOK},
		"failed while stopping":    {stopped, errors.New("disk full"), exitFailure},
		"failed":                   {t.Context(), errors.New("port in use"), exitFailure},
		"stopped without a reason": {t.Context(), nil, exitFailure},
	} {
		r := kdhtWith(t, &system{ctx: c.ctx, args: []string{"serve", "--state", t.TempDir()},
			serve: func(context.Context, config.Config, *slog.Logger, ...appliance.Extension) error { return c.err }})
		if r.code != c.code {
			t.Errorf("%s: exit code %d: %s", name, r.code, r.stderr)
		}
		if c.err != nil && c.code != exitOK && !strings.Contains(r.stderr, c.err.Error()) {
			t.Errorf("%s: %s", name, r.stderr)
		}
	}
}

// TestServeEmptyFlag makes sure that a flag whose value went missing, as of a variable in a script, is not ignored.
func TestServeEmptyFlag(t *testing.T) {
	for _, flag := range []string{"--state", "--http", "--xdp", "--log-level", "--log-format"} {
		r := kdht(t, "serve", flag, "")
		if r.code != exitUsage || !strings.Contains(r.stderr, "there is no value") {
			t.Errorf("%s '': %+v", flag, r)
		}
	}
}

// TestServeFailsInJSON has all that it writes in the format of the log, for programs that read it.
func TestServeFailsInJSON(t *testing.T) {
	for _, err := range []error{errors.New("disk full"), nil} {
		r := kdhtWith(t, &system{args: []string{"serve", "--state", t.TempDir(), "--log-format", "json"},
			serve: func(context.Context, config.Config, *slog.Logger, ...appliance.Extension) error { return err }})
		var line struct{ Level, Msg, Err, Hint string }
		if e := json.Unmarshal([]byte(r.stderr), &line); e != nil {
			t.Fatalf("%v: %s", e, r.stderr)
		}
		if r.code != exitFailure || line.Level != "ERROR" || line.Msg == "" || line.Hint == "" || err != nil && line.Err != err.Error() {
			t.Errorf("%+v", r)
		}
	}
}

func TestConfigShowAndCheck(t *testing.T) {
	dir := t.TempDir()
	r := kdht(t, "config", "show", "--state", "/x", "--xdp", "generic")
	if r.code != exitOK || !strings.Contains(r.stdout, "// Set by --xdp.\n\t\t\"mode\": \"generic\",") {
		t.Fatalf("%+v", r)
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte(r.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := kdht(t, "config", "check", good); r.code != exitOK || r.stderr != good+": no fault\n" {
		t.Errorf("%+v", r)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("{\n\t\"xpd\": {},\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := good + ": no fault\n" + bad + ":2:2: unknown key \"xpd\"; did you mean \"xdp\"?\n"
	if r := kdht(t, "config", "check", good, bad); r.code != exitUsage || r.stderr != want {
		t.Errorf("%+v", r)
	}
	if r := kdht(t, "config", "show", "--config", bad); r.code != exitUsage || r.stdout != "" {
		t.Errorf("%+v", r)
	}
}
