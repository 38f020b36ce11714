package boot

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kdht/image/fat"
	"kdht/image/pack"
)

// TestReproducible builds the last commit in two places of different depth; one of them is this checkout, if it is that commit.
func TestReproducible(t *testing.T) {
	t.Parallel()
	src, err := pack.OpenSource(t.Context(), ".")
	must(t, err)
	var hashes, versions []string
	places := []string{"somewhere/deeper", "a"}
	if !strings.HasSuffix(src.Version, "+changes") {
		img := image(t, "amd64")
		whole, err := fileHash(img.Path)
		must(t, err)
		hashes, versions = []string{img.RootSHA256 + " " + whole}, []string{img.Version}
		places = places[:1]
	}
	for _, place := range places {
		dir := filepath.Join(t.TempDir(), place)
		must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
		if out, err := exec.Command("git", "clone", "--quiet", src.Dir, dir).CombinedOutput(); err != nil {
			t.Fatalf("git clone: %v\n%s", err, out)
		}
		clone, err := pack.OpenSource(t.Context(), dir)
		must(t, err)
		img, err := pack.Build(t.Context(), clone, "amd64", pack.Options{})
		must(t, err)
		whole, err := fileHash(img.Path)
		must(t, err)
		hashes, versions = append(hashes, img.RootSHA256+" "+whole), append(versions, img.Version)
		if changed, err := exec.Command("git", "-C", dir, "status", "--porcelain").Output(); err != nil || len(changed) > 0 {
			t.Errorf("the build changed files of the checkout: %s%v", changed, err)
		}
	}
	t.Logf("version %s, root and image %s", versions[0], hashes[0])
	if hashes[0] != hashes[1] || versions[0] != versions[1] {
		t.Errorf("two builds differ: %v %v", versions, hashes)
	}
}

// TestPiBoot compares the boot file system of the image for the Pi with what gokrazy's kernel, firmware and EEPROM packages
// hold, file by file.
func TestPiBoot(t *testing.T) {
	t.Parallel()
	img := image(t, "rpi")
	disk, err := os.Open(img.Path)
	must(t, err)
	defer disk.Close()
	boot, err := fat.Read(disk, pack.BootOffset)
	must(t, err)
	files, err := boot.Files()
	must(t, err)

	expected := make(map[string]string) // path → file of a module
	for module, globs := range map[string][]string{
		"github.com/gokrazy/kernel.rpi": {"vmlinuz", "*.dtb", "overlays/*.dtbo", "overlays/overlay_map.dtb"},
		"github.com/gokrazy/firmware":   {"*.bin", "*.dat", "*.elf", "*.upd", "*.sig", "overlays/*.dtbo"},
	} {
		dir := moduleDir(t.Context(), t, module)
		for _, glob := range globs {
			found, err := filepath.Glob(filepath.Join(dir, glob))
			must(t, err)
			for _, f := range found {
				expected[strings.TrimPrefix(f, dir+"/")] = f
			}
		}
	}
	for path, file := range expected {
		want, err := os.ReadFile(file)
		must(t, err)
		if got, ok := files[path]; !ok || !bytes.Equal(got, want) {
			t.Errorf("%s: there %v, %d bytes, want the %d bytes of %s", path, ok, len(got), len(want), file)
		}
	}
	// What the firmware of a Pi 4 and a Pi 5 asks for, and what gokrazy adds.
	for _, path := range []string{
		"start4.elf", "fixup4.dat", "bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb", "vmlinuz", "config.txt", "cmdline.txt",
		"pieeprom.upd", "pieeprom.sig", "recovery.bin", "vl805.bin", "vl805.sig",
	} {
		if len(files[path]) == 0 {
			t.Errorf("%s is missing", path)
		}
	}
	for file, words := range map[string][]string{
		"config.txt":  {"kernel=vmlinuz", "arm_control=0x200", "enable_uart=1"},
		"cmdline.txt": {"console=serial0,115200", "root=PARTUUID=60c24cc1-f3f9-427a-8199-", "/PARTNROFF=1", "init=/gokrazy/init", "panic=10"},
	} {
		for _, w := range words {
			if !bytes.Contains(files[file], []byte(w)) {
				t.Errorf("%s has no %q:\n%s", file, w, files[file])
			}
		}
	}
	t.Logf("%d files, %d of them compared with gokrazy's packages", len(files), len(expected))
}

// moduleDir returns where a module that images are built from lies.
func moduleDir(ctx context.Context, t *testing.T, module string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = filepath.Join("..", "builddir", filepath.FromSlash(module))
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}
