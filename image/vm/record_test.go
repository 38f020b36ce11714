package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestRecording replays power cuts: what was flushed before is there, and what was not is there or not, as the loss says.
func TestRecording(t *testing.T) {
	dir := t.TempDir()
	image, replay := filepath.Join(dir, "image"), filepath.Join(dir, "replay")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := NewDisk(filepath.Join(dir, "disk"), image, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	sector := func(c byte) []byte { return bytes.Repeat([]byte{c}, sectorSize) }
	write := func(at int64, c byte) {
		t.Helper()
		if err := d.write(sector(c), at*sectorSize, false); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 'a') // in the cache when the recording begins
	r, err := d.Record(filepath.Join(dir, "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	write(1, 'b') // 0
	if err := d.flush(); err != nil {
		t.Fatal(err) // 1
	}
	write(1, 'c') // 2
	write(2, 'd') // 3
	if got := len(r.Commands()); got != 4 {
		t.Fatalf("%d commands", got)
	}
	for _, c := range []struct {
		n    int
		want string // sectors 0 to 2 when all that was not flushed is lost
	}{{0, "000"}, {1, "000"}, {2, "ab0"}, {3, "ab0"}, {9, "ab0"}} {
		if err := r.Cut(c.n, LoseAll(), replay); err != nil {
			t.Fatal(err)
		}
		if got := heads(t, replay); got != c.want {
			t.Errorf("cut at %d: %q, want %q", c.n, got, c.want)
		}
	}
	seen := make(map[string]bool)
	for seed := range uint64(32) {
		if err := r.Cut(3, LoseSome(seed), replay); err != nil {
			t.Fatal(err)
		}
		seen[heads(t, replay)] = true
	}
	for _, want := range []string{"ab0", "ac0", "abd", "acd"} {
		if !seen[want] {
			t.Errorf("no loss gave %q; there were %v", want, seen)
		}
	}
	if len(seen) != 4 {
		t.Errorf("losses gave %v", seen)
	}
}

// heads is the first byte of the first three sectors of a file.
func heads(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s []byte
	for i := range 3 {
		if c := b[i*sectorSize]; c != 0 {
			s = append(s, c)
		} else {
			s = append(s, '0')
		}
	}
	return string(s)
}
