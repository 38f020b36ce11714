package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"kdht/appliance/update/manifest"
)

// Release copies the parts of an image to dir under the names of a release, compresses the whole, and describes all of it
// for the manifest. The image must have been built with [Options].SBOM.
func Release(img Image, dir string) (manifest.Image, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return manifest.Image{}, err
	}
	m := manifest.Image{Instance: img.Instance, Arch: img.Arch, Kernel: img.Kernel}
	var whole, sbom manifest.File
	for _, f := range []struct {
		from, name string
		to         *manifest.File
	}{
		{img.Root, "root.squashfs", &m.Root}, {img.Boot, "boot.fat", &m.Boot}, {img.MBR, "mbr", &m.MBR},
		{img.Path, "img.zst", &whole}, {img.SBOM, "sbom.json", &sbom},
	} {
		var err error
		if *f.to, err = copyTo(dir, "kdht-"+img.Instance+"."+f.name, f.from); err != nil {
			return manifest.Image{}, fmt.Errorf("release %s: %w", img.Instance, err)
		}
	}
	m.Extra = []manifest.File{whole, sbom}
	return m, nil
}

// copyTo copies a file, compressed if its new name says so.
func copyTo(dir, name, from string) (f manifest.File, err error) {
	src, err := os.Open(from)
	if err != nil {
		return f, err
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	hash := sha256.New()
	count := &counter{w: io.MultiWriter(dst, hash)}
	if filepath.Ext(name) == ".zst" {
		z, err := zstd.NewWriter(count, zstd.WithEncoderConcurrency(1)) // the same bytes everywhere
		if err != nil {
			return f, err
		}
		if _, err := io.Copy(z, src); err != nil {
			return f, err
		}
		if err := z.Close(); err != nil {
			return f, err
		}
	} else if _, err := io.Copy(count, src); err != nil {
		return f, err
	}
	return manifest.File{Name: name, Size: count.n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
