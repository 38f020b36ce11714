package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"kdht/store"
)

// backup writes a snapshot to a file.
func backup(t *testing.T, s *store.Store) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "backup")
	must(t, s.Snapshot(func(x *store.Snapshot) error {
		var b bytes.Buffer
		n, err := x.WriteTo(&b)
		if err != nil || n != x.Size() || int64(b.Len()) != n {
			return fmt.Errorf("%d bytes written, %d there, %d promised: %w", n, b.Len(), x.Size(), err)
		}
		return os.WriteFile(path, b.Bytes(), 0o600)
	}))
	return path
}

// TestSnapshotWhileWriting takes a snapshot twice while others write: both times the same records, which are a sound store of one moment.
func TestSnapshotWhileWriting(t *testing.T) {
	s := open(t, tempPath(t), fast(store.Options{MaxBytesPerSource: -1}))
	for n := range 50 {
		must(t, s.PutItem(immutable(fmt.Sprint("before ", n)), nil, addr4(n)))
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	defer writers.Wait()
	defer close(stop)
	inside := make(chan struct{})
	var once sync.Once
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.PutItem(immutable(fmt.Sprint("during ", w, n)), nil, addr4(n)); err != nil {
					t.Error(err)
					return
				}
				if n == 20 {
					once.Do(func() { close(inside) })
				}
			}
		})
	}
	var first, second bytes.Buffer
	must(t, s.Snapshot(func(x *store.Snapshot) error {
		if _, err := x.WriteTo(&first); err != nil {
			return err
		}
		<-inside // others have written meanwhile
		_, err := x.WriteTo(&second)
		return err
	}))
	var all [2]string
	for i, b := range []*bytes.Buffer{&first, &second} {
		path := filepath.Join(t.TempDir(), "copy")
		must(t, os.WriteFile(path, b.Bytes(), 0o600))
		if c, err := store.Verify(path, 0); err != nil || c.Items < 50 {
			t.Fatalf("Verify = %+v, %v", c, err)
		}
		all[i] = records(t, path)
	}
	if all[0] != all[1] {
		t.Errorf("the snapshot changed: %d bytes of records, then %d", len(all[0]), len(all[1]))
	}
}

// records returns everything that a file has, in order.
func records(t *testing.T, path string) string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	defer db.Close()
	var all strings.Builder
	must(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			fmt.Fprintf(&all, "%q\n", name)
			return b.ForEach(func(k, v []byte) error {
				_, err := fmt.Fprintf(&all, "%q %q\n", k, v)
				return err
			})
		})
	}))
	return all.String()
}

// TestReplace restores a backup: what it has is there again, what came later is not, and the audit log is whole.
func TestReplace(t *testing.T) {
	path := tempPath(t)
	s := open(t, path, fast(store.Options{}))
	must(t, s.PutItem(immutable("old"), nil, addr4(1)))
	must(t, s.AddAudit(store.Audit{Time: time.Unix(1, 0), Who: "alice", What: "backup", Outcome: "done"}))
	saved := backup(t, s)
	must(t, s.PutItem(immutable("new"), nil, addr4(1)))
	must(t, s.AddAudit(store.Audit{Time: time.Unix(2, 0), Who: "bob", What: "restart", Outcome: "done"}))

	c, err := store.Verify(saved, 0)
	if err != nil || c.Items != 1 {
		t.Fatalf("Verify = %+v, %v", c, err)
	}
	must(t, s.KeepOwn(saved, store.Audit{Time: time.Unix(3, 0), Who: "carol", What: "restore", Outcome: "done"}, true))
	if _, err := store.Verify(saved, 0); err != nil {
		t.Fatal(err)
	}
	closeChecked(t, s)
	kept, err := store.Replace(path, saved)
	must(t, err)
	if c, err := store.Verify(kept, 0); err != nil || c.Items != 2 {
		t.Errorf("the old file: %+v, %v", c, err)
	}
	s = open(t, path, fast(store.Options{}))
	if _, err := s.Item(immutable("old").Target); err != nil {
		t.Errorf("what the backup had: %v", err)
	}
	_, err = s.Item(immutable("new").Target)
	wantErr(t, err, store.ErrNotFound)
	log, err := s.Audit(10)
	must(t, err)
	if len(log) != 3 || log[0].Who != "carol" || log[1].Who != "bob" || log[2].Who != "alice" {
		t.Errorf("audit log: %+v", log)
	}
}

// TestKeepOwn gives the backup of another node the identity of the one that it is restored on, or leaves it its own.
func TestKeepOwn(t *testing.T) {
	other := open(t, tempPath(t), fast(store.Options{}))
	theirs4, theirs6 := store.Identity{ID: [20]byte{1}}, store.Identity{ID: [20]byte{2}}
	must(t, errors.Join(other.SetIdentity(false, theirs4), other.SetIdentity(true, theirs6)))
	must(t, other.SetSecrets(store.Secrets{Current: [16]byte{3}, Rotated: time.Unix(1_800_000_000, 0)}))
	s := open(t, tempPath(t), fast(store.Options{}))
	ours := store.Identity{ID: [20]byte{9}, External: netip.MustParseAddr("198.51.100.7")}
	must(t, s.SetIdentity(false, ours))
	for _, identity := range []bool{true, false} {
		saved := backup(t, other)
		must(t, s.KeepOwn(saved, store.Audit{Time: time.Unix(1, 0), What: "restore"}, identity))
		if _, err := store.Verify(saved, 0); err != nil {
			t.Fatal(err)
		}
		r := open(t, saved, fast(store.Options{}))
		got, err := r.Identity(false)
		if want := map[bool]store.Identity{true: ours, false: theirs4}[identity]; err != nil || got != want {
			t.Errorf("keep %t: %+v, %v; want %+v", identity, got, err, want)
		}
		_, err6 := r.Identity(true)
		_, errSecrets := r.Secrets()
		if known := err6 == nil && errSecrets == nil; known == identity {
			t.Errorf("keep %t: what is not known of this node: %v, %v", identity, err6, errSecrets)
		}
	}
}

// TestKeepOwnUpdates leaves a restored database the log of updates of the machine that it is restored on, whosever backup it is.
func TestKeepOwnUpdates(t *testing.T) {
	update := func(to string) store.Update {
		return store.Update{Time: time.Unix(1_800_000_000, 0).UTC(), From: "1", To: to, Result: "committed"}
	}
	other, s, fresh := open(t, tempPath(t), fast(store.Options{})), open(t, tempPath(t), fast(store.Options{})), open(t, tempPath(t), fast(store.Options{}))
	must(t, other.AddUpdate(update("theirs")))
	must(t, errors.Join(s.AddUpdate(update("2")), s.AddUpdate(update("3"))))
	for _, identity := range []bool{true, false} {
		for _, c := range []struct {
			on   *store.Store
			want []store.Update
		}{{s, []store.Update{update("2"), update("3")}}, {fresh, nil}} {
			saved := backup(t, other)
			must(t, c.on.KeepOwn(saved, store.Audit{Time: time.Unix(1, 0), What: "restore"}, identity))
			got, err := open(t, saved, fast(store.Options{})).Updates()
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("keep %t: %+v, %v; want %+v", identity, got, err, c.want)
			}
		}
	}
}

// TestVerifyIsBounded looks at no more than it may.
func TestVerifyIsBounded(t *testing.T) {
	s := open(t, tempPath(t), fast(store.Options{}))
	for n := range 20 {
		must(t, s.PutItem(immutable(fmt.Sprint("value ", n)), nil, addr4(n)))
	}
	saved := backup(t, s)
	if c, err := store.Verify(saved, 20); err != nil || c.Items != 20 {
		t.Errorf("20 of at most 20: %+v, %v", c, err)
	}
	_, err := store.Verify(saved, 19)
	wantErr(t, err, store.ErrTooMany)
}

// TestVerifyRefuses makes sure that nothing but a whole store passes.
func TestVerifyRefuses(t *testing.T) {
	s := open(t, tempPath(t), fast(store.Options{}))
	for n := range 300 {
		must(t, s.PutItem(immutable(fmt.Sprint("value ", n)), nil, addr4(n)))
	}
	good := backup(t, s)
	whole, err := os.ReadFile(good)
	must(t, err)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		p := filepath.Join(dir, name)
		must(t, os.WriteFile(p, data, 0o600))
		return p
	}
	flipped := bytes.ReplaceAll(whole, []byte("value 123"), []byte("value 12x")) // in pages that are not used any more, too
	if bytes.Equal(flipped, whole) {
		t.Fatal("the value is not in the file")
	}
	meta := bytes.Clone(whole)
	meta[40]++ // in the first meta page: an older one would be taken
	for name, path := range map[string]string{
		"empty":            file("empty", nil),
		"half":             file("half", whole[:len(whole)/2]),
		"a value changed":  file("flipped", flipped),
		"a meta page torn": file("meta", meta),
		"text":             file("text", bytes.Repeat([]byte("no database\n"), 5000)),
	} {
		if _, err := store.Verify(path, 0); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
	other := filepath.Join(dir, "other")
	db, err := bbolt.Open(other, 0o600, &bbolt.Options{PageSize: 4096})
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("photos")); return err }))
	must(t, db.Close())
	_, err = store.Verify(other, 0)
	wantErr(t, err, store.ErrNotStore)
	if after, err := os.ReadFile(good); err != nil || !bytes.Equal(after, whole) {
		t.Error("the file was changed")
	}
	if _, err := store.Verify(good, 0); err != nil {
		t.Error(err)
	}
}
