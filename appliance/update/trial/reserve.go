package trial

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// reserveFile keeps room for records on a disk that is full: what fills it, the store or somebody's files, must not keep a box from
	// being updated. It is as large as a few updates take, and gives reserveStep for each record that finds no room.
	reserveFile = "reserve"
	reserveSize = 64 << 10
	reserveStep = 8 << 10 // a file and its place in the directory, in blocks of 4 KiB
)

// Reserve makes room for records, as long as there is any.
func Reserve(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, reserveFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, reserveSize), f.Close())
}

// yield gives up a part of the reserve; false if there is none left.
func yield(dir string) bool {
	path := filepath.Join(dir, reserveFile)
	fi, err := os.Stat(path)
	if err != nil || fi.Size() == 0 {
		return false
	}
	return os.Truncate(path, max(0, fi.Size()-reserveStep)) == nil
}
