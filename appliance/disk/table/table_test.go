package table_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/table"
	"kdht/bpf/testenv"
)

const gib = 1 << 30

// gpt and mbr give a disk of size bytes to which gokrazy's image was written.
func gpt(t testing.TB, size int64) *disktest.Memory {
	m := disktest.NewMemory(disktest.ImageSize)
	disktest.WriteGPT(t, m)
	return m.Resized(size)
}

func mbr(t testing.TB, size int64) *disktest.Memory {
	m := disktest.NewMemory(disktest.ImageSize)
	disktest.WriteMBR(t, m)
	return m.Resized(size)
}

func grow(t testing.TB, m *disktest.Memory) table.Growth {
	t.Helper()
	g, err := table.Grow(m, m.Size(), 4)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// verify has sfdisk, which shares no code with us, check and print the table.
func verify(t testing.TB, m *disktest.Memory) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(m.Size()), m.CopyTo(f)); err != nil {
		t.Fatal(err)
	}
	sfdisk := testenv.NeedTool(t, "sfdisk")
	if out, err := exec.Command(sfdisk, "--verify", f.Name()).CombinedOutput(); err != nil ||
		strings.Contains(string(out), "corrupt") || strings.Contains(string(out), "not on the end") {
		t.Errorf("sfdisk --verify: %v\n%s", err, out)
	}
	out, err := exec.Command(sfdisk, "--dump", f.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), f.Name(), "disk")
}

// last gives partition 4's line and the others of a dump.
func last(dump string) (four, others string) {
	lines := strings.Split(strings.TrimSpace(dump), "\n")
	keep := lines[:0]
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "disk4 "):
			four = l
		case strings.HasPrefix(l, "last-lba:"):
		default:
			keep = append(keep, l)
		}
	}
	return four, strings.Join(keep, "\n")
}

func TestGrow(t *testing.T) {
	kinds := map[string]struct {
		disk func(testing.TB, int64) *disktest.Memory
		from int64
		tail int64 // sectors that stay free at the end of the disk, at least
	}{"GPT": {gpt, disktest.PermSize, 33}, "MBR": {mbr, disktest.PermMBR, 0}}
	sizes := map[string]int64{"2 GiB": 2 * gib, "16 GiB": 16 * gib, "odd sectors": 4*gib + 513*512, "4 TiB": 4 << 40}
	for kind, k := range kinds {
		for name, size := range sizes {
			t.Run(kind+" on "+name, func(t *testing.T) {
				m := k.disk(t, size)
				_, before := last(verify(t, k.disk(t, disktest.ImageSize)))
				g := grow(t, m)
				want := (size-k.tail*512)/(1<<20)*(1<<20) - disktest.PermStart
				if kind == "MBR" {
					want = min(want, (1<<32-1)*512)
				}
				if g != (table.Growth{Start: disktest.PermStart, From: k.from, To: want, Kind: kind}) {
					t.Errorf("%+v, want it to grow from %d to %d", g, k.from, want)
				}
				four, others := last(verify(t, m))
				if !strings.Contains(strings.ReplaceAll(four, " ", ""), "size="+itoa(want/512)+",") {
					t.Errorf("sfdisk sees %q, want %d sectors", four, want/512)
				}
				if others != before {
					t.Errorf("the rest of the table changed:\n%s\nbefore:\n%s", others, before)
				}
				again := m.Clone()
				if g := grow(t, again); g.From != want || g.To != want || again.Writes() != 0 {
					t.Errorf("the second run: %+v and %d sectors written, want none", g, again.Writes())
				}
			})
		}
	}
}

func TestNothingToGrow(t *testing.T) {
	for name, m := range map[string]*disktest.Memory{"GPT": gpt(t, disktest.ImageSize), "MBR": mbr(t, disktest.ImageSize)} {
		if g := grow(t, m); g.From != g.To || m.Writes() != 0 {
			t.Errorf("%s: %+v, %d sectors written on a disk that is used up", name, g, m.Writes())
		}
	}
}

// TestGrowPowerCut cuts the power after every sector and checks that the kernel would
// find its partitions, and that the next run completes the growth.
func TestGrowPowerCut(t *testing.T) {
	for kind, disk := range map[string]func(testing.TB, int64) *disktest.Memory{"GPT": gpt, "MBR": mbr} {
		base := disk(t, 16*gib)
		done := base.Clone()
		want := grow(t, done)
		for n := range done.Writes() + 1 {
			cut := done.Replay(base, n)
			if kind == "GPT" {
				// What gokrazy's init reads without looking at the header.
				entries := make([]byte, 512)
				if _, err := cut.ReadAt(entries, 1024); err != nil {
					t.Fatal(err)
				}
				for p := range 4 {
					if !bytes.HasPrefix(entries[128*p+16:], []byte{0xc1, 0x4c, 0xc2, 0x60}) || entries[128*p+31] != byte(p+1) {
						t.Fatalf("cut after %d sectors: GUID of partition %d is % x", n, p+1, entries[128*p+16:128*p+32])
					}
				}
			}
			g, err := table.Grow(cut, cut.Size(), 4) // it refuses a primary table that is not valid
			if err != nil {
				t.Fatalf("%s, cut after %d of %d sectors: %v", kind, n, done.Writes(), err)
			}
			if g.To != want.To || g.From != want.From && g.From != want.To {
				t.Fatalf("%s, cut after %d sectors: %+v, want %+v", kind, n, g, want)
			}
			if !same(t, cut, done) {
				t.Fatalf("%s, cut after %d sectors: the second run left another disk than an uninterrupted one", kind, n)
			}
		}
		t.Logf("%s: cut after each of %d sectors", kind, done.Writes())
	}
}

// same compares the parts of two disks that hold tables.
func same(t testing.TB, a, b *disktest.Memory) bool {
	t.Helper()
	for _, off := range []int64{0, a.Size() - 34*512} {
		x, y := make([]byte, 34*512), make([]byte, 34*512)
		if _, err := a.ReadAt(x, off); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(y, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}
