package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"kdht/appliance/disk/ext4"
	"kdht/appliance/update/bootdisk"
	"kdht/image/fat"
)

// Image is a built image and its parts.
type Image struct {
	Instance, Version string
	// Arch is its GOARCH, Kernel the version of its kernel's module.
	Arch, Kernel string
	// Path is the whole disk; Boot, Root and MBR are what an update sends, the first as small as its contents; Log is what
	// gok said.
	Path, Boot, Root, MBR, Log string
	// SBOM lists what went into it, if that was asked for.
	SBOM string
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
	// SBOM asks for the software bill of materials, too.
	SBOM bool
	// Change changes the configuration of the instance for this build; nil means that it stays what it is.
	Change func(config map[string]any)
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
	in, err := openInstance(ctx, src, name, img.Log, func(config map[string]any) error {
		if o.Change != nil {
			o.Change(config)
		}
		return setVersion(config, src, name, o.Version)
	})
	if err != nil {
		return Image{}, err
	}
	defer in.Close()
	whole := base + ".gok" // gok's own image
	defer os.Remove(whole)
	if err := in.reproducible(ctx, in.log, "overwrite", "--full", whole, "--target_storage_bytes", fmt.Sprint(gokImageSize)); err != nil {
		return Image{}, err
	}
	if o.SBOM {
		img.SBOM = base + ".sbom.json"
		out, err := os.Create(img.SBOM)
		if err != nil {
			return Image{}, err
		}
		if err := errors.Join(in.reproducible(ctx, out, "sbom"), out.Close()); err != nil {
			return Image{}, err
		}
	}
	img.Arch = in.env("GOARCH")
	if img.Kernel, err = in.kernel(ctx); err != nil {
		return Image{}, err
	}
	return img, img.finish(whole, src.Time)
}

// setVersion has the linker tell our programs their version, and adds the file by which a root file system says what it is:
// package update reads that of a new one before the box tries it.
func setVersion(config map[string]any, src Source, instance, version string) error {
	about, err := json.Marshal(map[string]any{"version": version, "serial": src.Serial(), "instance": instance})
	if err != nil {
		return err
	}
	packages, _ := config["PackageConfig"].(map[string]any)
	kdht, ok := packages["kdht/appliance/kdht"].(map[string]any)
	if !ok {
		return errors.New("config.json: PackageConfig has no kdht/appliance/kdht")
	}
	kdht["ExtraFileContents"] = map[string]string{"/etc/kdht/release.json": string(about) + "\n"}
	for _, pkg := range packages {
		if pkg, ok := pkg.(map[string]any); ok {
			pkg["GoBuildFlags"] = []string{"-ldflags=-s -w -X=kdht/appliance/buildinfo.release=" + version}
			pkg["GoBuildTags"] = Tags()
		}
	}
	return nil
}

// finish makes the image of gok's, as the package documentation says, and writes its parts to files.
func (img *Image) finish(gok string, t time.Time) (err error) {
	from, err := os.Open(gok)
	if err != nil {
		return err
	}
	defer from.Close()
	head, boot := make([]byte, 2*sector+gptEntries), make(fat.FS, gokBootSize)
	if _, err := from.ReadAt(head, 0); err != nil {
		return err
	}
	if _, err := from.ReadAt(boot, BootOffset); err != nil {
		return err
	}
	front, back, err := tables(head)
	if err == nil {
		err = boot.SetTimes(t)
	}
	if err == nil {
		boot, err = boot.Trim()
	}
	if err != nil {
		return fmt.Errorf("boot file system: %w", err)
	}
	// Updates get what gok would send.
	if err := errors.Join(os.WriteFile(img.Boot, boot, 0o644), os.WriteFile(img.MBR, head[:446], 0o644)); err != nil {
		return err
	}
	size, err := squashSize(from, gokRootOffset)
	if err != nil {
		return err
	}
	if size > MaxRoot {
		return fmt.Errorf("%w: %.1f MiB of at most %d", ErrTooBig, float64(size)/MiB, MaxRoot/MiB)
	}
	root := make([]byte, size)
	if _, err := from.ReadAt(root, gokRootOffset); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := setSquashTimes(root, t); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	sum := sha256.Sum256(root)
	img.RootSize, img.RootSHA256 = size, hex.EncodeToString(sum[:])
	if err := os.WriteFile(img.Root, root, 0o644); err != nil {
		return err
	}
	if err := boot.SetLabel(); err != nil { // an update keeps what it is called there
		return fmt.Errorf("boot file system: %w", err)
	}
	perm := ext4.Options{Offset: PermOffset, Size: PermSize, UUID: [16]byte(sum[:]), Label: "perm", Time: t}
	return writeImage(img.Path, boot, perm, map[int64][]byte{0: front, ImageSize - int64(len(back)): back, RootOffset: root})
}

// writeImage makes a disk of a boot file system, a new file system, and other parts by their offsets.
func writeImage(path string, boot []byte, perm ext4.Options, parts map[int64][]byte) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(ImageSize); err != nil {
		return err
	}
	for at, b := range parts {
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	disk := bootdisk.Disk{Whole: Part(f, 0, ImageSize), Boot: Part(f, BootOffset, BootSize), Start: BootOffset}
	if err := disk.Flash(bytes.NewReader(boot)); err != nil {
		return fmt.Errorf("boot file system: %w", err)
	}
	return ext4.Format(f, perm)
}
