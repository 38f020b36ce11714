package bpf

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TestObject checks that the object needs nothing that a kernel without type information of its own, without JIT and
// without XDP sockets lacks: no relocations against the kernel's types, no kernel functions, no tail calls, no calls
// back, and only helpers and maps that all supported kernels have.
func TestObject(t *testing.T) {
	spec, err := loadKdht()
	if err != nil {
		t.Fatal(err)
	}
	helpers := []asm.BuiltinFunc{
		asm.FnMapLookupElem, asm.FnXdpAdjustHead, asm.FnXdpAdjustTail, asm.FnJiffies64, asm.FnRingbufReserve,
		asm.FnRingbufSubmit, asm.FnRingbufDiscard, asm.FnKtimeGetCoarseNs, asm.FnXdpLoadBytes, asm.FnXdpStoreBytes, asm.FnCheckMtu,
		asm.FnMapUpdateElem, asm.FnMapDeleteElem, asm.FnKtimeGetNs, asm.FnGetSmpProcessorId, asm.FnRedirect,
		asm.FnSkbStoreBytes, asm.FnSkbLoadBytes, asm.FnSkbChangeTail, asm.FnCloneRedirect,
	}
	types := []ebpf.MapType{ebpf.Hash, ebpf.Array, ebpf.PerCPUArray, ebpf.ArrayOfMaps, ebpf.RingBuf, ebpf.LRUHash, ebpf.LPMTrie}
	if len(spec.Programs) != 2 {
		t.Errorf("%d programs in the object", len(spec.Programs))
	}
	for name, p := range spec.Programs {
		if p.License != "Dual BSD/GPL" {
			t.Errorf("%s: licence %q", name, p.License)
		}
		if p.Flags != 0 {
			t.Errorf("%s: flags %#x", name, p.Flags)
		}
		for i, ins := range p.Instructions {
			if btf.CORERelocationMetadata(&ins) != nil {
				t.Errorf("%s: instruction %d is relocated against the kernel's types", name, i)
			}
			if ins.IsKfuncCall() {
				t.Errorf("%s: instruction %d calls a function of the kernel", name, i)
			}
			if ins.IsBuiltinCall() && !slices.Contains(helpers, asm.BuiltinFunc(ins.Constant)) {
				t.Errorf("%s: instruction %d calls helper %v", name, i, asm.BuiltinFunc(ins.Constant))
			}
		}
	}
	for name, m := range spec.Maps {
		if !slices.Contains(types, m.Type) {
			t.Errorf("map %s has type %v", name, m.Type)
		}
	}
}
