package box_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance"
	"kdht/config"
)

// TestServeFallsBack has a node that cannot start.
func TestServeFallsBack(t *testing.T) {
	taken := errors.New("192.0.2.77:6881: no such address")
	disk := fmt.Errorf("%w /perm/kdht: input/output error", appliance.ErrState)
	own := func(c config.Config) bool { return c.Hostname == "attic" }
	always := func(err error) func(config.Config, time.Duration) error {
		return func(config.Config, time.Duration) error { return err }
	}
	for name, c := range map[string]struct {
		file   string
		fail   func(config.Config, time.Duration) error // of a start, so long after the first one
		after  time.Duration                            // it serves, or gives up
		own    bool                                     // configuration
		memory bool
		err    error
		word   string // in a problem
	}{
		"all is well": {file: `{"hostname": "attic"}`, fail: always(nil), own: true},
		"an address that comes later": {file: `{"hostname": "attic"}`, own: true, after: 7 * time.Second,
			fail: func(_ config.Config, d time.Duration) error {
				if d < 7*time.Second {
					return taken
				}
				return nil
			}},
		"an address that never comes": {file: `{"hostname": "attic"}`, after: 30 * time.Second, word: "does not work on this box (192.0.2.77",
			fail: func(c config.Config, _ time.Duration) error {
				if own(c) {
					return taken
				}
				return nil
			}},
		"the defaults fail, too":  {file: `{"hostname": "attic"}`, after: 30 * time.Second, err: taken, fail: always(taken), word: "does not work"},
		"without a configuration": {err: taken, fail: always(taken)},
		"a disk that fails": {file: `{"hostname": "attic"}`, own: true, memory: true, word: "input/output error",
			fail: func(c config.Config, _ time.Duration) error {
				if strings.HasSuffix(c.State, "perm/kdht") {
					return disk
				}
				return nil
			}},
		"a disk and memory that fail": {memory: true, err: disk, fail: always(disk), word: "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				if c.file != "" {
					r.put("kdht.hujson", c.file)
				}
				b := r.start()
				cfg, err := config.Parse(b.Configuration())
				if err != nil {
					t.Fatal(err)
				}
				defaults, err := config.Default()
				if err != nil {
					t.Fatal(err)
				}
				cfg.State, defaults.State = b.State(), b.State()
				began := time.Now()
				var last config.Config
				err = b.Serve(t.Context(), cfg, defaults, slog.New(slog.DiscardHandler), func(_ context.Context, cfg config.Config, _ *slog.Logger, ext ...appliance.Extension) error {
					last = cfg
					if err := c.fail(cfg, time.Since(began)); err != nil {
						return err
					}
					return nil
				})
				if !errors.Is(err, c.err) {
					t.Errorf("Serve = %v, want %v", err, c.err)
				}
				if d := time.Since(began); d < c.after || d > c.after+time.Second {
					t.Errorf("it took %v, want %v", d, c.after)
				}
				if own(last) != c.own || (last.State == r.layout.Memory) != c.memory {
					t.Errorf("it ended with %+v", last)
				}
				if c.memory && last.Store.MaxBytes != 16<<20 {
					t.Errorf("%d bytes may be stored in memory", last.Store.MaxBytes)
				}
				if c.word != "" {
					wantProblem(t, b, c.word)
				}
				if c.err != nil && !strings.Contains(r.consoleText(), c.err.Error()) {
					t.Errorf("console: %s", r.consoleText())
				}
			})
		})
	}
}
