package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"kdht/appliance/disk/ext4"
	"kdht/image/fat"
)

// Image is a built image and its parts.
type Image struct {
	Instance, Version string
	// Path is the whole disk; Boot, Root and MBR hold the parts that an update sends; Log is what gok said.
	Path, Boot, Root, MBR, Log string
	// RootSize is the size of the root file system in bytes, RootSHA256 its hash in hexadecimal digits.
	RootSize   int64
	RootSHA256 string
}

// Options change what is built.
type Options struct {
	// Dir is where the files go; empty means bin/image of the checkout.
	Dir string
	// Version is what the appliance calls itself; empty means that of the sources.
	Version string
}

// ErrTooBig means that the root file system is larger than [MaxRoot].
var ErrTooBig = errors.New("the root file system is too big")

// Build builds the image of an instance. Building again overwrites the files.
func Build(ctx context.Context, src Source, name string, o Options) (Image, error) {
	if o.Dir == "" {
		o.Dir = filepath.Join(src.Dir, "bin", "image")
	}
	if o.Version == "" {
		o.Version = src.Version
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Image{}, err
	}
	base := filepath.Join(dir, "kdht-"+name)
	img := Image{
		Instance: name, Version: o.Version,
		Path: base + ".img", Boot: base + ".boot.fat", Root: base + ".root.squashfs", MBR: base + ".mbr", Log: base + ".log",
	}
	in, err := openInstance(ctx, src, name, img.Log, func(config map[string]any) { setVersion(config, o.Version) })
	if err != nil {
		return Image{}, err
	}
	defer in.Close()
	if err := in.run(ctx, true, "overwrite", "--full", img.Path, "--target_storage_bytes", fmt.Sprint(ImageSize)); err != nil {
		return Image{}, err
	}
	return img, img.finish(src.Time)
}

// setVersion has the linker tell our programs their version.
func setVersion(config map[string]any, version string) {
	packages, _ := config["PackageConfig"].(map[string]any)
	for _, pkg := range packages {
		if pkg, ok := pkg.(map[string]any); ok {
			pkg["GoBuildFlags"] = []string{"-ldflags=-s -w -X=kdht/appliance/buildinfo.release=" + version}
		}
	}
}

// finish does to gok's image what the package documentation lists, and writes its parts to files.
func (img *Image) finish(t time.Time) (err error) {
	f, err := os.OpenFile(img.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	compact := make(fat.FS, BootSize)
	if _, err := f.ReadAt(compact, BootOffset); err != nil {
		return err
	}
	boot, moved, err := fat.Spread(compact, BootSize)
	if err == nil {
		err = boot.SetTimes(t)
	}
	if err != nil {
		return fmt.Errorf("boot file system: %w", err)
	}
	mbr := make([]byte, 446)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		return err
	}
	if err := moveMBR(mbr, moved); err != nil {
		return err
	}
	size, err := squashSize(f, RootOffset)
	if err != nil {
		return err
	}
	if size > MaxRoot {
		return fmt.Errorf("%w: %.1f MiB of at most %d", ErrTooBig, float64(size)/MiB, MaxRoot/MiB)
	}
	root := make([]byte, size)
	if _, err := f.ReadAt(root, RootOffset); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := setSquashTimes(root, t); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	sum := sha256.Sum256(root)
	img.RootSize, img.RootSHA256 = size, hex.EncodeToString(sum[:])
	perm := ext4.Options{Offset: PermOffset, Size: PermSize, UUID: [16]byte(sum[:]), Label: "perm", Time: t}
	if err := ext4.Format(f, perm); err != nil {
		return err
	}
	for _, p := range []struct {
		path string
		at   int64
		b    []byte
	}{{img.MBR, 0, mbr}, {img.Boot, BootOffset, boot}, {img.Root, RootOffset, root}} {
		if _, err := f.WriteAt(p.b, p.at); err != nil {
			return err
		}
		if err := os.WriteFile(p.path, p.b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
