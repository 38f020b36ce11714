package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"

	"kdht/bpf"
)

// TestForeignLink attaches where something else is pinned in the place of the link.
func TestForeignLink(t *testing.T) {
	node, _ := wire(t)
	dir := pinDir(t)
	program(t, &bpf.Snapshot{})
	veth := index(t, node, "wire")
	path := filepath.Join(dir, fmt.Sprintf("link-%d-native", veth))
	p, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	for what, pin := range map[string]func(){
		"a map": func() {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 3, MaxEntries: 7})
			must(t, err)
			must(t, m.Pin(path))
			must(t, m.Close())
		},
		"a directory": func() { must(t, os.Mkdir(path, 0o700)) },
	} {
		pin()
		got, err := in(node, func() (bpf.Mode, error) { return p.Attach(veth, bpf.ModeNative) })
		if err != nil || got != bpf.ModeNative {
			t.Errorf("Attach where %s is pinned: %v, %v", what, got, err)
		}
		must(t, p.Detach(veth))
	}
	must(t, p.Close(true))
}

// TestRemovePins removes what a process has left, without loading a program.
func TestRemovePins(t *testing.T) {
	node, _ := wire(t)
	dir := pinDir(t)
	must(t, bpf.RemovePins(dir))
	program(t, &bpf.Snapshot{})
	must(t, node.IP("link", "add", "bridge", "type", "bridge"))
	veth, bridge := index(t, node, "wire"), index(t, node, "bridge")
	busy := func(ifindex int) bool {
		b, err := in(node, func() (bool, error) { return isBusy(ifindex) })
		must(t, err)
		return b
	}
	leave := func() {
		t.Helper()
		p, err := bpf.Load(bpf.Config{PinDir: dir})
		must(t, err)
		for ifindex, mode := range map[int]bpf.Mode{veth: bpf.ModeNative, bridge: bpf.ModeGeneric} {
			_, err := in(node, func() (bpf.Mode, error) { return p.Attach(ifindex, mode) })
			must(t, err)
		}
		must(t, p.Close(false))
		if !busy(bridge) {
			t.Error("nothing is left attached")
		}
	}
	leave()
	must(t, bpf.RemovePins(dir))
	if busy(veth) || busy(bridge) {
		t.Error("still attached")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there still is %s: %v", dir, err)
	}

	leave()
	must(t, os.Mkdir(filepath.Join(dir, "theirs"), 0o700))
	must(t, bpf.RemovePins(dir))
	if names := pins(t, dir); len(names) != 1 || names[0] != "theirs" || busy(bridge) {
		t.Errorf("left: %v, attached %v", names, busy(bridge))
	}
}
