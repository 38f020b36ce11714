package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReleaseRefusesFloor has a floor above the release's own serial refused before anything is built.
func TestReleaseRefusesFloor(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1795787870")
	dir := t.TempDir()
	key := filepath.Join(dir, "release.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("07", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := releaseCmd{Key: key, Dir: filepath.Join(dir, "release"), Dirty: true, Floor: 1795787871, Instances: []string{"no such instance"}}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--floor=1795787871 is above the serial of this release, which is 1795787870") {
		t.Error(err)
	}
	c.Floor--
	if err := c.Run(t.Context()); err == nil || strings.Contains(err.Error(), "floor") {
		t.Errorf("a floor at the serial: %v", err)
	}
	if _, err := os.Stat(c.Dir); err == nil {
		t.Error("a folder was made")
	}
}
