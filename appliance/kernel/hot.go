package kernel

import (
	"kdht/appliance/status"
	"kdht/bpf"
)

// hotBytes is what the program is to be told of a memory for hot keys, of which 0 is none.
func hotBytes(configured int64) int64 {
	if configured <= 0 {
		return -1
	}
	return configured
}

// hotReport puts how full the hot map is into the report.
func hotReport(b bpf.Hot) status.Hot {
	return status.Hot{Keys: b.Keys, Small: b.Small, SmallRoom: b.Room, Large: b.Large, LargeRoom: b.LargeRoom, Bytes: b.Bytes}
}
