package update_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/trial"
)

// trialFails pulls the release and has its trial end with an outcome, and the machine start from slot 2 again.
func (b *bench) trialFails(out trial.Outcome) {
	b.t.Helper()
	if code, text := b.request(http.MethodPost, "update/apply", nil); code != http.StatusAccepted {
		b.t.Fatalf("apply: %d %s", code, text)
	}
	select {
	case <-b.left:
	case <-time.After(time.Minute):
		b.t.Fatalf("%+v", b.m.Status())
	}
	if err := trial.Write(filepath.Join(b.state, "update"), trial.OutcomeFile, out); err != nil {
		b.t.Fatal(err)
	}
	b.start(b.mount(bootdisk.Slot2))
}

// follow lets the box compare the trial that has failed with itself.
func (b *bench) follow() {
	b.t.Helper()
	before := len(b.m.Status().History)
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); b.m.Follow(ctx) }()
	for len(b.m.Status().History) == before && !b.link && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // until the comparison is in the history
	}
	cancel()
	<-done
}

// TestOutage pulls a release in whose trials the network is out. It is tried again, ever later: a few times when the version
// before is well at once, more often when that finds the same; and no more when the release itself is no good.
func TestOutage(t *testing.T) {
	dir, _ := release(t, 5, releaseKey)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	newBox := func() *bench {
		b := newBench(t, func(b *bench) { b.cfg.Update.Key, b.cfg.Update.URL = publicKey(), server.URL })
		b.uptime = time.Hour
		return b
	}
	outage := trial.Outcome{Reason: "link: no interface is up; answered: no node answers", Failed: []string{"link", "answered"}}

	t.Run("the version before is well", func(t *testing.T) {
		b := newBox()
		for i, want := range []string{"tried again in 1h", "tried again in 2h", "it did not prove well in a trial"} {
			b.trialFails(outage)
			b.follow()
			if held := b.held(); !strings.Contains(held, want) {
				t.Errorf("after %d trials: %q", i+1, held)
			}
			if u := b.last(); u.Result != "reverted" || strings.Contains(u.Reason, "it is tried again after") != (i < 2) {
				t.Errorf("after %d trials: %+v", i+1, u)
			}
		}
	})
	t.Run("the version before finds the same", func(t *testing.T) {
		b := newBox()
		for _, want := range []string{"tried again in 1h", "tried again in 2h", "tried again in 4h", "tried again in 8h"} {
			b.link = true // there is no trial without a release
			b.trialFails(outage)
			b.link = false
			b.follow()
			if u := b.last(); u.Result != "excused" || !strings.HasSuffix(u.Reason, "to blame: link: no interface is up") {
				t.Errorf("%+v", u)
			}
			if held := b.held(); !strings.Contains(held, want) {
				t.Errorf("%q, not %q", held, want)
			}
		}
	})
	t.Run("and the release is no good", func(t *testing.T) {
		b := newBox()
		b.trialFails(outage)
		b.trialFails(trial.Outcome{Reason: "kernel: not attached; link: no interface is up", Failed: []string{"kernel", "link"}})
		if held := b.held(); held != "it did not prove well in a trial" {
			t.Errorf("%q", held)
		}
	})
}

// TestLinkLocalOnly does not ask a new version for an address on a LAN on which the old one had none either.
func TestLinkLocalOnly(t *testing.T) {
	for _, platform := range []bootdisk.Platform{bootdisk.UEFI, bootdisk.Firmware} {
		b := newBench(t, func(b *bench) { b.platform, b.address = platform, false })
		b.trialOfV2("v1")
		for _, record := range []string{"on the disk", "lost"} {
			if record == "lost" { // with /perm
				if err := trial.Remove(filepath.Join(b.state, "update"), trial.TrialFile); err != nil {
					t.Fatal(err)
				}
				b.memory = false
			}
			b.link, b.address = true, false
			if bad := b.m.Health().Unhealthy(); bad != "" {
				t.Errorf("%s, record %s: %s", platform, record, bad)
			}
			b.link = false
			if bad := b.m.Health().Unhealthy(); bad != "link: no interface is up" {
				t.Errorf("%s, record %s: %q", platform, record, bad)
			}
		}
	}
}

// TestMemoryTrial is well on a box without /perm, where no record tells what was before, by kexec and by flag.
func TestMemoryTrial(t *testing.T) {
	for _, platform := range []bootdisk.Platform{bootdisk.UEFI, bootdisk.Firmware} {
		b := newBench(t, func(b *bench) { b.platform, b.memory = platform, true })
		b.trialOfV2("v1")
		if err := trial.Remove(filepath.Join(b.state, "update"), trial.TrialFile); err != nil {
			t.Fatal(err)
		}
		if bad := b.m.Health().Unhealthy(); bad != "" {
			t.Errorf("%s: %s", platform, bad)
		}
		b.report.XDP.Active = false
		if bad := b.m.Health().Unhealthy(); !strings.HasPrefix(bad, "kernel: ") {
			t.Errorf("%s: %q", platform, bad)
		}
	}
}

// TestMemoryCommit restarts the box after a trial by flag that was committed, also where no record of the trial is left, as without /perm:
// init keeps the slot before mounted, and no update could write to it. After one by kexec that is not so.
func TestMemoryCommit(t *testing.T) {
	for platform, restarts := range map[bootdisk.Platform]int{bootdisk.UEFI: 0, bootdisk.Firmware: 1} {
		b := newBench(t, func(b *bench) { b.platform, b.memory = platform, true })
		b.trialOfV2("v1")
		if err := trial.Remove(filepath.Join(b.state, "update"), trial.TrialFile); err != nil {
			t.Fatal(err)
		}
		target, ok := b.place.RunningTrial(b.cmdline, platform)
		if !ok {
			t.Fatalf("%s: no trial in %q", platform, b.cmdline)
		}
		b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) }) // by the guard
		b.calls, b.uptime = nil, time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); b.m.Follow(ctx) }()
		for b.m.Status().Trial && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // until the trial is over
		}
		if restarts > 0 {
			select {
			case <-b.left:
			case <-ctx.Done():
			}
		}
		cancel()
		<-done
		if got := strings.Count(strings.Join(b.calls, " "), "restart"); got != restarts || b.m.Status().Trial {
			t.Errorf("%s: %q, %+v", platform, b.calls, b.m.Status())
		}
	}
}
