package appliance

import (
	"os"
	"runtime/debug"
)

// collectAt is GOGC: a collection when the heap has grown by so many percent. The live heap is small and the process
// shares little boxes with others, so memory is worth more than the little work.
const collectAt = 50

// tuneMemory makes the garbage collector sparing, unless the environment says otherwise.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}
