package vm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const testSectors = 64

// newTestDisk makes a disk of zeros.
func newTestDisk(t *testing.T) *Disk {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	must(t, os.WriteFile(image, make([]byte, 4*sectorSize), 0o600))
	d, err := NewDisk(filepath.Join(dir, "disk"), image, testSectors*sectorSize)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sectors(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n*sectorSize) }

// medium returns the first byte of every sector as it is on the disk without the cache.
func medium(t *testing.T, d *Disk) []byte {
	t.Helper()
	b := make([]byte, testSectors*sectorSize)
	_, err := d.ReadAt(b, 0)
	must(t, err)
	var first []byte
	for i := range testSectors {
		s := b[i*sectorSize:][:sectorSize]
		if !bytes.Equal(s, sectors(1, s[0])) {
			t.Errorf("sector %d is torn", i)
		}
		first = append(first, s[0])
	}
	return first
}

// seen returns what the machine reads at a sector.
func seen(t *testing.T, d *Disk, sector int64) byte {
	t.Helper()
	b := make([]byte, sectorSize)
	must(t, d.read(b, sector*sectorSize))
	return b[0]
}

func TestPowerCutLosesTheCache(t *testing.T) {
	d := newTestDisk(t)
	must(t, d.write(sectors(2, 1), 0, false))
	must(t, d.flush())
	must(t, d.write(sectors(1, 2), sectorSize, false)) // over what was flushed
	must(t, d.write(sectors(1, 3), 9*sectorSize, true))
	must(t, d.write(sectors(1, 4), 10*sectorSize, false))
	if got := []byte{seen(t, d, 0), seen(t, d, 1), seen(t, d, 9), seen(t, d, 10)}; !bytes.Equal(got, []byte{1, 2, 3, 4}) {
		t.Errorf("before the cut: %v", got)
	}
	must(t, d.powerOff(LoseAll()))
	if err := d.write(sectors(1, 5), 0, true); !errors.Is(err, errCut) {
		t.Errorf("a write without power: %v", err)
	}
	if err := d.read(make([]byte, sectorSize), 0); !errors.Is(err, errCut) {
		t.Errorf("a read without power: %v", err)
	}
	d.powerOn()
	if got := []byte{seen(t, d, 0), seen(t, d, 1), seen(t, d, 9), seen(t, d, 10)}; !bytes.Equal(got, []byte{1, 1, 3, 0}) {
		t.Errorf("after the cut: %v", got)
	}
}

func TestLoseSome(t *testing.T) {
	lose := func(seed uint64) []byte {
		d := newTestDisk(t)
		must(t, d.write(sectors(testSectors, 7), 0, false))
		must(t, d.powerOff(LoseSome(seed)))
		return medium(t, d)
	}
	first := lose(1)
	if kept := bytes.Count(first, []byte{7}); kept == 0 || kept == testSectors {
		t.Errorf("%d of %d sectors kept", kept, testSectors)
	}
	if !bytes.Equal(first, lose(1)) {
		t.Error("the same seed lost other sectors")
	}
	if bytes.Equal(first, lose(2)) {
		t.Error("another seed lost the same sectors")
	}
}

func TestCutAt(t *testing.T) {
	d := newTestDisk(t)
	var all []Write
	d.CutAt(func(w Write) bool {
		all = append(all, w)
		return w.N == 2
	})
	must(t, d.write(sectors(1, 1), 0, false))
	must(t, d.flush())
	cut := d.Cut()
	if err := d.write(sectors(2, 2), 4*sectorSize, false); !errors.Is(err, errCut) {
		t.Fatalf("the third command: %v", err)
	}
	select {
	case <-cut:
	default:
		t.Error("nobody was told of the cut")
	}
	want := []Write{{N: 0, Length: sectorSize}, {N: 1, Flush: true}, {N: 2, Offset: 4 * sectorSize, Length: 2 * sectorSize}}
	if len(all) != len(want) || all[0] != want[0] || all[1] != want[1] || all[2] != want[2] {
		t.Errorf("commands %+v, want %+v", all, want)
	}
	must(t, d.powerOff(LoseAll()))
	if got := medium(t, d); got[0] != 1 || got[4] != 0 {
		t.Errorf("on the disk: %v", got)
	}
	d.powerOn()
	must(t, d.write(sectors(1, 3), 0, false)) // no more cuts
}
