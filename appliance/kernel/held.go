package kernel

import (
	"context"
	"math/bits"
	"time"

	"kdht/appliance/status"
	"kdht/bpf"
)

// Bounds of the pause before keys that the program could not take in are tried again. It doubles while that is in vain.
const (
	holdPauseMin = time.Second
	holdPauseMax = time.Minute
)

// Bounds of how many keys the program is made for. The lower one leaves room for some own items, which have no
// quota; the upper one is the kernel's.
const (
	roomMin = 1 << 10
	roomMax = 1 << 27
)

// room returns how many keys the program must have room for so that all that may be held here fit. It is a power of two,
// as the kernel rounds its table to one anyway, and so that a predecessor's map fits after most changes of the quotas.
func room(maxKeys int64) uint32 {
	if maxKeys < 0 || maxKeys > roomMax {
		return roomMax
	}
	return 1 << bits.Len64(uint64(max(maxKeys, roomMin)-1))
}

// holdMissing has keys that the program could not take in tried again, until ctx ends: the kernel may have memory for
// them by now. A release of another key makes room without it.
func (h *Half) holdMissing(ctx context.Context, program Program) {
	pause := holdPauseMin
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		before := program.Held()
		if before.Missing > 0 && !said {
			said = true
			h.c.Log.Warn("the kernel half passes every get and get_peers: it could not take in all keys held here",
				"missing", before.Missing, "known", before.Known, "room", before.Room)
		}
		if before.Missing > 0 {
			if err := program.HoldMissing(); err != nil {
				h.c.Log.Debug("keys held here not taken in", "err", err)
			}
		}
		after := program.Held()
		switch {
		case after.Missing == 0:
			if said {
				said = false
				h.c.Log.Info("the kernel half knows all keys held here again", "known", after.Known)
			}
			pause = holdPauseMin
		case after.Missing < before.Missing:
			pause = holdPauseMin
		default:
			pause = min(2*pause, holdPauseMax)
		}
	}
}

// heldReport puts what the program knows of the keys held here into the report.
func heldReport(b bpf.Held) status.Held {
	r := status.Held{Known: b.Known, Room: b.Room, Missing: b.Missing, Overflows: b.Overflows}
	if !b.Since.IsZero() {
		r.Since = &b.Since
	}
	return r
}
