package ext4_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/disk/ext4"
	"kdht/bpf/testenv"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

var options = ext4.Options{
	UUID:  [16]byte{0x4b, 0x44, 0x48, 0x54, 1, 2, 0x43, 4, 0x85, 6, 7, 8, 9, 10, 11, 12},
	Label: "perm",
	Time:  time.Unix(1_700_000_000, 0),
}

// image makes a sparse file of size bytes with a file system in it.
func image(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	o := options
	o.Size = size
	if err := ext4.Format(f, o); err != nil {
		t.Fatal(err)
	}
	return f
}

// fsck has e2fsck look at every bit of a file system, changing nothing.
func fsck(t testing.TB, path string) {
	t.Helper()
	out, err := exec.Command(testenv.NeedTool(t, "e2fsck"), "-fn", path).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck -fn: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "Fix") {
		t.Errorf("e2fsck would mend something:\n%s", out)
	}
}

func TestFormatPassesFsck(t *testing.T) {
	sizes := map[string]int64{
		"smallest": 16 * mib, "one group": 100 * mib, "exactly a group": 128 * mib,
		"last group too short": 128*mib + 200*1024, "last group just long enough": 128*mib + 2*mib + 4096,
		"a copy in the last group": 3*128*mib + 5*mib, "gokrazy on 2 GiB": 2*gib - 1104*mib - 33*512,
		"not whole blocks": 300*mib + 777, "16 GiB": 16 * gib, "600 GiB": 600 * gib, "5 TiB": 5 << 40,
	}
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			if size > 1<<40 && testing.Short() {
				t.Skip("takes seconds")
			}
			f := image(t, size)
			fsck(t, f.Name())
			s, err := ext4.ReadSuperblock(f, 0)
			if err != nil {
				t.Fatal(err)
			}
			if s.Label != "perm" || s.UUID != options.UUID || !s.Clean || s.Size > size || s.Size < size-3*mib {
				t.Errorf("superblock: %+v", s)
			}
		})
	}
}

// dirty gives a file full of garbage, as an old, used card is.
func dirty(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "dirty"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	garbage := bytes.Repeat([]byte("\x39\x98\x3b\xc0\x53\xef garbage of the life before"), mib/32)
	for off := int64(0); off < size; off += int64(len(garbage)) {
		if _, err := f.WriteAt(garbage, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFormatOverOldContents(t *testing.T) {
	const size = 300 * mib
	f := dirty(t, size)
	o := options
	o.Size = size
	if err := ext4.Format(f, o); err != nil {
		t.Fatal(err)
	}
	fsck(t, f.Name())
}

// TestFormatIsReproducible compares two images byte for byte, one at an offset.
func TestFormatIsReproducible(t *testing.T) {
	const size, offset = 40 * mib, 3 * mib
	first, err := os.ReadFile(image(t, size).Name())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := options
	o.Size, o.Offset = size, offset
	if err := ext4.Format(f, o); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(second[:offset], make([]byte, offset)) {
		t.Error("something was written before the file system")
	}
	second = append(second[offset:], make([]byte, size)...)[:size]
	if !bytes.Equal(first, second) {
		t.Error("the same options gave different bytes")
	}
}

func TestFormatRefuses(t *testing.T) {
	for name, size := range map[string]int64{"nothing": 0, "negative": -1, "too small": 16*mib - 1, "too large": 16 << 40} {
		t.Run(name, func(t *testing.T) {
			o := options
			o.Size = size
			if err := ext4.Format(nil, o); err == nil || !strings.Contains(err.Error(), "must be") {
				t.Errorf("error %v, want one that names the bounds", err)
			}
		})
	}
	o := options
	o.Size, o.Label = gib, "a label that is too long"
	if err := ext4.Format(nil, o); err == nil {
		t.Error("a label of 24 bytes was taken")
	}
}
