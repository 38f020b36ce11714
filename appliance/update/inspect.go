package update

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"kdht/appliance/update/bootdisk"
)

// Release is what a root file system says about itself, in /etc/kdht/release.json.
type Release struct {
	Version  string `json:"version"`
	Serial   uint64 `json:"serial"`
	Instance string `json:"instance"`
}

// releasePath is the place of that file.
const releasePath = "etc/kdht/release.json"

// readRelease reads what a root file system says about itself; nothing if it says nothing.
func readRelease(root string) (r Release, err error) {
	b, err := os.ReadFile(filepath.Join(root, releasePath))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

// machines is how ELF files name architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// inspect mounts a root file system and looks whether it is one of gokrazy, for this architecture.
func inspect(device string) (r Release, err error) {
	dir, err := os.MkdirTemp("", "kdht-root")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.Mount(device, dir, "squashfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return r, fmt.Errorf("%w: it cannot be mounted: %w", bootdisk.ErrNotRoot, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	f, err := elf.Open(filepath.Join(dir, "gokrazy/init"))
	if err != nil {
		return r, fmt.Errorf("%w: no gokrazy/init in it: %w", bootdisk.ErrNotRoot, errors.Unwrap(err))
	}
	defer f.Close()
	if want := machines[runtime.GOARCH]; f.Machine != want {
		return r, fmt.Errorf("%w: it is for %s, and this machine needs %s", bootdisk.ErrNotRoot, f.Machine, want)
	}
	if r, err = readRelease(dir); err != nil {
		return r, fmt.Errorf("%w: %s: %w", bootdisk.ErrNotRoot, releasePath, err)
	}
	if r.Instance != "" && r.Instance != instance() && strings.HasPrefix(r.Instance, "rpi") != strings.HasPrefix(instance(), "rpi") {
		return r, fmt.Errorf("%w: it is for %s, and this box is %s", bootdisk.ErrNotRoot, r.Instance, instance())
	}
	return r, nil
}
