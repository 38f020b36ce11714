package kernels

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/cavaliergopher/cpio"
)

// initramfs writes a cpio archive (newc, uncompressed: decompressing costs more
// under emulation than reading) with the folders that init mounts on and the
// given entries: path in the guest → file or folder on the host.
func initramfs(dst string, entries map[string]string) (err error) {
	f, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := bufio.NewWriterSize(f, 1<<20)
	w := cpio.NewWriter(buf)
	for _, dir := range []string{"dev", "proc", "sys", "tmp"} {
		if err := w.WriteHeader(&cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	for guest, host := range entries {
		if err := addTree(w, guest, host); err != nil {
			return fmt.Errorf("initramfs: %s: %w", guest, err)
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

// addTree adds a host file, or a host folder with all that is in it.
func addTree(w *cpio.Writer, guest, host string) error {
	return filepath.WalkDir(host, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(host, p)
		if err != nil {
			return err
		}
		name := path.Join(guest, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755})
		}
		header := &cpio.Header{Name: name, Mode: cpio.TypeReg | cpio.FileMode(info.Mode().Perm()), Size: info.Size()}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		src, err := os.Open(p)
		if err != nil {
			return err
		}
		defer src.Close()
		_, err = io.Copy(w, src)
		return err
	})
}
