package kernel

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// fileSystem is where BPF file systems are mounted by convention.
	fileSystem = "/sys/fs/bpf"
	// pinRoot is the parent of the pin directories of all instances.
	pinRoot = fileSystem + "/kdht"
)

// PinDir returns the directory for the pins of the instance of the program whose state is in a directory: the same
// for its next process, another for any other instance, also for one with the same paths in another network
// namespace. The BPF file system is mounted if it is not.
func PinDir(state string) (string, error) {
	dir, err := pinPath(state)
	if err != nil {
		return "", err
	}
	if err := mountFileSystem(); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(pinRoot, 0o700)
}

// pinPath names the directory.
func pinPath(state string) (string, error) {
	abs, err := filepath.Abs(state)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	// The thread's namespace, not the process's: a thread may have entered another before it started us.
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return "", fmt.Errorf("network namespace: %w", err)
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(pinRoot, fmt.Sprintf("%x-%d", sum[:8], ns.Ino)), nil
}

// mountFileSystem makes sure that a BPF file system is mounted.
func mountFileSystem() error {
	mounted, err := isBPF(fileSystem)
	if err != nil || mounted {
		return err
	}
	if entries, err := os.ReadDir(fileSystem); err != nil || len(entries) > 0 {
		return errors.Join(fmt.Errorf("%s is not a BPF file system and not empty", fileSystem), err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME
	if err := unix.Mount("bpf", fileSystem, "bpf", flags, "mode=0700"); err != nil {
		return fmt.Errorf("no BPF file system is mounted on %s, and mounting one failed: %w", fileSystem, err)
	}
	return nil
}

func isBPF(path string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return fs.Type == unix.BPF_FS_MAGIC, nil
}

// hasPins reports whether a process left something in a directory.
func hasPins(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

// removeLeft takes away what a predecessor has left attached, if there is any: who has no program has none that knows
// what is held here.
func removeLeft(state string) {
	dir, err := pinPath(state)
	if err != nil || !hasPins(dir) {
		return
	}
	_ = os.RemoveAll(dir) // who may not do that, left no pins either
	removePinRoot()
}

// removePinRoot removes the parent of the pin directories, unless another instance has one.
func removePinRoot() { _ = os.Remove(pinRoot) }
