package box_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestKernelsTakeTurns puts another boot file system in force and the first one back, as an update with another kernel and a rollback do:
// what its owner has written last is used, and a file that merely came back is not new.
func TestKernelsTakeTurns(t *testing.T) {
	r := newRig(t)
	id := "first"
	r.layout.BootID = func() string { return id }
	folders := map[string]string{"first": r.boot.dir, "second": filepath.Join(t.TempDir(), "second")}
	if err := os.Mkdir(folders["second"], 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what, id string
		write    string // to the file; "-": it is removed
		want     string // host name
		told     bool
	}{
		{"the first file", "first", "attic", "attic", false},
		{"another kernel, without a file", "second", "", "attic", false},
		{"a file there", "second", "cellar", "cellar", false},
		{"rollback", "first", "", "cellar", true},
		{"and another start", "first", "", "cellar", true},
		{"forward again", "second", "", "cellar", false},
		{"rollback, and the file is changed", "first", "barn", "barn", false},
		{"to what it was at first", "first", "attic", "attic", false},
		{"and taken away", "first", "-", "attic", false},
		{"forward to the other's file", "second", "", "attic", true},
		{"taken away there", "second", "-", "attic", false},
		{"and put back", "second", "cellar", "cellar", false},
	} {
		id, r.boot.dir = step.id, folders[step.id]
		switch step.write {
		case "":
		case "-":
			if err := os.Remove(filepath.Join(r.boot.dir, "kdht.hujson")); err != nil {
				t.Fatal(err)
			}
		default:
			r.put("kdht.hujson", `{"hostname": "`+step.write+`"}`)
		}
		b := r.start()
		if got := r.config(b).Hostname; got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
		if step.told {
			wantProblem(t, b, "kdht.hujson", "an earlier one", "What came later is used")
		} else if p := b.Problems(); len(p) != 0 {
			t.Errorf("%s: %q", step.what, p)
		}
	}
}
