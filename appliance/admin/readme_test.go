package admin_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tailscale/hujson"
	"tailscale.com/tailcfg"

	"kdht/appliance/admin"
)

// TestGrantsOfREADME makes sure that the example of a policy grants roles that there are, of this program, and each of them.
func TestGrantsOfREADME(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "```\n\"grants\": [")
	text, _, ended := strings.Cut(text, "```")
	if !ok || !ended {
		t.Fatal("README.md has no example of grants")
	}
	text = `{"grants": [` + text + `}`
	std, err := hujson.Standardize([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Grants []struct {
			Src, Dst, IP []string
			App          map[tailcfg.PeerCapability][]struct{ Roles []string }
		}
	}
	if err := json.Unmarshal(std, &policy); err != nil {
		t.Fatal(err)
	}
	known, given := (admin.Viewer | admin.Operator | admin.Updater).Names(), []string(nil)
	for _, g := range policy.Grants {
		if len(g.Src) == 0 || len(g.Dst) == 0 || len(g.IP) == 0 || len(g.App) != 1 || len(g.App[admin.Capability]) == 0 {
			t.Errorf("%+v grants nothing here", g)
		}
		for _, v := range g.App[admin.Capability] {
			given = append(given, v.Roles...)
		}
	}
	for _, role := range slices.Concat(known, given) {
		if !slices.Contains(known, role) || !slices.Contains(given, role) {
			t.Errorf("the role %s: there are %v, the example gives %v", role, known, given)
		}
	}
}
