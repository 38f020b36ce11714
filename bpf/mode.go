package bpf

import "fmt"

// Mode says where in the receive path an XDP program runs.
type Mode uint8

// Modes.
const (
	// ModeAuto tries native mode, then generic mode.
	ModeAuto Mode = iota
	// ModeNative runs in the NIC's driver, before a socket buffer exists.
	ModeNative
	// ModeGeneric runs in the network core, on any interface, at a higher cost per packet.
	ModeGeneric
)

// String gives the mode as it is written in the configuration.
func (m Mode) String() string {
	switch m {
	case ModeAuto:
		return "auto"
	case ModeNative:
		return "native"
	case ModeGeneric:
		return "generic"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}
