package change_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/admin/change"
)

var now = time.Unix(1_800_000_000, 0).UTC()

type place struct {
	t         *testing.T
	dir, file string
}

func newPlace(t *testing.T, text string) place {
	dir := t.TempDir()
	p := place{t, filepath.Join(dir, "config"), filepath.Join(dir, "kdht.hujson")}
	if text != "" {
		if err := os.WriteFile(p.file, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p place) open() *change.History { return change.Open(p.dir, p.file) }

func (p place) want(text string) {
	p.t.Helper()
	b, err := os.ReadFile(p.file)
	if text == "" {
		if !errors.Is(err, os.ErrNotExist) {
			p.t.Errorf("the file has %q, %v; want none", b, err)
		}
		return
	}
	if err != nil || string(b) != text {
		p.t.Errorf("the file has %q, %v; want %q", b, err, text)
	}
}

func begin(t *testing.T, h *change.History, text string) change.Version {
	t.Helper()
	v, err := h.Begin([]byte(text), "", "alice", time.Minute, change.Before{Tailnet: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func start(t *testing.T, p place) (*change.History, string) {
	t.Helper()
	h := p.open()
	said, err := h.Start()
	if err != nil {
		t.Fatal(err)
	}
	return h, said
}

// TestSymbolicLink changes a file that the path of the configuration only leads to.
func TestSymbolicLink(t *testing.T) {
	p := newPlace(t, "")
	real := filepath.Join(t.TempDir(), "real.hujson")
	if err := os.WriteFile(real, []byte("{one}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, p.file); err != nil {
		t.Fatal(err)
	}
	h := p.open()
	begin(t, h, "{two}")
	if b, err := os.ReadFile(real); err != nil || string(b) != "{two}" {
		t.Errorf("the file has %q, %v", b, err)
	}
	if _, err := h.Back("a test"); err != nil {
		t.Fatal(err)
	}
	p.want("{one}")
	if to, err := os.Readlink(p.file); err != nil || to != real {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// TestKept follows a change that proves well, over a restart.
func TestKept(t *testing.T) {
	p := newPlace(t, "{one}")
	h := p.open()
	v := begin(t, h, "{two}")
	p.want("{two}")
	if fi, err := os.Stat(p.file); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if _, err := h.Begin([]byte("{three}"), "", "bob", 0, change.Before{}, now); !errors.Is(err, change.ErrTrial) {
		t.Errorf("a second change: %v", err)
	}
	h, said := start(t, p)
	if tr := h.Trial(); said != "" || tr == nil || tr.Version != v.ID || !tr.Before.Tailnet || tr.Starts != 1 {
		t.Fatalf("%q, %+v", said, tr)
	}
	if err := h.Keep(); err != nil {
		t.Fatal(err)
	}
	h, said = start(t, p)
	if said != "" || h.Trial() != nil {
		t.Errorf("%q, %+v", said, h.Trial())
	}
	p.want("{two}")
	all := h.Versions()
	if len(all) != 2 || all[0].Outcome != "in force" || all[0].By != "alice" || all[1].Outcome != "" {
		t.Errorf("%+v", all)
	}
	if b, err := h.Version(all[1].ID); err != nil || string(b) != "{one}" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := h.Version(99); !errors.Is(err, change.ErrVersion) {
		t.Error(err)
	}
}

// TestTakenBack has a change taken back in each way there is, with a file before and without.
func TestTakenBack(t *testing.T) {
	for _, before := range []string{"{one}", ""} {
		for name, take := range map[string]func(t *testing.T, p place) string{
			"asked for": func(t *testing.T, p place) string {
				h, _ := start(t, p)
				said, err := h.Back("the node was not ready")
				if err != nil {
					t.Fatal(err)
				}
				return said
			},
			"started too often": func(t *testing.T, p place) (said string) {
				for range 3 {
					_, said = start(t, p)
				}
				return said
			},
		} {
			t.Run(fmt.Sprintf("%s, before %q", name, before), func(t *testing.T) {
				p := newPlace(t, before)
				v := begin(t, p.open(), "{two}")
				if said := take(t, p); !strings.Contains(said, "was taken back") {
					t.Errorf("said %q", said)
				}
				p.want(before)
				h, said := start(t, p)
				if said != "" || h.Trial() != nil {
					t.Errorf("afterwards: %q, %+v", said, h.Trial())
				}
				if all := h.Versions(); all[0].ID != v.ID || !strings.HasPrefix(all[0].Outcome, "taken back: ") {
					t.Errorf("%+v", all)
				}
				begin(t, h, "{three}")
				p.want("{three}")
			})
		}
	}
}

// TestWantedRestarts has a program started as often as somebody likes who asks for it, while a change is on trial; that is no reason to take it back, and
// no reason to bear with one more start that nobody has asked for.
func TestWantedRestarts(t *testing.T) {
	p := newPlace(t, "{one}")
	h := p.open()
	wanted := func() {
		t.Helper()
		for range 2 { // once is enough
			if err := h.Wanted(); err != nil {
				t.Fatal(err)
			}
		}
	}
	wanted() // of a program without a trial
	begin(t, h, "{two}")
	wanted() // the restart that the change takes
	for n := range 5 {
		var said string
		if h, said = start(t, p); said != "" || h.Trial() == nil || h.Trial().Starts != 1 {
			t.Fatalf("start %d: %q, %+v", n+1, said, h.Trial())
		}
		wanted()
	}
	for n := range 2 {
		if h, _ = start(t, p); h.Trial() == nil || h.Trial().Starts != n+1 {
			t.Fatalf("start %d that nobody ends: %+v", n+1, h.Trial())
		}
	}
	wanted() // of the second
	if h, _ = start(t, p); h.Trial() == nil || h.Trial().Starts != 2 {
		t.Fatalf("after one that failed and one that was ended: %+v", h.Trial())
	}
	if _, said := start(t, p); !strings.Contains(said, "was started 2 times") {
		t.Errorf("said %q", said)
	}
	p.want("{one}")

	// Who restarts it again and again does not keep it on trial for ever.
	h, _ = start(t, p)
	begin(t, h, "{endless}")
	var said string
	restarts := 0
	for ; said == "" && restarts < 100; restarts++ {
		wanted()
		h, said = start(t, p)
	}
	if restarts < 10 || restarts > 15 || !strings.Contains(said, "was started 2 times") {
		t.Errorf("after %d restarts: %q", restarts, said)
	}
	p.want("{one}")

	// What counts for one trial does not for the next.
	h, _ = start(t, p)
	begin(t, h, "{three}")
	h, _ = start(t, p)
	if err := h.Keep(); err != nil {
		t.Fatal(err)
	}
	begin(t, h, "{four}")
	wanted()
	if h.Trial().Starts != 0 {
		t.Errorf("%+v", h.Trial())
	}
}

// TestChangedMeanwhile has the owner change the file while a change is on trial: that stands.
func TestChangedMeanwhile(t *testing.T) {
	p := newPlace(t, "{one}")
	begin(t, p.open(), "{two}")
	if err := os.WriteFile(p.file, []byte("{mine}"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, said := start(t, p)
	if said == "" || h.Trial() != nil {
		t.Errorf("%q, %+v", said, h.Trial())
	}
	p.want("{mine}")
}

// TestIfMatch makes sure that nobody overwrites what he has not seen.
func TestIfMatch(t *testing.T) {
	p := newPlace(t, "{one}")
	h := p.open()
	if _, err := h.Begin([]byte("{two}"), change.Sum([]byte("{zero}")), "bob", 0, change.Before{}, now); !errors.Is(err, change.ErrChanged) {
		t.Errorf("%v", err)
	}
	p.want("{one}")
	if _, err := h.Begin([]byte("{two}"), change.Sum([]byte("{one}")), "bob", 0, change.Before{}, now); err != nil {
		t.Error(err)
	}
}

// TestVersionsAreBounded makes many changes.
func TestVersionsAreBounded(t *testing.T) {
	p := newPlace(t, "{0}")
	for n := range 2 * change.MaxVersions {
		h, _ := start(t, p)
		begin(t, h, fmt.Sprintf("{%d}", n+1))
		if err := h.Keep(); err != nil {
			t.Fatal(err)
		}
	}
	all := p.open().Versions()
	files, err := filepath.Glob(filepath.Join(p.dir, "*.hujson"))
	if err != nil || len(all) != change.MaxVersions || len(files) != change.MaxVersions {
		t.Errorf("%d versions, %d files, %v", len(all), len(files), err)
	}
}

// TestDamagedRecords makes sure that a damaged history is reported, changes nothing, and is in nobody's way.
func TestDamagedRecords(t *testing.T) {
	p := newPlace(t, "{one}")
	begin(t, p.open(), "{two}")
	for _, name := range []string{"trial.json", "versions.json"} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := p.open()
	if _, err := h.Start(); err == nil {
		t.Error("no error")
	}
	p.want("{two}")
	begin(t, h, "{three}")
	p.want("{three}")
}
