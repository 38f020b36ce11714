package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/trial"
)

// Bounds of a trial.
const (
	// guardGrace is how long after the guard's deadline this package restarts the machine by itself.
	guardGrace = time.Minute
	// departure is how long the node may take to stop before the machine restarts without waiting for it.
	departure = 90 * time.Second
)

// Methods of trials.
const (
	byKexec = "kexec"
	byFlag  = "flag"
	byOnce  = "once" // a start by the firmware with other files, which counts for that start alone
)

// rollback is the note of a trial of what ran before.
const rollback = "rollback"

// Switch arms a trial of what was uploaded. Nothing that is booted changes by that.
func (m *Manager) Switch(by client) error {
	end, err := m.begin("preparing the trial", 0, by)
	if err != nil {
		return err
	}
	defer end()
	m.mu.Lock()
	s := m.staged
	m.mu.Unlock()
	if s.root == nil {
		if m.key != nil && s.manifest == nil {
			return m.refuse(by, "unknown", ErrUnsigned)
		}
		return ErrNothing
	}
	note := strings.Join(slices.DeleteFunc([]string{s.old, s.note}, func(x string) bool { return x == "" }), "; ")
	if err := m.arm(s.root, s.boot, note, by.name); err != nil {
		return m.refuse(by, s.root.Version, err)
	}
	return nil
}

// Rollback arms a trial of what ran before the last commit.
func (m *Manager) Rollback(by client) error {
	end, err := m.begin("checking the version before", 0, by)
	if err != nil {
		return err
	}
	defer end()
	to := m.place.Running.Other()
	m.mu.Lock()
	record := m.slots.Slots[to]
	if record != nil {
		r := *record
		record = &r
	}
	m.mu.Unlock()
	if record == nil && m.key != nil {
		return fmt.Errorf("%w: nothing vouches for what is in slot %d, and this box takes signed releases only", ErrNoRollback, to)
	}
	if record != nil && record.Reverted {
		return fmt.Errorf("%w: what is in slot %d was tried and taken back", ErrNoRollback, to)
	}
	if floor := m.floor(); record != nil && record.Serial < floor {
		return fmt.Errorf("%w: what is in slot %d has serial %d, and a release that this box has had forbids what is below %d", ErrNoRollback, to, record.Serial, floor)
	}
	slot, err := m.place.OpenSlot(to)
	if err != nil {
		return err
	}
	if record == nil { // what was flashed, or the record is lost
		size, err := bootdisk.CheckRoot(slot, slot.Size())
		if err != nil {
			return errors.Join(fmt.Errorf("%w: %w", ErrNoRollback, err), slot.Close())
		}
		record = &slotRecord{Version: "before", Size: size}
	} else if record.SHA256 != "" {
		back := newSums()
		if err := bootdisk.ReadRoot(slot, record.Size, back); err != nil {
			return errors.Join(err, slot.Close())
		}
		if back.hex() != record.SHA256 {
			return errors.Join(fmt.Errorf("%w: what is in slot %d was changed", ErrNoRollback, to), slot.Close())
		}
	}
	if err := slot.Close(); err != nil {
		return err
	}
	if r, err := inspect(m.place.Parts[int(to)]); err != nil {
		return fmt.Errorf("%w: %w", ErrNoRollback, err)
	} else if r.Version != "" {
		record.Version = r.Version
	}
	boot := 0
	err = m.disk(func(d *bootdisk.Disk) error {
		now, err := d.Selected()
		if err == nil && record.Boot != 0 && record.Boot != now.Boot {
			if err = d.Usable(record.Boot, to); err == nil {
				boot = record.Boot
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: its kernel is gone: %w", ErrNoRollback, err)
	}
	return m.arm(record, boot, rollback, by.name)
}

// arm prepares a trial of the other slot. boot is where its boot file system lies, 0 for the one in force.
func (m *Manager) arm(r *slotRecord, boot int, note, by string) error {
	t := &trial.Trial{
		Target: bootdisk.Target{From: m.place.Running, To: m.place.Running.Other(), Boot: boot, Platform: m.o.Platform},
		From:   m.version(), To: r.Version, Serial: r.Serial, Floor: r.Floor, By: by, Method: byFlag, Note: note, Armed: time.Now(),
		Deadline: m.o.Config.Update.Trial.Seconds(), Passes: trial.DefaultPasses,
		Before: m.before(),
	}
	err := m.disk(func(d *bootdisk.Disk) error {
		now, err := d.Selected()
		if err != nil {
			return err
		}
		if now.Slot != m.place.Running {
			return fmt.Errorf("the disk boots slot %d, and slot %d is running: restart the box first", now.Slot, m.place.Running)
		}
		m.remember(now.Boot)
		if boot != 0 && d.Usable(boot, t.Target.To) != nil {
			if err := d.Seal(boot, t.Target.To); err != nil {
				return err
			}
		}
		if !canKexec(m.o.Platform) {
			if boot == 0 {
				return nil
			}
			err := m.prepareOnce(d, t)
			if errors.Is(err, bootdisk.ErrNoRoom) || errors.Is(err, errSilent) {
				t.Target.Boot, t.Note = 0, "the kernel stays: "+err.Error()
				return nil
			}
			t.Method = byOnce
			return err
		}
		err = m.load(d, t)
		if err == nil {
			t.Method = byKexec
			return nil
		}
		if boot != 0 {
			return fmt.Errorf("the new kernel cannot be loaded: %w", err)
		}
		m.o.Log.Warn("no trial by kexec, it will be one by init's flag", "err", err)
		return nil
	})
	if err != nil {
		return err
	}
	if err := errors.Join(trial.Remove(m.dir, trial.OutcomeFile), trial.Write(m.dir, trial.TrialFile, t)); err != nil {
		m.o.Log.Warn("the trial will not be in the history", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armed, m.staged = t, staged{}
	m.o.Log.Info("trial armed", "from", t.From, "to", t.To, "slot", t.Target.To, "method", t.Method, "by", by)
	return nil
}

// disarm gives up a trial that was armed and not begun, so that no restart counts as the end of it. m.mu is held.
func (m *Manager) disarm() {
	if m.armed == nil {
		return
	}
	m.armed = nil
	if err := trial.Remove(m.dir, trial.TrialFile); err != nil {
		m.o.Log.Warn("the record of the trial is not removed", "err", err)
	}
}

// remember notes with which boot file system the running slot runs, so that a rollback finds it.
func (m *Manager) remember(boot int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.slots.Slots[m.place.Running]
	if r == nil {
		r = &slotRecord{Version: m.running.Version, Serial: m.running.Serial}
		m.slots.Slots[m.place.Running] = r
	}
	r.Boot = boot
	if err := trial.Write(m.dir, slotsFile, m.slots); err != nil {
		m.o.Log.Warn("the record of the slots is not written", "err", err)
	}
}

// errSilent keeps a firmware that does not do what it says from keeping all of a release away.
var errSilent = errors.New("its first trial ended without a word")

// prepareOnce prepares the trial of a kernel by the firmware.
func (m *Manager) prepareOnce(d *bootdisk.Disk, t *trial.Trial) error {
	m.mu.Lock()
	silent := t.Serial != 0 && m.slots.Doubt.Serial == t.Serial && m.slots.Doubt.Silent > 0
	m.mu.Unlock()
	if silent {
		return errSilent
	}
	line, err := trialLine(d, t)
	if err != nil {
		return err
	}
	if err := d.Once(t.Target, line); err != nil {
		return fmt.Errorf("the new kernel cannot be tried: %w", err)
	}
	return nil
}

// trialLine is the command line of a trial.
func trialLine(d *bootdisk.Disk, t *trial.Trial) (string, error) {
	line, err := d.TrialLine(t.Target)
	return line + " " + t.Word(), err
}

// load loads the kernel of a trial.
func (m *Manager) load(d *bootdisk.Disk, t *trial.Trial) (err error) {
	line, err := trialLine(d, t)
	if err != nil {
		return err
	}
	r, err := d.Kernel(t.Target.Boot)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("", "kernel")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if _, err := io.Copy(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil { // the kernel refuses files that somebody may write to
		return err
	}
	k, err := os.Open(f.Name())
	if err != nil {
		return err
	}
	defer k.Close()
	return m.o.Machine.LoadKernel(k, line)
}

// departing is what is under way from the moment on that the machine is to restart: nothing begins any more, so that what
// is tried is what was checked.
const departing = "restarting"

// close keeps everything from beginning. It fails while something is under way.
func (m *Manager) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy != "" && m.busy != departing {
		return fmt.Errorf("%w (%s)", ErrBusy, m.busy)
	}
	m.busy, m.progress = departing, Progress{What: departing}
	return nil
}

// Depart stops the node and restarts the machine, into the trial if one is armed, or switches it off.
func (m *Manager) Depart(off bool, by string) {
	_ = m.close() // an upload that is under way ends with the node, and nothing is tried
	m.mu.Lock()
	armed, tried := m.armed != nil, m.tried != nil
	m.mu.Unlock()
	if tried {
		m.outcome(fmt.Sprintf("ended by a restart that %s asked for", by))
	}
	last := func() { m.leaving.Do(func() { m.leave(off) }) }
	m.o.Log.Warn("stopping for a restart of the machine", "by", by, "trial", armed, "off", off)
	time.AfterFunc(departure, last) // whatever the node does
	m.o.Stop(last)
}

// leave does the last calls.
func (m *Manager) leave(off bool) {
	m.mu.Lock()
	t := m.armed
	if m.busy != departing { // the slot is being written
		t = nil
	}
	m.mu.Unlock()
	var err error
	switch {
	case off:
		err = m.o.Machine.PowerOff()
	case t != nil && t.Method == byKexec:
		err = m.o.Machine.Kexec()
		m.o.Log.Error("the loaded kernel could not be started", "err", err)
		err = m.o.Machine.Restart()
	case t != nil && t.Method == byOnce:
		err = m.o.Machine.RestartOnce()
		m.o.Log.Error("the firmware was not told of the trial", "err", err)
		err = m.o.Machine.Restart()
	case t != nil:
		if err = m.disk(func(d *bootdisk.Disk) error { return d.Arm(t.Word()) }); err != nil {
			m.o.Log.Error("the trial could not be armed", "err", err)
		}
		err = m.o.Machine.Restart()
	default:
		err = m.o.Machine.Restart()
	}
	m.o.Log.Error("the machine does not restart", "err", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy == departing {
		m.busy, m.progress = "", Progress{}
	}
}

// outcome writes why the trial under way ends without a commit.
func (m *Manager) outcome(reason string) {
	if err := trial.Write(m.dir, trial.OutcomeFile, trial.Outcome{Reason: reason, Time: time.Now()}); err != nil {
		m.o.Log.Warn("the reason of the revert is not in the history", "err", err)
	}
}

// watch follows a trial that this version is on, until it is committed. It restarts the machine when the guard ought to
// have done so and has not.
func (m *Manager) watch(ctx context.Context) error {
	_, limit, _ := trial.FindBefore(m.o.CommandLine)
	_, marked := bootdisk.FindMarker(m.o.CommandLine) // but for a trial by flag; without /perm there is no record of it
	var t trial.Trial
	if _, err := trial.Read(m.dir, trial.TrialFile, &t); err != nil {
		m.o.Log.Warn("the record of the trial cannot be read", "err", err)
	}
	if d, ok := t.Limit(); ok {
		limit = d
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var out trial.Outcome
		if ok, err := trial.Read(m.dir, trial.OutcomeFile, &out); (ok && err == nil && out.Committed) || m.o.Uptime() > limit+guardGrace {
			var s bootdisk.Selection
			if err := m.disk(func(d *bootdisk.Disk) (err error) { s, err = d.Selected(); return err }); err == nil && s.Slot == m.place.Running {
				err := m.conclude(s)
				m.mu.Lock() // only now may anything else change the records
				m.tried = nil
				m.mu.Unlock()
				if err == nil && !marked { // init has left the other slot mounted, and no update could write to it
					m.Depart(false, "the end of a trial by flag")
					<-ctx.Done()
				}
				return err
			}
		}
		if m.o.Uptime() > limit+guardGrace {
			m.outcome("the guard has neither committed nor reverted in time")
			m.Depart(false, "the deadline of the trial")
			<-ctx.Done()
			return nil
		}
	}
}
