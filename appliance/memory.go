package appliance

import (
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
)

// collectAt is GOGC: a collection when the heap has grown by so many percent. The live heap is small and the process
// shares little boxes with others, so memory is worth more than the little work.
const collectAt = 25

// tuneMemory makes the garbage collector sparing, unless the environment says otherwise.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}

// returnMemory gives back to the system what only the start needed: the object of the XDP program, its types and its
// relocations take several times what the program does afterwards.
func returnMemory() { debug.FreeOSMemory() }

var memoryLine = regexp.MustCompile(`(?m)^(MemTotal|MemAvailable): *([0-9]+) kB$`)

// hostMemory is the machine's memory and what is available of it, in bytes; 0 where the kernel does not say.
func hostMemory() (total, available int64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for _, m := range memoryLine.FindAllSubmatch(b, -1) {
		kib, err := strconv.ParseInt(string(m[2]), 10, 64)
		if err != nil {
			continue
		}
		if string(m[1]) == "MemTotal" {
			total = kib << 10
		} else {
			available = kib << 10
		}
	}
	return total, available
}
