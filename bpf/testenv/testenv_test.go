package testenv_test

import (
	"fmt"
	"strings"
	"testing"

	"kdht/bpf/testenv"
)

// outcome records what a need did to its test.
type outcome struct{ skipped, failed string }

func (o *outcome) Helper()                      {}
func (o *outcome) Skipf(f string, args ...any)  { o.skipped = fmt.Sprintf(f, args...) }
func (o *outcome) Fatalf(f string, args ...any) { o.failed = fmt.Sprintf(f, args...) }

func TestMissing(t *testing.T) {
	t.Setenv("KDHT_REQUIRE", "")
	var o outcome
	testenv.NeedTool(&o, "no-such-program")
	if !strings.Contains(o.skipped, "no-such-program") || o.failed != "" {
		t.Errorf("without KDHT_REQUIRE: %+v, want a skip that names the program", o)
	}
	t.Setenv("KDHT_REQUIRE", "1")
	o = outcome{}
	testenv.NeedTool(&o, "no-such-program")
	if !strings.Contains(o.failed, "no-such-program") || o.skipped != "" {
		t.Errorf("with KDHT_REQUIRE=1: %+v, want a failure that names the program", o)
	}
}

func TestPresent(t *testing.T) {
	t.Setenv("KDHT_REQUIRE", "1")
	var o outcome
	if path := testenv.NeedTool(&o, "sh"); !strings.HasSuffix(path, "/sh") || o != (outcome{}) {
		t.Errorf("NeedTool(sh) = %q, %+v", path, o)
	}
}
