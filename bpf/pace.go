package bpf

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"kdht/bpf/limit"
)

// Pace makes the program keep to a pace when it sends queries to nodes, and returns where it counts them, for the caller to
// count in what it sends itself: what both send to an address together is within the pace. A contact that may
// not be asked for it is passed over for the next best; if there is none, the client's query or the reply goes up. Until
// then, nothing is limited. It stays valid after Close.
func (p *Program) Pace(pace limit.Pace) (*limit.Destinations, error) {
	if err := p.lock(); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	memory, err := unix.Mmap(p.objs.Destinations.FD(), 0, int(unsafe.Sizeof(limit.Table{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, classify("map the memory of the destinations", err)
	}
	d := limit.NewDestinations(pace, p.seed, (*limit.Table)(unsafe.Pointer(&memory[0])))
	runtime.AddCleanup(d, func(b []byte) { _ = unix.Munmap(b) }, memory)
	p.settings.PaceInterval, p.settings.PaceWindow = pace.Params()
	return d, p.putSettings()
}
