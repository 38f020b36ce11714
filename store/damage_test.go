package store_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"kdht/store"
)

const page = 4096

var rounds = flag.Int("rounds", 150, "how many random damages to try")

// sample is a store's file with everything in it, and the items that are there.
func sample(t testing.TB) (file []byte, items []*store.Item) {
	t.Helper()
	c, path := newClock(), tempPath(t)
	s := open(t, path, store.Options{Now: c.Now})
	for n := range 400 {
		items = append(items, immutable(fmt.Sprintf("%d %s", n, strings.Repeat("x", 7*n%900))))
	}
	parallel(400, func(n int) {
		must(t, s.PutItem(items[n], nil, addr4(n)))
		must(t, s.Announce(key(n%50), netip.AddrPortFrom(addr4(n), 1), false, addr4(n)))
	})
	own := mutable(1, "", 1, "own")
	own.Own = true
	must(t, s.PutItem(own, nil, netip.Addr{}))
	items = append(items, own)
	var nodes []store.Node
	for n := range 500 {
		nodes = append(nodes, store.Node{ID: key(n), Addr: netip.AddrPortFrom(addr4(n), 1)})
	}
	must(t, s.SaveNodes(nodes))
	must(t, s.SetIdentity(false, store.Identity{ID: key(4)}))
	must(t, s.SetIdentity(true, store.Identity{ID: key(6)}))
	must(t, s.SetSecrets(store.Secrets{}))
	closeChecked(t, s)
	file, err := os.ReadFile(path)
	must(t, err)
	// The rest of the file is preallocated: nothing of interest to damage.
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.View(func(tx *bbolt.Tx) error {
		file = file[:tx.Size()]
		return nil
	}))
	must(t, db.Close())
	return file, items
}

// use opens a file that may be damaged, makes sure that nothing wrong is returned
// and that the store works. It reports whether the file was set aside.
func use(t testing.TB, file []byte, items []*store.Item) bool {
	t.Helper()
	return useChecked(t, file, items, 0)
}

func useChecked(t testing.TB, file []byte, items []*store.Item, limit time.Duration) bool {
	t.Helper()
	c, path := newClock(), tempPath(t)
	must(t, os.WriteFile(path, file, 0o600))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := store.Open(path, store.Options{Now: c.Now, CheckTimeout: limit, Logger: log})
	must(t, err)
	defer s.Close()
	for _, it := range items {
		got, err := s.Item(it.Target)
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDamaged):
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(got.V, it.V):
			t.Fatalf("item %x is %q", it.Target, got.V)
		}
	}
	if _, err := s.Nodes(); err != nil && !errors.Is(err, store.ErrDamaged) {
		t.Fatal(err)
	}
	for k := range s.Keys() {
		if _, err := s.Peers(k, false, 10, false, nil); err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Fatal(err)
		}
	}
	// Damage that shows only now may cost one write, not two.
	works := func(name string, fn func() error) {
		t.Helper()
		err := fn()
		if errors.Is(err, store.ErrDamaged) {
			err = fn()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	it := immutable("the store works")
	works("put", func() error { return s.PutItem(it, nil, addr4(1)) })
	works("put own", func() error { return s.PutItem(mutable(1, "", 2, "x"), nil, addr4(1)) })
	works("nodes", func() error { return s.SaveNodes(nil) })
	works("expire", func() error { _, err := s.Expire(c.Now().Add(24 * time.Hour)); return err })
	works("put again", func() error { return s.PutItem(it, nil, addr4(1)) })
	got, err := s.Item(it.Target)
	if limit > 0 && errors.Is(err, store.ErrNotFound) {
		// Lost in a page that Open did not check: that costs one write, too.
		must(t, s.PutItem(it, nil, addr4(1)))
		got, err = s.Item(it.Target)
	}
	if err != nil || !bytes.Equal(got.V, it.V) {
		t.Fatalf("the store does not work: %v", err)
	}
	to, why := s.SetAside()
	if to == "" {
		return false
	}
	if kept, err := os.ReadFile(to); err != nil || len(kept) < len(file) {
		t.Errorf("%s: %d bytes kept of %d: %v", why, len(kept), len(file), err)
	}
	must(t, s.Check())
	return true
}

func TestUndamagedSample(t *testing.T) {
	file, items := sample(t)
	if use(t, file, items) {
		t.Error("set aside")
	}
}

func TestDamagedFile(t *testing.T) {
	file, items := sample(t)
	random := make([]byte, 64*page)
	for i := range random {
		random[i] = byte(rand.Int())
	}
	edit := func(fn func(b []byte)) []byte {
		b := bytes.Clone(file)
		fn(b)
		return b
	}
	for _, tt := range []struct {
		name  string
		file  []byte
		aside string // "" if the file can be used
	}{
		{"empty", nil, ""},
		{"one byte", []byte{0}, "damaged"},
		{"text", []byte("This is not a database.\n"), "damaged"},
		{"random", random, "damaged"},
		{"zeros", make([]byte, len(file)), "damaged"},
		{"truncated in the first page", file[:100], "damaged"},
		{"first page only", file[:page], "damaged"},
		{"meta pages only", file[:2*page], "damaged"},
		{"half", file[:len(file)/2/page*page], "damaged"},
		{"half a page short", file[:len(file)-page/2], "damaged"},
		{"a page short", file[:len(file)-page], "damaged"},
		{"trailing garbage", append(bytes.Clone(file), random...), ""},
		{"first meta page torn", edit(func(b []byte) { b[16+50]++ }), ""},
		{"second meta page torn", edit(func(b []byte) { b[page+16+50]++ }), ""},
		{"first meta page zero", edit(func(b []byte) { clear(b[:page]) }), ""},
		{"first meta page's header zero", edit(func(b []byte) { clear(b[:16]) }), ""},
		{"second meta page's header zero", edit(func(b []byte) { clear(b[page : page+16]) }), ""},
		{"both meta pages torn", edit(func(b []byte) { b[16+50]++; b[page+16+50]++ }), "damaged"},
		{"wrong magic", edit(func(b []byte) { b[16]++; b[page+16]++ }), "damaged"},
		{"all but the meta pages zero", edit(func(b []byte) { clear(b[2*page:]) }), "damaged"},
		{"all but the meta pages random", edit(func(b []byte) { copy(b[2*page:], random); copy(b[66*page:], random) }), "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tempPath(t)
			must(t, os.WriteFile(path, tt.file, 0o600))
			var log bytes.Buffer
			c := newClock()
			s := open(t, path, store.Options{Now: c.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			to, why := s.SetAside()
			if tt.aside == "" {
				if to != "" {
					t.Errorf("set aside: %s", why)
				}
			} else {
				if want := path + "." + tt.aside + "-20270115T080000Z"; to != want {
					t.Errorf("set aside to %q, want %q", to, want)
				}
				if kept, err := os.ReadFile(to); err != nil || !bytes.Equal(kept, tt.file) {
					t.Errorf("kept file differs: %v", err)
				}
				if why == "" || !strings.Contains(log.String(), to) {
					t.Errorf("not reported: %q, log %q", why, log.String())
				}
			}
			closeChecked(t, s)
			use(t, tt.file, items)
		})
	}
}

// Every page of the file in turn is zeroed, or replaced by another one.
func TestDamagedPages(t *testing.T) {
	file, items := sample(t)
	aside := 0
	for p := 2; p < len(file)/page; p++ {
		b := bytes.Clone(file)
		if p%2 == 0 {
			clear(b[p*page : (p+1)*page])
		} else {
			other := 2 + rand.IntN(len(file)/page-2)
			copy(b[p*page:(p+1)*page], b[other*page:])
		}
		if use(t, b, items) {
			aside++
		}
	}
	t.Logf("%d of %d damaged pages were in use", aside, len(file)/page-2)
	if aside == 0 {
		t.Error("no damage was noticed")
	}
}

// Patches of random bytes, small and large.
func TestDamagedBytes(t *testing.T) { testDamagedBytes(t, 0) }

// The same without time for a check at open, so that the damage shows in use.
func TestDamagedBytesUnchecked(t *testing.T) { testDamagedBytes(t, time.Nanosecond) }

func testDamagedBytes(t *testing.T, limit time.Duration) {
	file, items := sample(t)
	aside := 0
	for seed := range uint64(*rounds) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := bytes.Clone(file)
		for range 1 + r.IntN(20) {
			off := r.IntN(len(b))
			if r.IntN(2) == 0 {
				off = off/page*page + r.IntN(64) // headers, where it hurts
			}
			for i := range min(1+r.IntN(16), len(b)-off) {
				b[off+i] = byte(r.Uint32() >> (8 * r.IntN(4)))
			}
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			if useChecked(t, b, items, limit) {
				aside++
			}
		})
	}
	t.Logf("%d of %d set aside", aside, *rounds)
}

func FuzzDamagedFile(f *testing.F) {
	file, items := sample(f)
	f.Add([]byte{2, 0, 8, 1, 0xff})
	f.Add([]byte{0, 3, 10, 2, 0xff, 0, 3, 11, 1, 0xff})
	// A patch is page(2) offset(2) length(1) byte(1).
	f.Fuzz(func(t *testing.T, patches []byte) {
		b := bytes.Clone(file)
		for ; len(patches) >= 6; patches = patches[6:] {
			off := (int(patches[0])<<8|int(patches[1]))%(len(b)/page)*page + (int(patches[2])<<8|int(patches[3]))%page
			for i := range min(int(patches[4]), len(b)-off) {
				b[off+i] = patches[5]
			}
		}
		use(t, b, items)
	})
}

func TestForeignFiles(t *testing.T) {
	bolt := func(fn func(tx *bbolt.Tx) error) func(path string) error {
		return func(path string) error {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			return errors.Join(db.Update(fn), db.Close())
		}
	}
	for _, tt := range []struct {
		name, aside string
		make        func(path string) error
	}{
		{"bbolt file without buckets", "", bolt(func(tx *bbolt.Tx) error { return nil })},
		{"another program's", "foreign", bolt(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("accounts"))
			return err
		})},
		{"bucket of our name", "foreign", bolt(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("kdht"))
			return err
		})},
		{"directory", "foreign", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"newer schema", "newer", func(path string) error {
			s, err := store.Open(path, store.Options{})
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			return bolt(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("kdht")).Put([]byte("schema"), []byte{0, 0, 0, 200})
			})(path)
		}},
		{"bucket missing", "damaged", func(path string) error {
			s, err := store.Open(path, store.Options{})
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			return bolt(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("peers")) })(path)
		}},
		{"no free list", "damaged", func(path string) error {
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
			if err != nil {
				return err
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("x"))
				return err
			})
			return errors.Join(err, db.Close())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tempPath(t)
			must(t, tt.make(path))
			s := open(t, path, store.Options{})
			to, why := s.SetAside()
			if tt.aside == "" {
				if to != "" {
					t.Errorf("set aside: %s", why)
				}
			} else if !strings.HasPrefix(to, path+"."+tt.aside+"-") {
				t.Errorf("set aside to %q: %s", to, why)
			}
			must(t, s.PutItem(immutable("works"), nil, addr4(1)))
		})
	}
}

func TestSetAsideNeverOverwrites(t *testing.T) {
	c, path := newClock(), tempPath(t)
	for n := range 3 {
		must(t, os.WriteFile(path, []byte{byte(n)}, 0o600))
		closeChecked(t, open(t, path, store.Options{Now: c.Now}))
	}
	kept, err := filepath.Glob(path + ".damaged-*")
	must(t, err)
	if len(kept) != 3 {
		t.Errorf("kept %v", kept)
	}
}

func TestUnusablePlace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := store.Open(filepath.Join(file, "kdht.db"), store.Options{}); err == nil {
		t.Error("opened below a file")
	}
}

// The file is damaged while the store is open: a failing disk, or somebody's cp.
func TestDamagedWhileOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(f *os.File, size int64) error
	}{
		{"overwritten", func(f *os.File, size int64) error {
			_, err := io.Copy(io.NewOffsetWriter(f, 2*page), io.LimitReader(zeros{}, size-2*page))
			return err
		}},
		{"truncated", func(f *os.File, _ int64) error { return f.Truncate(2 * page) }},
		{"deleted and truncated", func(f *os.File, _ int64) error {
			return errors.Join(os.Remove(f.Name()), f.Truncate(2*page))
		}},
	} {
		for _, write := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, write %v", tt.name, write), func(t *testing.T) {
				c, path := newClock(), tempPath(t)
				s := open(t, path, store.Options{Now: c.Now})
				var items []*store.Item
				for n := range 300 {
					items = append(items, full(n))
				}
				parallel(300, func(n int) { must(t, s.PutItem(items[n], nil, addr4(n))) })
				must(t, s.SetIdentity(true, store.Identity{ID: key(6)}))
				released := make(map[[20]byte]bool)
				s.OnRelease(func(k [20]byte) { released[k] = true })

				f, err := os.OpenFile(path, os.O_RDWR, 0)
				must(t, err)
				defer f.Close()
				fi, err := f.Stat()
				must(t, err)
				must(t, tt.damage(f, fi.Size()))

				if write {
					wantErr(t, s.PutItem(full(1000), nil, addr4(1)), store.ErrDamaged)
				} else {
					_, err := s.Item(items[0].Target)
					wantErr(t, err, store.ErrDamaged)
				}
				it := full(1001)
				if err := s.PutItem(it, nil, addr4(1)); err != nil {
					t.Fatalf("the store did not recover: %v", err)
				}
				if _, err := s.Item(it.Target); err != nil {
					t.Errorf("the store did not recover: %v", err)
				}
				if s.Holds(items[0].Target) {
					t.Error("a lost item is held")
				}
				if len(released) != 300 {
					t.Errorf("%d keys released", len(released))
				}
				if id, err := s.Identity(true); err != nil || id.ID != key(6) {
					t.Errorf("identity lost: %v", err)
				}
				s = reopen0(t, s, path)
				if id, err := s.Identity(true); err != nil || id.ID != key(6) {
					t.Errorf("identity not in the new file: %v", err)
				}
			})
		}
	}
}

// reopen0 closes and opens a store that was set aside before.
func reopen0(t *testing.T, s *store.Store, path string) *store.Store {
	closeChecked(t, s)
	return open(t, path, store.Options{})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
