package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const (
	// pageSize is fixed, so that a file can move between machines with other ones.
	pageSize = 4096
	// allocSize is by how much bbolt grows the file.
	allocSize = 1 << 20
	// mapSize is how much address space bbolt reserves at least. Remapping a file that
	// outgrew its mapping would wait for all readers and stop new ones.
	mapSize = 256 << 20
)

// openLocked opens or creates the file and takes its lock: ErrLocked if another
// process keeps it for longer than the timeout.
func openLocked(path string, timeout time.Duration) (*os.File, error) {
	deadline := time.Now().Add(timeout)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = flock(f)
		if err == nil && !isAt(f, path) {
			// Whoever had the lock has set this file aside meanwhile.
			f.Close()
			continue
		}
		if err == nil {
			return f, nil
		}
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !time.Now().Before(deadline) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		time.Sleep(min(20*time.Millisecond, time.Until(deadline)))
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isAt reports whether path still names the open file.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// openBolt hands a locked file to bbolt, which closes it with the database. The lock
// belongs to the open file, so it is never released in between.
func openBolt(f *os.File) (db *bbolt.DB, err error) {
	err = guarded(func() (err error) {
		db, err = bbolt.Open(f.Name(), 0o600, &bbolt.Options{
			OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return f, nil },
			Timeout:         time.Second,
			PageSize:        pageSize,
			InitialMmapSize: mapSize,
			FreelistType:    bbolt.FreelistMapType,
			NoStatistics:    true,
		})
		return err
	})
	return db, err
}

// rename moves a file to path.why-time, or path.why-time-n if that exists.
func rename(path, why string, now time.Time) (string, error) {
	base := fmt.Sprintf("%s.%s-%s", path, why, now.UTC().Format("20060102T150405Z"))
	to := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	return to, syncDir(path)
}

// syncDir makes a change of the directory that holds path durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
