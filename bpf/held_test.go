package bpf_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"kdht/bpf"
)

// TestHeldAfterKill starts where a process was killed while it changed what is held: a key without its bit of the
// filter, and part of the maps not pinned any more.
func TestHeldAfterKill(t *testing.T) {
	key := id([]byte(aTarget))
	for name, kill := range map[string]func(maps string){
		"the filter was not written": func(maps string) {
			filter, err := ebpf.LoadPinnedMap(filepath.Join(maps, "held_filter"), nil)
			must(t, err)
			for slot := range filter.MaxEntries() {
				must(t, filter.Put(slot, uint64(0)))
			}
			must(t, filter.Close())
		},
		"the filter is gone": func(maps string) {
			filter, err := ebpf.LoadPinnedMap(filepath.Join(maps, "held_filter"), nil)
			must(t, err)
			must(t, filter.Unpin())
			must(t, filter.Close())
		},
	} {
		dir := pinDir(t)
		program(t, &bpf.Snapshot{})
		first, err := bpf.Load(bpf.Config{PinDir: dir})
		must(t, err)
		ready(t, first, nil, &bpf.Snapshot{})
		must(t, first.Hold(key))
		must(t, first.Close(false))
		kill(filepath.Join(dir, pins(t, dir)[0]))

		second, err := bpf.Load(bpf.Config{PinDir: dir})
		must(t, err)
		must(t, second.Publish(&bpf.Snapshot{}))
		get := queryTo(node4, asker4, []byte(get)).frame(t)
		expect(t, second, "held", name, get)
		must(t, second.Hold(key))
		must(t, second.HoldAll(slices.Values([][20]byte{key})))
		expect(t, second, "held", name+", and it was held again", get)
		must(t, second.Release(key))
		expect(t, second, "answered/get", name+", and it was released", get)
		must(t, second.Close(true))
	}
}
