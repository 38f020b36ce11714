package bpf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Counter is the number of packets that left the program for one reason.
type Counter struct {
	// Reason is the name of the way out, such as "answered" or "not_ours"; xdp/consts.h lists them.
	Reason string
	// Query is "ping", "find_node", "get_peers" or "get" where Reason is "answered", and "hot_get_peers" or "hot_get" if
	// the answer came from the hot map; else empty.
	Query string
	// Packets is the count since the maps were created, over all CPUs.
	Packets uint64
}

// EventCounter counts something that is not a way out of the program.
type EventCounter struct {
	Event string // such as "sighting"; xdp/consts.h lists them
	Count uint64
}

// Counters returns one counter for every way out of the program. Their sum is the number of packets it has seen.
func (p *Program) Counters() ([]Counter, error) {
	if err := p.lock(); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	values, err := readCounters(p.objs.Reasons, len(p.labels.reasons))
	if err != nil {
		return nil, err
	}
	out := make([]Counter, len(values))
	for i, label := range p.labels.reasons {
		out[i] = Counter{Reason: label, Packets: values[i]}
		if query, ok := strings.CutPrefix(label, "answered_"); ok {
			out[i].Reason, out[i].Query = "answered", query
		}
	}
	return out, nil
}

// Events returns how many sightings were reported, how many were lost because nobody read them, and how many contacts in
// replies to queries of the program were closer to the target but not to be asked.
func (p *Program) Events() ([]EventCounter, error) {
	if err := p.lock(); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	values, err := readCounters(p.objs.Events, len(p.labels.events))
	if err != nil {
		return nil, err
	}
	out := make([]EventCounter, len(values))
	for i, label := range p.labels.events {
		out[i] = EventCounter{Event: label, Count: values[i]}
	}
	return out, nil
}

// readCounters sums n counters over all CPUs. It asks the kernel once: each of its answers would cost as much as all of them.
func readCounters(m *ebpf.Map, n int) ([]uint64, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, classify("read the counters", err)
	}
	var cursor ebpf.MapBatchCursor
	slots, values := make([]uint32, n), make([]uint64, n*cpus)
	got, err := m.BatchLookup(&cursor, slots, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // that is the end of the map
		return nil, classify("read the counters", err)
	}
	out := make([]uint64, n)
	for i, slot := range slots[:got] {
		for _, v := range values[i*cpus : (i+1)*cpus] {
			out[slot] += v
		}
	}
	return out, nil
}

// valueLabels turns the values of an enumeration into labels: in lower case, without prefix, up to end.
func valueLabels(enum *btf.Enum, prefix, end string) ([]string, error) {
	var out []string
	for i, v := range enum.Values {
		if v.Name == end {
			return out, nil
		}
		name, ok := strings.CutPrefix(v.Name, prefix)
		if !ok || v.Value != uint64(i) {
			return nil, fmt.Errorf("enum %s: unexpected value %s = %d", enum.Name, v.Name, v.Value)
		}
		out = append(out, strings.ToLower(name))
	}
	return nil, fmt.Errorf("enum %s does not end with %s", enum.Name, end)
}
