package bpf_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"kdht/bpf"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// pinDir returns a directory to pin in, on a BPF file system of the test's own.
func pinDir(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	must(t, unix.Mount("bpf", dir, "bpf", 0, "mode=0700"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return filepath.Join(dir, "kdht")
}

// index returns the index of an interface in a namespace.
func index(t testing.TB, ns *netns.NS, name string) (n int) {
	t.Helper()
	must(t, ns.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			n = i.Index
		}
		return err
	}))
	return n
}

// in runs f in a namespace.
func in[T any](ns *netns.NS, f func() (T, error)) (v T, err error) {
	err = ns.Do(func() error {
		v, err = f()
		return err
	})
	return v, err
}

// wire makes two namespaces joined by a veth pair.
func wire(t testing.TB) (node, asker *netns.NS) {
	t.Helper()
	testenv.NeedXDP(t)
	node, asker = netns.New(t, "node"), netns.New(t, "asker")
	netns.Veth(t,
		netns.End{NS: node, Name: "wire", MAC: nodeMAC.String()},
		netns.End{NS: asker, Name: "wire", MAC: askerMAC.String(), Pass: true, Sum: true})
	return node, asker
}

func TestAttach(t *testing.T) {
	node, _ := wire(t)
	other := program(t, &bpf.Snapshot{})
	must(t, node.IP("link", "add", "bridge", "type", "bridge"))
	veth, bridge := index(t, node, "wire"), index(t, node, "bridge")
	p := private(t, bpf.Config{})
	attach := func(p *bpf.Program, ifindex int, mode bpf.Mode) (bpf.Mode, error) {
		return in(node, func() (bpf.Mode, error) { return p.Attach(ifindex, mode) })
	}
	if _, err := attach(p, 12345, bpf.ModeAuto); !errors.Is(err, bpf.ErrNoInterface) {
		t.Errorf("no such interface: %v", err)
	}
	if _, err := attach(p, bridge, bpf.ModeNative); !errors.Is(err, bpf.ErrNotSupported) {
		t.Errorf("native mode on a driver without XDP: %v", err)
	}
	for _, c := range []struct {
		ifindex   int
		mode, got bpf.Mode
	}{
		{veth, bpf.ModeAuto, bpf.ModeNative}, {veth, bpf.ModeNative, bpf.ModeNative},
		{veth, bpf.ModeGeneric, bpf.ModeGeneric}, {veth, bpf.ModeAuto, bpf.ModeGeneric}, // stays
		{bridge, bpf.ModeAuto, bpf.ModeGeneric}, {bridge, bpf.ModeGeneric, bpf.ModeGeneric},
	} {
		if got, err := attach(p, c.ifindex, c.mode); err != nil || got != c.got {
			t.Errorf("Attach(%d, %v) = %v, %v", c.ifindex, c.mode, got, err)
		}
	}
	for _, a := range p.Attachments() {
		if fell := errors.Is(a.Fallback, bpf.ErrNotSupported); fell != (a.Ifindex == bridge) {
			t.Errorf("interface %d: reason for generic mode: %v", a.Ifindex, a.Fallback)
		}
	}
	for _, mode := range []bpf.Mode{bpf.ModeAuto, bpf.ModeNative, bpf.ModeGeneric} {
		if _, err := attach(other, veth, mode); !errors.Is(err, bpf.ErrBusy) {
			t.Errorf("another program is attached, mode %v: %v", mode, err)
		}
	}
	must(t, p.Detach(veth))
	must(t, p.Detach(veth))
	if got, err := attach(other, veth, bpf.ModeNative); err != nil || got != bpf.ModeNative {
		t.Errorf("after Detach: %v, %v", got, err)
	}
	must(t, other.Detach(veth))
	if all := p.Attachments(); len(all) != 1 || all[0].Ifindex != bridge {
		t.Errorf("attached to %v", all)
	}

	// The interface goes, and another comes with its number.
	must(t, node.IP("link", "del", "bridge"))
	if all := p.Attachments(); len(all) != 0 {
		t.Errorf("attached to %v after the interface went", all)
	}
	must(t, node.IP("link", "add", "again", "index", fmt.Sprint(bridge), "type", "bridge"))
	if got, err := attach(p, bridge, bpf.ModeAuto); err != nil || got != bpf.ModeGeneric {
		t.Errorf("an interface with a number used before: %v, %v", got, err)
	}
}

func pins(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestHandOver passes everything from one process to the next, and finally cleans up.
func TestHandOver(t *testing.T) {
	node, _ := wire(t)
	dir := pinDir(t)
	program(t, &bpf.Snapshot{})
	veth := index(t, node, "wire")
	attach := func(p *bpf.Program, mode bpf.Mode) bpf.Mode {
		got, err := in(node, func() (bpf.Mode, error) { return p.Attach(veth, mode) })
		must(t, err)
		return got
	}

	first, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	ready(t, first, nil, &bpf.Snapshot{ID4: id([]byte(anID))})
	must(t, first.Hold(id([]byte(aTarget))))
	attach(first, bpf.ModeNative)
	frame := queryTo(node4, asker4, []byte(ping)).frame(t)
	_, reply := run(t, first, frame)
	linkID := func() (ids [2]link.ID) { // of the XDP program, and of that behind it
		for i, name := range []string{"link-%d-native", "launch-%d"} {
			l, err := link.LoadPinnedLink(filepath.Join(dir, fmt.Sprintf(name, veth)), nil)
			must(t, err)
			defer l.Close() //nolint:errcheck // a descriptor
			info, err := l.Info()
			must(t, err)
			ids[i] = info.ID
		}
		return ids
	}
	before := linkID()
	must(t, first.Close(false))

	second, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	if got := counts(t, second)["answered/ping"]; got != 1 {
		t.Errorf("the next process counts %d pings", got)
	}
	if verdict, out := run(t, second, frame); verdict != xdpTX || string(out) != string(reply) {
		t.Errorf("the next process does not answer as the one before: %d, %q", verdict, out)
	}
	expect(t, second, "held", "a key held before", queryTo(node4, asker4, []byte(get)).frame(t))
	must(t, second.Release(id([]byte(aTarget))))
	expect(t, second, "answered/get", "a key held before and released", queryTo(node4, asker4, []byte(get)).frame(t))
	attach(second, bpf.ModeAuto)
	if after := linkID(); after != before {
		t.Errorf("links were replaced: %d, then %d", before, after)
	}
	must(t, second.Close(false))

	// Another mode makes another link; the number of an interface that is gone can come back.
	third, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	if got := attach(third, bpf.ModeGeneric); got != bpf.ModeGeneric {
		t.Errorf("attached in %v mode", got)
	}
	if names := pins(t, dir); !slices.Contains(names, fmt.Sprintf("link-%d-generic", veth)) || !slices.Contains(names, fmt.Sprintf("launch-%d", veth)) || len(names) != 3 {
		t.Errorf("pinned: %v", names)
	}
	must(t, third.Close(false))
	must(t, node.IP("link", "del", "wire"))
	must(t, node.IP("link", "add", "again", "index", fmt.Sprint(veth), "type", "bridge"))
	fourth, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	attach(fourth, bpf.ModeAuto)
	if all := fourth.Attachments(); len(all) != 1 || all[0].Mode != bpf.ModeGeneric || all[0].OnePath != nil {
		t.Errorf("attached to %v", all)
	}
	must(t, fourth.Close(true))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close(true) there still is %s: %v", dir, err)
	}
	if busy, err := in(node, func() (bool, error) { return isBusy(veth) }); busy || err != nil {
		t.Errorf("after Close(true) the interface is busy: %v, %v", busy, err)
	}
}

// isBusy tells whether an XDP program is attached to an interface.
func isBusy(ifindex int) (bool, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		return false, err
	}
	defer prog.Close() //nolint:errcheck // a descriptor
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: link.XDPGenericMode})
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, l.Close()
}

// TestForeignPins starts where something else is pinned.
func TestForeignPins(t *testing.T) {
	dir := pinDir(t)
	program(t, &bpf.Snapshot{})
	p, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	must(t, p.Close(false))
	var ours string
	for _, name := range pins(t, dir) {
		ours = filepath.Join(dir, name)
	}
	must(t, os.Remove(filepath.Join(ours, "live")))
	old := filepath.Join(dir, "maps-0123456789abcdef")
	must(t, os.Mkdir(old, 0o700))
	for _, path := range []string{filepath.Join(ours, "live"), filepath.Join(old, "live")} {
		foreign, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 3, MaxEntries: 7})
		must(t, err)
		must(t, foreign.Pin(path))
		must(t, foreign.Close())
	}
	q, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	ready(t, q, nil, &bpf.Snapshot{})
	expect(t, q, "answered/ping", "after foreign pins", queryTo(node4, asker4, []byte(ping)).frame(t))
	if names := pins(t, dir); len(names) != 1 {
		t.Errorf("pinned: %v", names)
	}
	must(t, q.Close(false))

	if q, err = bpf.Load(bpf.Config{PinDir: dir, MaxHeld: 77}); err != nil { // maps of another size
		t.Fatal(err)
	}
	must(t, q.Close(true))
	if _, err := bpf.Load(bpf.Config{PinDir: filepath.Join(t.TempDir(), "kdht")}); err == nil {
		t.Error("pinned in an ordinary directory")
	}
}
