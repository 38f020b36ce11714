package trial_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/appliance/update/trial"
	"kdht/bpf/testenv"
)

// TestFullDisk writes the records of updates to a full disk, until the room that was kept for them is used up.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	mount := t.TempDir()
	if err := unix.Mount("none", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mount, "update")
	if err := trial.Reserve(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mount, "somebody's"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := trial.Reserve(dir); err != nil {
		t.Errorf("at the next start: %v", err)
	}
	want := trial.Trial{To: strings.Repeat("v", 3000)}
	for n := range 20 { // of one name, as an update writes them
		want.Serial = uint64(n)
		if err := trial.Write(dir, trial.TrialFile, want); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	var got trial.Trial
	if ok, err := trial.Read(dir, trial.TrialFile, &got); !ok || err != nil || got.To != want.To || got.Serial != 19 {
		t.Errorf("%v, %v, %+v", ok, err, got)
	}
	for n := 0; ; n++ { // of many names
		if err := trial.Write(dir, fmt.Sprint(n), want); errors.Is(err, unix.ENOSPC) && n > 0 {
			break
		} else if err != nil || n > 100 {
			t.Fatalf("record %d: %v", n, err)
		}
	}
}
