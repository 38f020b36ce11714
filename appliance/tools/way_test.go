package tools_test

import (
	"encoding/xml"
	"regexp"
	"strings"
	"testing"

	"kdht/appliance/tools"
)

// The way leads from our own table to the goal over those who named each other.
func TestWay(t *testing.T) {
	type row = struct {
		Addr, Referrer string
		Hops, Bits     int
		Good           bool
	}
	curves := func(svg, class string) int {
		t.Helper()
		if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		m := regexp.MustCompile(`class="` + class + `" d="([^"]*)"`).FindStringSubmatch(svg)
		if m == nil {
			t.Fatalf("no %s in %s", class, svg)
		}
		return strings.Count(m[1], "M")
	}
	svg := tools.Way("c", row{"a", "", 0, 1, true}, row{"x", "", 0, 2, false}, row{"x", "", 0, 2, false}, row{"b", "a", 1, 5, true}, row{"c", "b", 2, 9, true}, row{"d", "b", 2, 8, true})
	for class, want := range map[string]int{"path": 3, "edge": 5, "node": 4, "silent": 1} {
		if n := curves(svg, class); n != want {
			t.Errorf("%d of %s, want %d: %s", n, class, want, svg)
		}
	}
	// Whoever names himself, or is named by nobody we know, leads nobody astray.
	svg = tools.Way("a", row{"a", "a", 3, 1, true}, row{"b", "gone", 7, 1, true})
	if n := curves(svg, "path"); n < 1 || n > 9 || curves(svg, "edge") != 2 {
		t.Errorf("%s", svg)
	}
	if svg := tools.Way("a"); svg != "" {
		t.Errorf("a way among nobody: %s", svg)
	}
}
