package bootdisk

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"kdht/appliance/update/testdisk"
)

var platforms = []Platform{BIOS, UEFI, Firmware}

func kernels(t *testing.T) map[string][]byte {
	return map[string][]byte{"v1": testdisk.Kernel(t, "v1.fat"), "v2": testdisk.Kernel(t, "v2.fat")}
}

type combination struct {
	kernel string
	slot   Slot
}

// survive does something to a disk and then, for everything that a power cut can leave of it, checks that the machine
// starts one of the allowed combinations, that tidying up after that changes nothing about it, however often the power is
// cut again, and that the next commit from there succeeds. It returns what was seen.
func survive(t *testing.T, m *medium, p Platform, k map[string][]byte, do func(*Disk) error, allowed ...combination) map[combination]int {
	t.Helper()
	w := m.above()
	if err := do(w.disk(p)); err != nil {
		t.Fatal(err)
	}
	seen := make(map[combination]int)
	for i, c := range w.cuts() {
		kernel, slot := c.boots(t, p, k)
		got := combination{kernel, slot}
		if seen[got]++; !slices.Contains(allowed, got) {
			t.Fatalf("%s, cut %d: boots %v, allowed are %v", p, i, got, allowed)
		}
		c = c.above()
		if err := c.disk(p).Reconcile(slot); err != nil {
			t.Fatalf("%s, cut %d: Reconcile: %v", p, i, err)
		}
		for j, again := range c.cuts() {
			if k2, s2 := again.boots(t, p, k); k2 != kernel || s2 != slot {
				t.Fatalf("%s, cut %d, then %d in Reconcile: boots %s from %d instead of %v", p, i, j, k2, s2, got)
			}
		}
		s, err := c.disk(p).Selected()
		if err != nil || s.Slot != slot {
			t.Fatalf("%s, cut %d: selected %+v, %v", p, i, s, err)
		}
		f, err := readFAT(c.disk(p).Boot, 0)
		if err != nil || f.reserved != s.Boot {
			t.Fatalf("%s, cut %d: the file system in force is not the one that is booted: %v", p, i, err)
		}
		for _, path := range []string{cmdlineFile, loaderFile} {
			if text, err := line(f, path); err != nil {
				t.Fatal(err)
			} else if named, err := RootSlot(text); err != nil || named != slot {
				t.Fatalf("%s, cut %d: %s names slot %d, %v", p, i, path, named, err)
			}
		}
		if err := c.disk(p).Commit(Target{From: slot, To: slot.Other(), Platform: p}); err != nil {
			t.Fatalf("%s, cut %d: the next commit: %v", p, i, err)
		}
	}
	for at, content := range w.sectors {
		m.sectors[at] = content
	}
	m.kernels = make(map[int64]string)
	return seen
}

// TestCommitSurvivesPowerCuts switches slots to and fro with the kernel as it is.
func TestCommitSurvivesPowerCuts(t *testing.T) {
	k := kernels(t)
	for _, p := range platforms {
		m := newMedium(t)
		for slot := Slot2; slot <= Slot3; slot++ {
			seen := survive(t, m, p, k, func(d *Disk) error {
				return d.Commit(Target{From: slot, To: slot.Other(), Platform: p})
			}, combination{"v1", slot}, combination{"v1", slot.Other()})
			if len(seen) != 2 {
				t.Errorf("%s: %v", p, seen)
			}
		}
	}
}

// TestKernelSurvivesPowerCuts places a new kernel, puts it in force with the other slot, then one more, and at last goes
// back to the one before.
func TestKernelSurvivesPowerCuts(t *testing.T) {
	k := kernels(t)
	for _, p := range platforms {
		m := newFlashed(t)
		if p == BIOS { // the layout of gokrazy's packer must do, too
			m = newMedium(t)
		}
		now := combination{"v1", Slot2}
		var places []int
		for _, name := range []string{"v2", "v1", "v2"} {
			next := combination{name, now.slot.Other()}
			var boot int
			survive(t, m, p, k, func(d *Disk) (err error) {
				if boot, err = d.Stage(bytes.NewReader(testdisk.File(t, name+".fat"))); err != nil {
					return err
				}
				changed, err := d.Changed(boot)
				if err != nil || !slices.Contains(changed, kernelFile) || slices.Contains(changed, "config.txt") {
					t.Errorf("changed: %q, %v", changed, err)
				}
				return d.Seal(boot, next.slot)
			}, now)
			seen := survive(t, m, p, k, func(d *Disk) error {
				return d.Commit(Target{From: now.slot, To: next.slot, Boot: boot, Platform: p})
			}, now, next)
			if len(seen) != 2 {
				t.Errorf("%s: %v", p, seen)
			}
			now = next
			places = append(places, boot)
		}
		if places[0] == places[1] || places[1] == places[2] {
			t.Errorf("%s: placed at %v, over the one in force", p, places)
		}
		back := combination{"v1", now.slot.Other()}
		survive(t, m, p, k, func(d *Disk) error {
			return d.Commit(Target{From: now.slot, To: back.slot, Boot: places[1], Platform: p})
		}, now, back)
	}
}

// TestWrittenOver does not put a boot file system in force in which the one in force has put a file of somebody's since.
func TestWrittenOver(t *testing.T) {
	k := kernels(t)
	for _, p := range platforms {
		for _, path := range []string{"efi/boot/bootx64.efi", kernelFile} {
			m := newMedium(t)
			d := m.disk(p)
			boot, err := d.Stage(bytes.NewReader(testdisk.File(t, "v2.fat")))
			if err == nil {
				err = d.Seal(boot, Slot3)
			}
			if err == nil {
				err = d.Usable(boot, Slot3)
			}
			if err != nil {
				t.Fatal(err)
			}
			f, err := readFAT(d.Boot, int64(boot+bootCopy)*sector)
			if err != nil {
				t.Fatal(err)
			}
			x, err := f.find(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Boot.WriteAt(bytes.Repeat([]byte("photo..."), sector/8), f.offset(x.first)+sector); err != nil {
				t.Fatal(err)
			}
			if err := d.Usable(boot, Slot3); !errors.Is(err, ErrNoCard) {
				t.Errorf("%s, %s: usable: %v", p, path, err)
			}
			if err := d.Commit(Target{From: Slot2, To: Slot3, Boot: boot, Platform: p}); !errors.Is(err, ErrNoCard) {
				t.Errorf("%s, %s: commit: %v", p, path, err)
			}
			if kernel, slot := m.boots(t, p, k); kernel != "v1" || slot != Slot2 {
				t.Errorf("%s, %s: boots %s from %d", p, path, kernel, slot)
			}
		}
	}
}

// TestArmSurvivesPowerCuts arms a trial by flag, lets gokrazy's init take it back, and tidies up.
func TestArmSurvivesPowerCuts(t *testing.T) {
	k := kernels(t)
	for _, p := range platforms {
		m := newMedium(t)
		if err := m.disk(p).Arm("kdht.before=kgmfla"); err != nil {
			t.Fatal(err)
		}
		writes := 0
		for _, e := range m.log {
			if !e.sync {
				writes++
			}
		}
		f, err := readFAT(m.disk(p).Boot, 0)
		if err != nil {
			t.Fatal(err)
		}
		text, err := line(f, cmdlineFile)
		if err != nil {
			t.Fatal(err)
		}
		if writes != 1 || !bytes.HasSuffix([]byte(text), []byte(" "+TryFlag+" kdht.before=kgmfla")) {
			t.Fatalf("%s: %d sectors written, %q", p, writes, text)
		}
		m.armed = true
		tried := string(bytes.Replace([]byte(text), []byte(TryFlag), []byte(triedFlag), 1)) // as init does
		survive(t, m, p, k, func(d *Disk) error { return errors.Join(d.setLine(f, cmdlineFile, tried), d.Boot.Sync()) }, combination{"v1", Slot2})
		m.armed = false
		// From within the trial, the commit leaves no flag.
		survive(t, m, p, k, func(d *Disk) error {
			return d.Commit(Target{From: Slot2, To: Slot3, Platform: p})
		}, combination{"v1", Slot2}, combination{"v1", Slot3})
		if s, err := m.disk(p).Selected(); err != nil || bytes.Contains([]byte(s.Line), []byte("gokrazy.")) {
			t.Errorf("%s: %+v, %v", p, s, err)
		}
	}
}

// TestBrokenStage makes sure that no image, however broken, touches the file system in force or can be put in force.
func TestBrokenStage(t *testing.T) {
	k := kernels(t)
	whole := testdisk.File(t, "v2.fat")
	foreign := bytes.Clone(whole)
	copy(foreign[11:], []byte{0, 16}) // sectors of 4096 bytes
	for name, image := range map[string][]byte{
		"empty": nil, "garbage": bytes.Repeat([]byte{0x5a}, 1<<20), "a squashfs": testdisk.File(t, "v1.squashfs"),
		"one sector": whole[:512], "half a table": whole[:4096], "half a kernel": whole[:5<<20], "foreign": foreign,
		"too long": append(bytes.Clone(whole), make([]byte, 110<<20)...),
	} {
		for _, p := range platforms {
			m := newMedium(t)
			boot, err := m.disk(p).Stage(bytes.NewReader(image))
			if err == nil {
				if _, err = m.disk(p).Changed(boot); err == nil {
					err = m.disk(p).Seal(boot, Slot3)
				}
			}
			if name == "half a kernel" && err == nil { // the tables cannot tell
				t.Logf("%s: placed; its hash tells", name)
			} else if err == nil {
				t.Errorf("%s: %s is placed at %d", p, name, boot)
			}
			if kernel, slot := m.boots(t, p, k); kernel != "v1" || slot != Slot2 {
				t.Errorf("%s, after %s: boots %s from %d", p, name, kernel, slot)
			}
			for _, place := range []int{0, 4, boot, boot + 8, 20000} {
				if name == "half a kernel" && place == boot {
					continue
				}
				if err := m.disk(p).Commit(Target{From: Slot2, To: Slot3, Boot: max(place, 1), Platform: p}); err == nil {
					t.Errorf("%s, after %s: what lies at %d is put in force", p, name, place)
				}
			}
		}
	}
}

// some checks what a few of the power cuts leave that there could be in what was written to a medium.
func some(t *testing.T, m *medium, k map[string][]byte, want combination, then func(*medium)) {
	t.Helper()
	const few = 12
	cuts := m.cuts()
	for i := 0; i < len(cuts); i += max(1, len(cuts)/few) {
		if kernel, slot := cuts[i].boots(t, Firmware, k); (combination{kernel, slot}) != want {
			t.Fatalf("cut %d of %d: boots %s from slot %d", i, len(cuts), kernel, slot)
		}
		if then != nil {
			then(cuts[i])
		}
	}
}

// TestOnceSurvivesPowerCuts prepares a start by the Raspberry Pi's firmware with another kernel, and commits that.
func TestOnceSurvivesPowerCuts(t *testing.T) {
	k := kernels(t)
	m := newFlashed(t)
	old, next := combination{"v1", Slot2}, combination{"v2", Slot3}
	target := Target{From: Slot2, To: Slot3, Platform: Firmware}
	d := m.disk(Firmware)
	var err error
	if target.Boot, err = d.Stage(bytes.NewReader(testdisk.File(t, "v2.fat"))); err != nil {
		t.Fatal(err)
	}
	if err := d.Seal(target.Boot, Slot3); err != nil {
		t.Fatal(err)
	}
	text, err := d.TrialLine(target)
	if err != nil {
		t.Fatal(err)
	}
	m.log, m.kernels = nil, make(map[int64]string)
	w := m.above()
	if err := w.disk(Firmware).Once(target, text); err != nil {
		t.Fatal(err)
	}
	some(t, w, k, old, func(c *medium) { // what a cut leaves is tidied up, and a cut in that leaves what boots
		c = c.above()
		if err := c.disk(Firmware).Reconcile(Slot2); err != nil {
			t.Fatal(err)
		}
		some(t, c, k, old, nil)
	})
	for at, content := range w.sectors {
		m.sectors[at] = content
	}
	m.kernels = make(map[int64]string)
	for range 2 { // the second time over the first
		f, err := readFAT(m.disk(Firmware).Boot, 0)
		if err != nil {
			t.Fatal(err)
		}
		if config, err := f.content("tryboot.txt"); err != nil || !bytes.HasSuffix(config, []byte(onceConfig)) {
			t.Errorf("tryboot.txt: %q, %v", config, err)
		}
		if got, err := f.content("try/cmdline.txt"); err != nil || string(got) != text {
			t.Errorf("command line %q, %v; want %q", got, err, text)
		}
		if got, err := f.content("try/vmlinuz"); err != nil || !bytes.Equal(got, k["v2"]) {
			t.Errorf("the kernel has %d bytes, %v", len(got), err)
		}
		if err := m.disk(Firmware).Once(target, text); err != nil {
			t.Fatal(err)
		}
	}
	m.kernels = make(map[int64]string)
	survive(t, m, Firmware, k, func(d *Disk) error { return d.Commit(target) }, old, next)

	free := func(m *medium) (n int) {
		f, err := readFAT(m.disk(Firmware).Boot, 0)
		if err != nil {
			t.Fatal(err)
		}
		for c := uint32(2); c < f.clusters+2; c++ {
			if f.next(c) == 0 {
				n++
			}
		}
		return n
	}
	m = newFlashed(t)
	d = m.disk(Firmware)
	before := free(m)
	if target.Boot, err = d.Stage(bytes.NewReader(testdisk.File(t, "v2.fat"))); err == nil {
		err = errors.Join(d.Seal(target.Boot, Slot3), d.Once(target, text))
	}
	if err != nil {
		t.Fatal(err)
	}
	during := free(m)
	if err := d.Reconcile(Slot2); err != nil {
		t.Fatal(err)
	}
	if after := free(m); during >= before || after != before {
		t.Errorf("%d clusters free, then %d, at last %d", before, during, after)
	}
	f, err := readFAT(d.Boot, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.find("tryboot.txt"); !errors.Is(err, ErrFAT) {
		t.Errorf("tryboot.txt is still there: %v", err)
	}
}
