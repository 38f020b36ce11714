package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
)

// AgeSightings makes all that the program remembers of sightings older by about that many seconds.
func (p *Program) AgeSightings(seconds uint32) error {
	n := int(p.objs.Seen.MaxEntries())
	keys, values := make([]uint32, n), make([]uint32, n)
	var cursor ebpf.MapBatchCursor
	if _, err := p.objs.Seen.BatchLookup(&cursor, keys, values, nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	for i, v := range values {
		values[i] -= min(v, uint32(uint64(seconds)*1e9>>30))
	}
	_, err := p.objs.Seen.BatchUpdate(keys, values, nil)
	return err
}
