package bootdisk_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/testdisk"
)

// TestLoopDevice works on a block device with gokrazy's tables, from which a root file system is mounted.
func TestLoopDevice(t *testing.T) {
	device, root := testdisk.Loop(t)
	place, err := bootdisk.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	if place.Disk != device || place.Running != bootdisk.Slot2 || place.Start != testdisk.BootStart || place.Parts[3] != device+"p3" {
		t.Fatalf("%+v", place)
	}
	if _, trial := place.RunningTrial(bootdisk.CommandLine(), bootdisk.ThisPlatform()); trial {
		t.Error("this machine's command line has a trial")
	}
	if s, err := place.OpenSlot(bootdisk.Slot2); !errors.Is(err, bootdisk.ErrBusy) {
		t.Errorf("the mounted slot: %v, %v", s, err)
	}
	slot, err := place.OpenSlot(bootdisk.Slot3)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Close()
	image := testdisk.File(t, "v2.squashfs")
	n, sum, err := bootdisk.WriteRoot(slot, bytes.NewReader(image))
	if err != nil || n != int64(len(image)) || sum != sha256.Sum256(image) {
		t.Fatalf("%d, %x, %v", n, sum, err)
	}
	var back bytes.Buffer
	if err := bootdisk.ReadRoot(slot, n, &back); err != nil || !bytes.Equal(back.Bytes(), image) {
		t.Fatalf("read back %d bytes, %v", back.Len(), err)
	}
	through, err := os.ReadFile(device + "p3")
	if err != nil || !bytes.Equal(through[:len(image)], image) {
		t.Errorf("through the page cache: %v", err)
	}
	if _, err := bootdisk.CheckRoot(slot, n); err != nil {
		t.Error(err)
	}
	if _, err := bootdisk.CheckRoot(slot, 500); !errors.Is(err, bootdisk.ErrNotRoot) {
		t.Errorf("truncated: %v", err)
	}

	d, done, err := place.Open(bootdisk.UEFI)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := d.Stage(bytes.NewReader(testdisk.File(t, "v2.fat")))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Seal(boot, bootdisk.Slot3); err != nil {
		t.Fatal(err)
	}
	target := bootdisk.Target{From: bootdisk.Slot2, To: bootdisk.Slot3, Boot: boot, Platform: bootdisk.UEFI}
	if err := d.Commit(target); err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if d, done, err = place.Open(bootdisk.UEFI); err != nil {
		t.Fatal(err)
	}
	s, err := d.Selected()
	if err != nil || s.Slot != bootdisk.Slot3 || s.Boot != boot {
		t.Errorf("after the commit: %+v, %v", s, err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if _, err := bootdisk.Find(filepath.Dir(root)); !errors.Is(err, bootdisk.ErrNoDisk) {
		t.Errorf("a directory that is on another disk: %v", err)
	}
}
