package admin

import (
	"os"
	"path/filepath"
	"testing"
)

// A box is at home where nobody has logged it in since it was there last, where its owner has, and where the configuration sends it.
func TestPin(t *testing.T) {
	home := pin{ControlURL: "https://control.example", Tailnet: "alice.example", Owner: "user 1", NodeKey: "nodekey:1"}
	for name, c := range map[string]struct {
		change func(*pin)
		byKey  bool
		want   bool
		tags   []string // that the configuration asks for
	}{
		"nothing new":                       {func(*pin) {}, false, true, nil},
		"the owner has logged in":           {func(p *pin) { p.NodeKey = "nodekey:2" }, false, true, nil},
		"the tailnet is called otherwise":   {func(p *pin) { p.Tailnet = "alice.ts.net" }, false, true, nil},
		"an administrator has tagged it":    {func(p *pin) { p.Owner = "tag:kdht" }, false, true, nil},
		"somebody of another tailnet":       {func(p *pin) { p.Tailnet, p.NodeKey = "mallory.example", "nodekey:2" }, false, false, nil},
		"somebody else of the same tailnet": {func(p *pin) { p.Owner, p.NodeKey = "user 2", "nodekey:2" }, false, false, nil},
		"an auth key of another tailnet":    {func(p *pin) { p.Tailnet, p.Owner, p.NodeKey = "bob.example", "tag:kdht", "nodekey:2" }, true, true, nil},
		"another control server":            {func(p *pin) { p.ControlURL, p.NodeKey = "https://headscale.example", "nodekey:2" }, false, true, nil},
		"with the tags that are wanted now": {func(p *pin) { p.Owner, p.NodeKey = "tag:attic tag:kdht", "nodekey:2" }, false, true, []string{"tag:kdht", "tag:attic", "tag:kdht"}},
		"with tags that are not wanted":     {func(p *pin) { p.Owner, p.NodeKey = "tag:attic", "nodekey:2" }, false, false, []string{"tag:kdht"}},
		"with some of those wanted":         {func(p *pin) { p.Owner, p.NodeKey = "tag:kdht", "nodekey:2" }, false, false, []string{"tag:attic", "tag:kdht"}},
		"with one tag more":                 {func(p *pin) { p.Owner, p.NodeKey = "tag:attic tag:kdht", "nodekey:2" }, false, false, []string{"tag:kdht"}},
		"the tags in another tailnet": {func(p *pin) { p.Tailnet, p.Owner, p.NodeKey = "mallory.example", "tag:kdht", "nodekey:2" }, false, false,
			[]string{"tag:kdht"}},
		"nobody, where none are wanted": {func(p *pin) { p.Owner, p.NodeKey = "", "nodekey:2" }, false, false, nil},
	} {
		dir := t.TempDir()
		if ok, _, err := home.check(dir, false, nil); err != nil || !ok {
			t.Fatalf("the first time: %v, %v", ok, err)
		}
		now := home
		c.change(&now)
		ok, was, err := now.check(dir, c.byKey, c.tags)
		if err != nil || ok != c.want || !ok && was != home {
			t.Errorf("%s: %v, was %+v, %v", name, ok, was, err)
		}
		want := now
		if !ok {
			want = home
		}
		if kept, _, err := readPin(dir); err != nil || kept != want {
			t.Errorf("%s: kept is %+v, %v", name, kept, err)
		}
	}
}

// What an earlier version has noted has neither owner nor key.
func TestPinOfAnEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, pinFile), []byte(`{"controlURL":"","tailnet":"alice.example"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := (pin{Tailnet: "mallory.example", Owner: "user 2", NodeKey: "nodekey:2"}).check(dir, false, nil); err != nil || ok {
		t.Errorf("another tailnet: %v, %v", ok, err)
	}
	if ok, _, err := (pin{Tailnet: "alice.example", Owner: "user 1", NodeKey: "nodekey:1"}).check(dir, false, nil); err != nil || !ok {
		t.Errorf("its own: %v, %v", ok, err)
	}
}
