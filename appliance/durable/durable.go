// Package durable changes files of the state so that a loss of power leaves the old content or the new one.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write makes a file have a content: after a loss of power it has the old one or the new one, and once nil is
// returned the new one.
func Write(path string, data []byte, perm fs.FileMode) (err error) {
	next := path + ".new" // what a loss of power leaves of it is overwritten next time
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return SyncParent(path)
}

// SyncParent makes the entry of a file in its directory durable.
func SyncParent(path string) (err error) {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// Scrub removes a file whose content must not stay on the medium: it is overwritten in place first. On flash storage
// the controller may keep what was overwritten, which nothing here can change.
func Scrub(path string) error {
	if err := Overwrite(path); err != nil {
		return err
	}
	return Remove(path)
}

// Overwrite makes a file consist of zeros.
func Overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, fi.Size()))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Remove removes a file durably.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncParent(path)
}
