package bpf

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
)

// configure gives the specification what the configuration says.
func (p *Program) configure(spec *ebpf.CollectionSpec) error {
	if p.maxHeld > 0 {
		spec.Maps[kdhtMapHeld].MaxEntries = p.maxHeld
	}
	configureHot(spec, p.hotSize)
	if p.looks > 0 {
		if err := spec.Variables[kdhtVarLooksPerRound].Set(p.looks); err != nil {
			return fmt.Errorf("set how many askers are looked at: %w", err)
		}
	}
	return nil
}

// variant returns the program for a mode. In generic mode, the socket buffer around a frame may say that its checksum is
// still to be finished, at a place that a reply makes wrong, so that variant does not answer such a datagram. It shares
// all maps, and is loaded when it is first needed.
func (p *Program) variant(mode Mode) (*ebpf.Program, error) {
	if mode != ModeGeneric {
		return p.objs.Kdht, nil
	}
	if p.generic != nil {
		return p.generic, nil
	}
	spec, err := loadKdht()
	if err != nil {
		return nil, err
	}
	if err := p.configure(spec); err != nil {
		return nil, err
	}
	if err := spec.Variables[kdhtVarGeneric].Set(uint32(1)); err != nil {
		return nil, fmt.Errorf("choose the variant for generic mode: %w", err)
	}
	var programs struct {
		Kdht *ebpf.Program `ebpf:"kdht"`
	}
	err = spec.LoadAndAssign(&programs, &ebpf.CollectionOptions{MapReplacements: p.sharedMaps()})
	if err != nil {
		return nil, classify("load the XDP program for generic mode", err)
	}
	p.generic = programs.Kdht
	return p.generic, nil
}

// sharedMaps are all maps by name.
func (p *Program) sharedMaps() map[string]*ebpf.Map {
	all := map[string]*ebpf.Map{}
	maps := reflect.ValueOf(p.objs.kdhtMaps)
	for i := range maps.NumField() {
		if m, ok := maps.Field(i).Interface().(*ebpf.Map); ok {
			all[maps.Type().Field(i).Tag.Get("ebpf")] = m
		}
	}
	return all
}
