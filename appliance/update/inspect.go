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

// required are the programs that a trial needs: what starts the others, and what ends the trial.
var required = []string{"gokrazy/init", "user/guard"}

// program looks whether a root file system has a program, for this architecture.
func program(root, path string) error {
	f, err := elf.Open(filepath.Join(root, path))
	if err != nil {
		var where *os.PathError
		if errors.As(err, &where) { // the path is that of a file descriptor
			err = where.Err
		}
		return fmt.Errorf("%w: no %s in it: %w", bootdisk.ErrNotRoot, path, err)
	}
	defer f.Close()
	if want := machines[runtime.GOARCH]; f.Machine != want {
		return fmt.Errorf("%w: it is for %s, and this machine needs %s", bootdisk.ErrNotRoot, f.Machine, want)
	}
	return nil
}

// openRoot makes the files of a root file system readable under a path, until it is closed. The mount is in nobody's mount namespace, so that
// none which another program makes meanwhile has it as well and keeps the partition in use.
func openRoot(device string) (path string, closeRoot func() error, err error) {
	fs, err := unix.Fsopen("squashfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("squashfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return "", nil, fmt.Errorf("squashfs on %s: %w", device, err)
	}
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return "", nil, fmt.Errorf("squashfs on %s: %w", device, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return "", nil, fmt.Errorf("%w: it cannot be mounted: %w", bootdisk.ErrNotRoot, err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("%w: it cannot be mounted: %w", bootdisk.ErrNotRoot, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", root), func() error { return unix.Close(root) }, nil
}

// inspect looks whether what is on a device is a root file system that can be tried on this machine.
func inspect(device string) (r Release, err error) {
	root, closeRoot, err := openRoot(device)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, closeRoot()) }()
	for _, path := range required {
		if err := program(root, path); err != nil {
			return r, err
		}
	}
	if r, err = readRelease(root); err != nil {
		return r, fmt.Errorf("%w: %s: %w", bootdisk.ErrNotRoot, releasePath, err)
	}
	if r.Instance != "" && r.Instance != instance() && strings.HasPrefix(r.Instance, "rpi") != strings.HasPrefix(instance(), "rpi") {
		return r, fmt.Errorf("%w: it is for %s, and this box is %s", bootdisk.ErrNotRoot, r.Instance, instance())
	}
	return r, nil
}
