package kernels_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kdht/appliance/disk"
	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/ext4"
	"kdht/appliance/disk/table"
	"kdht/bpf/testenv"
	"kdht/image/kernels"
)

const gib = 1 << 30

// A card is a disk to which an image of gokrazy was written, and what became of it.
type card struct {
	name   string
	size   int64
	mbr    bool
	before func(t *testing.T, f *os.File)
	want   func(first disk.Report) string // what is wrong with the report
}

func cards() []card {
	grown := func(from, to int64) func(disk.Report) string {
		return func(r disk.Report) string {
			if !r.Grown() || r.GrownFrom > from || r.GrownFrom < from-8<<20 || r.GrownTo > to || r.GrownTo < to-8<<20 || len(r.Sentences) != 1 {
				return fmt.Sprintf("want it to grow from %d to %d and no more", from, to)
			}
			return ""
		}
	}
	const rest2, rest16 = 2*gib - disktest.PermStart, 16*gib - disktest.PermStart
	return []card{
		{"2 GiB", 2 * gib, false, nil, grown(disktest.PermSize, rest2)},
		{"16 GiB", 16 * gib, false, nil, grown(disktest.PermSize, rest16)},
		{"16 GiB, MBR", 16 * gib, true, nil, grown(disktest.PermMBR, rest16)},
		{"growth was interrupted behind the table", 4 * gib, false, func(t *testing.T, f *os.File) {
			if _, err := table.Grow(f, 4*gib, 4); err != nil {
				t.Fatal(err)
			}
		}, grown(disktest.PermSize, 4*gib-disktest.PermStart)},
		{"superblock damaged before it grew further", 16 * gib, false, func(t *testing.T, f *os.File) {
			// A card of 4 GiB copied to a larger one.
			g, err := table.Grow(f, 4*gib, 4)
			if err != nil {
				t.Fatal(err)
			}
			format(t, f, g.To)
			if _, err := f.WriteAt(make([]byte, 4096), disktest.PermStart); err != nil {
				t.Fatal(err)
			}
		}, func(r disk.Report) string {
			if !r.Repaired || r.SetAside || !r.Grown() || !strings.Contains(r.Sentences[0], "superblock was lost") {
				return "want the superblock restored, and then growth"
			}
			return ""
		}},
		{"garbage", 4 * gib, false, func(t *testing.T, f *os.File) {
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 95<<20), disktest.PermStart); err != nil {
				t.Fatal(err)
			}
		}, func(r disk.Report) string {
			if !r.SetAside || !r.Grown() || r.GrownTo < 4*gib-disktest.PermStart-8<<20 {
				return "want it set aside, and then growth"
			}
			return ""
		}},
		{"full", 2 * gib, false, fill, grown(disktest.PermSize, rest2)},
	}
}

func format(t *testing.T, f *os.File, size int64) {
	t.Helper()
	o := ext4.Options{Offset: disktest.PermStart, Size: size, UUID: [16]byte{4, 2}, Label: "perm", Time: time.Unix(1_700_000_000, 0)}
	if err := ext4.Format(f, o); err != nil {
		t.Fatal(err)
	}
}

// fill puts an empty file into the file system, which the guest then extends.
func fill(t *testing.T, f *os.File) {
	t.Helper()
	out, err := exec.Command(testenv.NeedTool(t, "debugfs"), "-w", "-R", "write /dev/null fill", partition(f)).CombinedOutput()
	if err != nil {
		t.Fatalf("debugfs: %v %s", err, out)
	}
}

func partition(f *os.File) string {
	return fmt.Sprintf("%s?offset=%d", f.Name(), int64(disktest.PermStart))
}

// insert writes gokrazy's image to a card.
func (c card) insert(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "card"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size := int64(disktest.PermSize)
	if c.mbr {
		disktest.WriteMBR(t, f)
		size = disktest.PermMBR
	} else {
		disktest.WriteGPT(t, f)
	}
	if err := f.Truncate(c.size); err != nil {
		t.Fatal(err)
	}
	format(t, f, size)
	if c.before != nil {
		c.before(t, f)
	}
	return f
}

// TestDisk boots every stock kernel with a set of cards and has it do what a box does
// with /perm at its first boot and the one after. It is here that the file system grows while it is mounted.
func TestDisk(t *testing.T) {
	t.Parallel()
	for _, kernel := range kernels.Stock() {
		t.Run(kernel.Name, func(t *testing.T) {
			t.Parallel()
			testenv.NeedTool(t, kernel.QEMU())
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			image, err := kernel.Image(ctx, "../builddir")
			if err != nil {
				t.Fatal(err)
			}
			var files []*os.File
			var paths []string
			for _, c := range cards() {
				f := c.insert(t)
				files, paths = append(files, f), append(paths, f.Name())
			}
			scratch := t.TempDir()
			guest := kernels.Guest{
				Kernel: kernel,
				Image:  image,
				Init:   build(ctx, t, kernel, filepath.Join(scratch, "init"), "build", "./guest"),
				Test:   build(ctx, t, kernel, filepath.Join(scratch, "boot"), "build", "kdht/appliance/disk/disktest/boot"),
				Dir:    "/", MemoryMiB: 512, Disks: paths,
				Append: "root=PARTUUID=60c24cc1-f3f9-427a-8199-798dd0360001/PARTNROFF=1",
			}
			var console bytes.Buffer
			code, err := guest.Run(ctx, scratch, &console)
			lines := regexp.MustCompile(`(?m)^report: (.*?)\r?$`).FindAllSubmatch(console.Bytes(), -1)
			if err != nil || code != 0 || len(lines) != 2*len(files) {
				t.Fatalf("exit code %d, error %v, %d reports, console:\n%s", code, err, len(lines), console.Bytes())
			}
			for n, c := range cards() {
				var first, second disk.Report
				if err := errors.Join(json.Unmarshal(lines[2*n][1], &first), json.Unmarshal(lines[2*n+1][1], &second)); err != nil {
					t.Fatal(err)
				}
				if wrong := c.want(first); wrong != "" {
					t.Errorf("%s: %s: %s", c.name, wrong, lines[2*n][1])
				}
				if !second.Mounted || len(second.Sentences) != 0 || second.Size != first.GrownTo {
					t.Errorf("%s, the boot after that: %s", c.name, lines[2*n+1][1])
				}
				if out, err := exec.Command(testenv.NeedTool(t, "e2fsck"), "-fn", partition(files[n])).CombinedOutput(); err != nil {
					t.Errorf("%s: e2fsck: %v\n%s", c.name, err, out)
				}
				if p, err := ext4.Check(ctx, sectionOf(files[n])); err != nil || len(p) > 0 {
					t.Errorf("%s: our own check: %v, %v", c.name, p, err)
				}
				t.Logf("%s: %s", c.name, strings.Join(first.Sentences, " "))
			}
			if t.Failed() {
				t.Logf("console:\n%s", console.Bytes())
			}
		})
	}
}

type section struct{ f *os.File }

func (s section) ReadAt(b []byte, off int64) (int, error) {
	return s.f.ReadAt(b, off+disktest.PermStart)
}

func sectionOf(f *os.File) section { return section{f} }
