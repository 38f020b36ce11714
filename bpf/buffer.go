package bpf

import (
	"errors"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// buffer is a map that holds one snapshot, and its memory. A write by the system call would copy all of it, which is mostly
// room for a larger table, twice.
type buffer struct {
	m      *ebpf.Map
	memory []byte
}

func newBuffer(spec *ebpf.MapSpec) (*buffer, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, classify("create a map", err)
	}
	memory, err := unix.Mmap(m.FD(), 0, int(unsafe.Sizeof(kdhtSnapshot{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(classify("map the memory of a snapshot", err), m.Close())
	}
	return &buffer{m, memory}, nil
}

// snapshot is the memory. It is zero at first.
func (b *buffer) snapshot() *kdhtSnapshot { return (*kdhtSnapshot)(unsafe.Pointer(&b.memory[0])) }

func (b *buffer) close() error {
	if b == nil {
		return nil
	}
	return errors.Join(unix.Munmap(b.memory), b.m.Close())
}
