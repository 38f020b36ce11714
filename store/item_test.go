package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/store"
)

func TestItemRoundTrip(t *testing.T) {
	c, path := newClock(), tempPath(t)
	o := store.Options{Now: c.Now}
	s := open(t, path, o)
	items := []*store.Item{
		immutable("Hello World!"),
		immutable(""),
		mutable(1, "", 0, "no salt"),
		mutable(1, "foobar", 1<<62, "salt"),
		mutable(2, string(make([]byte, 64)), 7, string(make([]byte, 995))),
	}
	for _, it := range items {
		must(t, s.PutItem(it, nil, addr4(1)))
		it.Updated, it.Expires = c.Now(), c.Now().Add(2*time.Hour)
	}
	check := func() {
		t.Helper()
		for _, it := range items {
			got, err := s.Item(it.Target)
			must(t, err)
			if d := cmp.Diff(it, got); d != "" {
				t.Errorf("item differs (-want +got):\n%s", d)
			}
			if !s.Holds(it.Target) {
				t.Errorf("%x not held", it.Target)
			}
		}
	}
	check()
	s = reopen(t, s, path, o)
	check()
	_, err := s.Item(key(1))
	wantErr(t, err, store.ErrNotFound)
}

func TestItemIsTheCallers(t *testing.T) {
	s := open(t, tempPath(t), store.Options{})
	it := mutable(1, "salt", 1, "value")
	must(t, s.PutItem(it, nil, addr4(1)))
	got, err := s.Item(it.Target)
	must(t, err)
	clear(got.V)
	clear(got.Salt)
	it.V[0]++ // nor does the store keep the caller's slices
	got, err = s.Item(it.Target)
	must(t, err)
	if string(got.V) != "5:value" || string(got.Salt) != "salt" {
		t.Errorf("stored item changed: %q %q", got.V, got.Salt)
	}
}

func TestMutableRules(t *testing.T) {
	cas := func(n int64) *int64 { return &n }
	for _, tt := range []struct {
		name string
		seq  int64
		v    string
		cas  *int64
		want error
	}{
		{"higher seq", 6, "new", nil, nil},
		{"higher seq, cas", 6, "new", cas(5), nil},
		{"higher seq, same value", 6, "old", nil, nil},
		{"higher seq, wrong cas", 6, "new", cas(4), store.ErrCASMismatch},
		{"higher seq, cas is the new seq", 6, "new", cas(6), store.ErrCASMismatch},
		{"same seq and value", 5, "old", nil, nil},
		{"same seq and value, cas", 5, "old", cas(5), nil},
		{"same seq and value, wrong cas", 5, "old", cas(4), store.ErrCASMismatch},
		{"same seq, other value", 5, "new", nil, store.ErrSeqSameOtherValue},
		{"same seq, other value, cas", 5, "new", cas(5), store.ErrSeqSameOtherValue},
		{"lower seq", 4, "new", nil, store.ErrSeqOld},
		{"lower seq, same value", 4, "old", nil, store.ErrSeqOld},
		{"lower seq, wrong cas", 4, "new", cas(4), store.ErrCASMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tempPath(t), store.Options{})
			must(t, s.PutItem(mutable(1, "x", 5, "old"), nil, addr4(1)))
			it := mutable(1, "x", tt.seq, tt.v)
			err := s.PutItem(it, tt.cas, addr4(2))
			want := it
			if tt.want != nil {
				wantErr(t, err, tt.want)
				want = mutable(1, "x", 5, "old")
			} else {
				must(t, err)
			}
			got, err := s.Item(it.Target)
			must(t, err)
			if got.Seq != want.Seq || string(got.V) != string(want.V) || got.Sig != want.Sig {
				t.Errorf("stored: seq %d %q, want seq %d %q", got.Seq, got.V, want.Seq, want.V)
			}
		})
	}
}

func TestCASIsIgnoredWhenNothingIsStored(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), store.Options{Now: c.Now})
	n := int64(99)
	must(t, s.PutItem(mutable(1, "", 5, "a"), &n, addr4(1)))
	c.Advance(2 * time.Hour)
	// Expired, though not swept, is nothing stored: even a lower seq.
	must(t, s.PutItem(mutable(1, "", 2, "b"), &n, addr4(1)))
	it := immutable("v")
	must(t, s.PutItem(it, nil, addr4(1)))
	must(t, s.PutItem(it, &n, addr4(1)))
}

func TestInvalidItems(t *testing.T) {
	s := open(t, tempPath(t), store.Options{})
	long := mutable(1, "", 1, "x")
	long.Salt = make([]byte, 65)
	huge := immutable("x")
	huge.V = make([]byte, 5000)
	kind := immutable("x")
	must(t, s.PutItem(kind, nil, addr4(1)))
	other := *kind
	other.V = []byte("1:y")
	asMutable := mutable(1, "", 1, "x")
	asMutable.Target = kind.Target
	for name, it := range map[string]*store.Item{
		"empty":             {Target: key(1)},
		"huge":              huge,
		"long salt":         long,
		"negative seq":      mutable(1, "", -1, "x"),
		"other immutable":   &other,
		"of the other kind": asMutable,
	} {
		t.Run(name, func(t *testing.T) {
			wantErr(t, s.PutItem(it, nil, addr4(1)), store.ErrInvalid)
		})
	}
	if n := s.Stats().Items; n != 1 {
		t.Errorf("%d items stored", n)
	}
}

func TestOwnItems(t *testing.T) {
	c, path := newClock(), tempPath(t)
	o := store.Options{Now: c.Now, MaxItems: 1, MaxBytes: 300, MaxBytesPerSource: 300}
	s := open(t, path, o)
	must(t, s.PutItem(immutable("foreign"), nil, addr4(1)))
	first := mutable(1, "", 1, "first")
	first.Own = true
	must(t, s.PutItem(first, nil, netip.Addr{})) // no quota holds
	c.Advance(time.Minute)
	second := immutable("second")
	second.Own = true
	must(t, s.PutItem(second, nil, netip.Addr{}))

	c.Advance(100 * time.Hour)
	_, err := s.Expire(c.Now())
	must(t, err)
	s = reopen(t, s, path, o)
	own, err := s.OwnItems()
	must(t, err)
	if len(own) != 2 || own[0].Target != first.Target || own[1].Target != second.Target {
		t.Fatalf("own items: %v", own)
	}
	if !own[0].Own || !own[0].Expires.IsZero() || !own[0].Updated.Equal(c.Now().Add(-100*time.Hour-time.Minute)) {
		t.Errorf("own item: %+v", own[0])
	}
	// Put by somebody else with the same key, it is newer and still ours.
	must(t, s.PutItem(mutable(1, "", 2, "from my other device"), nil, addr4(9)))
	own, err = s.OwnItems()
	must(t, err)
	if len(own) != 2 || own[1].Target != first.Target || own[1].Seq != 2 {
		t.Fatalf("own items after a foreign put: %+v", own)
	}

	must(t, s.Disown(first.Target))
	wantErr(t, s.Disown(first.Target), store.ErrNotFound)
	wantErr(t, s.Disown(key(1)), store.ErrNotFound)
	got, err := s.Item(first.Target)
	must(t, err)
	if got.Own || !got.Expires.Equal(c.Now().Add(2*time.Hour)) {
		t.Errorf("disowned item: %+v", got)
	}
	c.Advance(2 * time.Hour)
	_, err = s.Item(first.Target)
	wantErr(t, err, store.ErrNotFound)
	if !s.Holds(second.Target) {
		t.Error("own item not held")
	}
}

func TestForeignItemBecomesOwn(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), store.Options{Now: c.Now})
	it := immutable("x")
	must(t, s.PutItem(it, nil, addr4(1)))
	if st := s.Stats(); st.Sources != 1 {
		t.Fatalf("stats %+v", st)
	}
	it.Own = true
	must(t, s.PutItem(it, nil, netip.Addr{}))
	if st := s.Stats(); st.Sources != 0 || st.OwnItems != 1 || st.Items != 1 {
		t.Fatalf("stats %+v", st)
	}
	c.Advance(3 * time.Hour)
	if n, err := s.Expire(c.Now()); n != 0 || err != nil {
		t.Errorf("expired %d, %v", n, err)
	}
}
