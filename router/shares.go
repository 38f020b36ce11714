package router

import (
	"net/netip"
	"sync"
)

const (
	// maxJobs bounds the queries that wait for the store at one time. Many may wait together, since they share a commit.
	maxJobs = 256
	// maxShare is how many of them may be from one host.
	maxShare = maxJobs / 4
)

// shares divides the jobs among those who want them. Safe for concurrent use.
type shares struct {
	mu    sync.Mutex
	total int
	of    map[netip.Addr]int
}

func newShares() *shares { return &shares{of: make(map[netip.Addr]int)} }

// take takes a job for a host, if there is one left for it. The zero Addr stands for all hosts whose addresses may be
// forged.
func (s *shares) take(host netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total == maxJobs || s.of[host] == maxShare {
		return false
	}
	s.total++
	s.of[host]++
	return true
}

// giveBack ends a job.
func (s *shares) giveBack(host netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.of[host]--; s.of[host] == 0 {
		delete(s.of, host)
	}
}

// hostOf returns what stands for one host: an IPv4 address, or an IPv6 /64, which one host has to itself.
func hostOf(a netip.Addr) netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return a.Unmap()
	}
	p, _ := a.Prefix(64) // 64 is within range
	return p.Addr()
}
