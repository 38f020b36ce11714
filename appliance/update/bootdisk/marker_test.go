package bootdisk

import "testing"

func TestMarker(t *testing.T) {
	for _, want := range []Target{{Slot2, Slot3, 0, UEFI}, {Slot3, Slot2, 35304, BIOS}, {Slot2, Slot3, 0, Firmware}} {
		got, ok := FindMarker("console=tty1 root=/dev/sda2 " + want.Marker() + " panic=10\n")
		if !ok || got != want {
			t.Errorf("%+v, %v; want %+v", got, ok, want)
		}
	}
	for _, bad := range []string{"", "quiet", "kdht.trial=", "kdht.trial=2-3", "kdht.trial=2-2-0-u", "kdht.trial=2-4-0-u", "kdht.trial=2-3-70000-u", "kdht.trial=2-3-0-x", "kdht.trial=2-3-0-uu", "kdht.trial=-2-3-0-u"} {
		if got, ok := FindMarker(bad); ok {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

// TestRunningTrial tells a trial from what is none, on all that kernel and init may have done.
func TestRunningTrial(t *testing.T) {
	for _, c := range []struct {
		line    string
		running Slot
		trial   bool
	}{
		{"root=/dev/sda2 ro", Slot2, false},
		{"root=PARTUUID=60c24cc1-f3f9-427a-8199-798dd0360001/PARTNROFF=2 ro", Slot3, false},
		{"root=PARTUUID=60c24cc1-f3f9-427a-8199-798dd0360001/PARTNROFF=2 kdht.trial=2-3-0-b", Slot3, true},
		{"root=PARTUUID=798dd036-02 gokrazy.try_boot_inactive=1", Slot3, true},  // init has left slot 2
		{"root=PARTUUID=798dd036-02 gokrazy.try_boot_inactive=1", Slot2, false}, // init could not leave it
		{"root=/dev/mmcblk0p3 kdht.trial=2-3-0-b", Slot2, false},
		{"something else", Slot2, false},
	} {
		if got, trial := (Place{Running: c.running}).RunningTrial(c.line, UEFI); trial != c.trial || trial && (got.To != c.running || got.From != c.running.Other()) {
			t.Errorf("%q on slot %d: %+v, %v", c.line, c.running, got, trial)
		}
	}
}

func TestWithRoot(t *testing.T) {
	const gpt = "root=PARTUUID=60c24cc1-f3f9-427a-8199-798dd0360001/PARTNROFF="
	for _, c := range []struct {
		line, like string
		slot       Slot
		want       string
	}{
		{"a root=/dev/sda2  b " + TryFlag, "root=/dev/sda2", Slot3, "a root=/dev/sda3 b"},
		{"root=PARTUUID=00000000-02 " + triedFlag, gpt + "1 ro", Slot3, gpt + "2"},
		{gpt + "2 kdht.trial=2-3-0-u", gpt + "2", Slot2, gpt + "1"},
		{"no root", gpt + "2", Slot2, ""},
		{"root=/dev/sda2 root=/dev/sda3", "root=/dev/sda2", Slot2, ""},
		{"root=/dev/sda2", "root=LABEL=x", Slot2, ""},
	} {
		if got, err := withRoot(c.line, c.like, c.slot); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q like %q: %q, %v", c.line, c.like, got, err)
		}
	}
}
