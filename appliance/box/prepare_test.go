package box_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance"
	"kdht/appliance/box"
	"kdht/config"
)

// TestRescueMeanwhile serves from memory while files of /perm are being saved, shows how far that is, and changes to /perm then.
func TestRescueMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put("kdht.hujson", `{"hostname": "attic"}`)
		r.put("gokr-pw.txt", "sesame")
		release := make(chan []string)
		r.layout.Prepare = func(_ context.Context, _ *slog.Logger, tell func(string)) []string {
			tell("Files of the persistent partition are being saved: 1 of 900 MiB.")
			s := <-release
			tell("Files of the persistent partition are being put back: 900 of 900 MiB.")
			return s
		}
		began := time.Now()
		b := r.start()
		if d := time.Since(began); d != 20*time.Second {
			t.Errorf("nothing was served for %s", d)
		}
		wantProblem(t, b, "files are still being taken over", "kept in memory")
		wantProblem(t, b, "1 of 900 MiB")
		if !strings.Contains(r.consoleText(), "1 of 900 MiB") {
			t.Errorf("console: %s", r.consoleText())
		}
		cfg := r.config(b)
		if cfg.Hostname != "attic" || b.State() != r.layout.Memory || !slices.Contains(r.onBoot(), "gokr-pw.txt") {
			t.Errorf("%+v in %s, and %q", cfg, b.State(), r.onBoot())
		}
		serving := make(chan struct{})
		serve := func(ctx context.Context, cfg config.Config, _ *slog.Logger, _ ...appliance.Extension) error {
			if cfg.Store.MaxBytes != 16<<20 {
				t.Errorf("%d bytes may be stored in memory", cfg.Store.MaxBytes)
			}
			close(serving)
			<-ctx.Done()
			return nil
		}
		served := make(chan error)
		go func() { served <- b.Serve(t.Context(), cfg, cfg, slog.New(slog.DiscardHandler), serve) }()
		<-serving
		release <- []string{"7 files were taken over."}
		if err := <-served; !errors.Is(err, box.ErrAnew) {
			t.Errorf("Serve = %v", err)
		}

		r.layout.Prepare = func(context.Context, *slog.Logger, func(string)) []string { return nil }
		b = r.start()
		wantProblem(t, b, "7 files were taken over.")
		if b.State() == r.layout.Memory || slices.Contains(r.onBoot(), "gokr-pw.txt") || r.config(b).Hostname != "attic" {
			t.Errorf("the state is in %s, and %q on the boot partition", b.State(), r.onBoot())
		}
	})
}

// TestRescueInVain goes on in memory when /perm cannot be used after all, and ends when it is told to.
func TestRescueInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		perm := r.layout.Perm
		r.layout.Perm = r.layout.Console // no directory
		release := make(chan []string)
		r.layout.Prepare = func(context.Context, *slog.Logger, func(string)) []string { return <-release }
		b := r.start()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() {
			cfg := r.config(b)
			served <- b.Serve(ctx, cfg, cfg, slog.New(slog.DiscardHandler), func(ctx context.Context, _ config.Config, _ *slog.Logger, _ ...appliance.Extension) error {
				<-ctx.Done()
				return nil
			})
		}()
		release <- []string{"Input/output error."}
		synctest.Wait()
		wantProblem(t, b, "Input/output error.")
		wantProblem(t, b, "cannot be used")
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
		r.layout.Perm = perm
	})
}
