package bpf

// AgeSightings makes all that the program remembers of sightings older by about that many seconds.
func (p *Program) AgeSightings(seconds uint32) error {
	const chunk = 4096
	n := p.objs.Seen.MaxEntries()
	keys, values := make([]uint32, chunk), make([]uint32, chunk)
	for start := uint32(0); start < n; start += chunk {
		for i := range keys {
			keys[i] = start + uint32(i)
			if err := p.objs.Seen.Lookup(keys[i], &values[i]); err != nil {
				return err
			}
			values[i] -= min(values[i], seconds*100/107) // units of 2^30 ns
		}
		if _, err := p.objs.Seen.BatchUpdate(keys, values, nil); err != nil {
			return err
		}
	}
	return nil
}
