package store_test

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"kdht/store"
)

// A store of 50,000 items, each with a source of its own, and 20,000 peers adds little
// to the process: about 160 bytes for each item with its source, no values.
func TestResidentMemory(t *testing.T) {
	const limit = 12 << 20
	path := tempPath(t)
	s := open(t, path, unbounded)
	parallelIn(256, residentItems, func(n int) { must(t, s.PutItem(residentItem(n), nil, addr6(n))) })
	parallelIn(256, 20_000, func(n int) {
		must(t, s.Announce(key(n/20), peerAddr(n), false, peerAddr(n).Addr()))
	})
	t.Logf("file of %d MiB", s.Stats().FileBytes>>20)
	closeChecked(t, s)

	_, lines := child(t, "resident", path)
	for lines.Scan() {
		var (
			when       string
			anon, file int64
		)
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %d", &when, &anon, &file); err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		t.Logf("%-8s %5.1f MiB anonymous, %5.1f MiB file", when, float64(anon)/(1<<20), float64(file)/(1<<20))
		if when == "read" && file < limit {
			t.Error("what is read of the file is not seen in memory")
		}
		if when != "read" && anon+file > limit {
			t.Errorf("%s: more than %d MiB", when, limit>>20)
		}
	}
}

const residentItems = 50_000

func residentItem(n int) *store.Item { return immutable(fmt.Sprintf("%-396d", n)) }

// childResident prints what the store adds to its resident memory.
func childResident(path string) error {
	anon0, _, err := resident(path)
	if err != nil {
		return err
	}
	report := func(when string) error {
		anon, file, err := resident(path)
		fmt.Println(when, anon-anon0, file)
		return err
	}
	start := time.Now()
	s, err := store.Open(path, unbounded)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "opened in %v\n", time.Since(start).Round(time.Millisecond))
	if err := report("open"); err != nil {
		return err
	}
	for n := range residentItems {
		if _, err := s.Item(residentItem(n).Target); err != nil {
			return err
		}
	}
	if err := report("read"); err != nil {
		return err
	}
	if _, err := s.Expire(time.Now()); err != nil {
		return err
	}
	if err := report("expire"); err != nil {
		return err
	}
	return s.Close()
}

// resident returns how many bytes of anonymous memory the process has resident, and how many of a file that it has mapped. Those of the
// program's own file are not counted: how many of them the kernel maps depends on how they lie in its cache.
func resident(path string) (anon, file int64, err error) {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	of := "" // the file that the lines are about
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if fields := strings.Fields(lines.Text()); strings.Contains(name, "-") { // 7f00-7f08 r--s 00000000 08:01 17 /path: a mapping begins
			of = strings.Join(fields[min(5, len(fields)):], " ")
			continue
		}
		var kib int64
		_, _ = fmt.Sscan(value, &kib) // not all are numbers
		switch {
		case name == "Anonymous":
			anon += kib << 10
		case name == "Rss" && of == path:
			file += kib << 10
		}
	}
	return anon, file, lines.Err()
}
