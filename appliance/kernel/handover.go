package kernel

import (
	"sync"

	"kdht/bpf"
	"kdht/router"
)

// handover keeps the tables of the previous process in place while those of this one are still being filled: a
// program that was taken over goes on answering from what it knows. Keys held here are passed on at once.
type handover struct {
	router.Kernel

	mu      sync.Mutex
	open    bool
	pending *bpf.Snapshot
}

// Publish publishes s, or keeps it until the hand-over is over.
func (h *handover) Publish(s *bpf.Snapshot) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		h.pending = s
		return nil
	}
	return h.Kernel.Publish(s)
}

// end ends the hand-over: the latest snapshot is published, and all later ones.
func (h *handover) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		return nil
	}
	h.open = true
	if h.pending == nil {
		return nil
	}
	s := h.pending
	h.pending = nil
	return h.Kernel.Publish(s)
}
