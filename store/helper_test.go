package store_test

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kdht/store"
)

// clock is the time of a store under test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// tempPath is a place for a file; not on tmpfs, so that fsync costs what it costs.
func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "kdht.db") }

// open opens a store, and closes it when the test ends, after bbolt's and its own
// check.
func open(t testing.TB, path string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeChecked(t, s) })
	return s
}

func closeChecked(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Check(); err != nil && !errors.Is(err, store.ErrClosed) {
		t.Errorf("check: %v", err)
	}
	if err := s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
		t.Errorf("close: %v", err)
	}
}

// reopen closes a store and opens its file again.
func reopen(t testing.TB, s *store.Store, path string, o store.Options) *store.Store {
	t.Helper()
	closeChecked(t, s)
	s = open(t, path, o)
	if path, why := s.SetAside(); path != "" {
		t.Fatalf("file was set aside to %s: %s", path, why)
	}
	return s
}

func immutable(v string) *store.Item {
	b := fmt.Appendf(nil, "%d:%s", len(v), v)
	return &store.Item{Target: sha1.Sum(b), V: b}
}

// mutable makes an item of the n-th key. Its signature is not valid: the store does
// not look.
func mutable(n int, salt string, seq int64, v string) *store.Item {
	it := &store.Item{Mutable: true, Seq: seq, V: fmt.Appendf(nil, "%d:%s", len(v), v)}
	binary.BigEndian.PutUint64(it.K[:], uint64(n))
	if salt != "" {
		it.Salt = []byte(salt)
	}
	it.Target = sha1.Sum(append(it.K[:], salt...))
	copy(it.Sig[:], fmt.Sprintf("signature %d %s", seq, v))
	return it
}

func key(n int) (k [20]byte) { return sha1.Sum(fmt.Append(nil, "key ", n)) }

// addr4 and addr6 give the n-th test address; each addr6 is in a /64 of its own.
func addr4(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18 + byte(n>>16&1), byte(n >> 8), byte(n)})
}

func addr6(n int) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	binary.BigEndian.PutUint32(b[4:], uint32(n))
	return netip.AddrFrom16(b)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// fast is for tests that announce one by one.
func fast(o store.Options) store.Options {
	o.AnnounceInterval = -1
	return o
}

// peerAddr is the address of the n-th peer.
func peerAddr(n int) netip.AddrPort { return netip.AddrPortFrom(addr4(n), 6881) }

// parallel calls fn for 0 to n-1 from many goroutines and waits.
func parallel(n int, fn func(int)) { parallelIn(64, n, fn) }

func parallelIn(workers, n int, fn func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	wg.Wait()
}
