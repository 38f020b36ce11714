// Command guard decides over the trial of an update. It is a program of its own, small and without dependencies, so that
// it works when the rest of a new version does not.
//
// When the machine does not run a trial it ends at once, with 0, and gokrazy does not start it again. In a trial it asks
// the appliance every few seconds whether it is well. After several good answers in a row it commits: from then on the
// machine boots this version. When the deadline passes before, counted from the start of the kernel, it restarts the
// machine by its firmware, without kexec, and nothing on the disk has changed: the version before boots. It does the
// same when the disk cannot be committed. If gokrazy starts it anew, it begins to count answers anew, but not the time.
//
// A kernel that panics restarts by itself (panic=10 on its command line), a kernel that hangs is restarted by a hardware
// watchdog, where there is one, and a guard that cannot run by the appliance, a minute later.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/trial"
)

// every is how long the guard waits between two questions.
const every = 3 * time.Second

func main() {
	g := guard{line: bootdisk.CommandLine(), say: say, now: sinceStart, sleep: time.Sleep, restart: restart}
	flag.StringVar(&g.socket, "socket", "/run/kdht.sock", "Unix socket of the appliance")
	flag.StringVar(&g.records, "records", "/perm/kdht/update", "directory of the records")
	root := flag.String("root", "/", "root file system that is on trial")
	flag.Parse()
	place, err := bootdisk.Find(*root)
	if t, ok := bootdisk.FindMarker(g.line); err != nil && ok {
		// A trial that cannot be committed. It must end all the same.
		g.commit = func(bootdisk.Target) error { return err }
		say("guard: " + g.run(t).Error())
		os.Exit(1)
	}
	if err != nil {
		say("no guard is needed: " + err.Error())
		return
	}
	target, ok := place.RunningTrial(g.line, bootdisk.ThisPlatform())
	if !ok {
		return
	}
	g.commit = func(t bootdisk.Target) error { return commit(place, t) }
	if committed(place, target) { // the guard was started again after it was done
		return
	}
	if err := g.run(target); err != nil {
		say("guard: " + err.Error())
		os.Exit(1)
	}
}

// commit makes the version permanent. Whoever has the boot partition mounted for a moment is waited for.
func commit(p bootdisk.Place, t bootdisk.Target) error {
	for i := 0; ; i++ {
		d, done, err := p.Open(t.Platform)
		if errors.Is(err, bootdisk.ErrBusy) && i < 100 {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		return errors.Join(d.Commit(t), done())
	}
}

// committed says whether the disk boots what is on trial already.
func committed(p bootdisk.Place, t bootdisk.Target) bool {
	d, done, err := p.Open(t.Platform)
	if err != nil {
		return false
	}
	s, err := d.Selected()
	return errors.Join(err, done()) == nil && s.Slot == t.To
}

// say writes a line where a console shows it, too.
func say(line string) {
	_, _ = fmt.Fprintln(os.Stderr, line) // nobody is left to tell
	if k, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		_, _ = k.WriteString("<4>kdht: " + line + "\n")
		_ = k.Close()
	}
}

// restart restarts the machine by its firmware.
func restart() error {
	bounded(unix.Sync)
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// bounded waits for something that a disk which does not answer may hold for ever, but not for long.
func bounded(do func()) {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

// sinceStart is how long the kernel runs.
func sinceStart() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// deadlineOf gives the terms of a trial: those of its record, else those on the kernel's command line, else the usual ones.
func deadlineOf(dir, line string, t bootdisk.Target) (deadline time.Duration, passes int) {
	_, deadline, _ = trial.FindBefore(line)
	passes = trial.DefaultPasses
	var r trial.Trial
	if ok, err := trial.Read(dir, trial.TrialFile, &r); ok && err == nil && r.Target.To == t.To {
		if d, ok := r.Limit(); ok {
			deadline = d
		}
		if r.Passes > 0 && r.Passes <= 100 {
			passes = r.Passes
		}
	}
	return deadline, passes
}
