//go:build linux

package ext4_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk/disktest"
)

// TestFormatMounts has the kernel mount a new file system and use it.
func TestFormatMounts(t *testing.T) {
	f := image(t, 400*mib)
	device := disktest.Loop(t, f.Name())
	content := bytes.Repeat([]byte("kdht"), mib)
	disktest.OwnMounts(t, func() error {
		dir := t.TempDir()
		if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
			return err
		}
		for n := range 60 { // over both group boundaries
			if err := os.WriteFile(filepath.Join(dir, string(rune('A'+n))), content, 0o600); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Join(dir, "deep/er/est"), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("deep/er", filepath.Join(dir, "link")); err != nil {
			return err
		}
		return unix.Unmount(dir, 0)
	})
	fsck(t, f.Name())
}
