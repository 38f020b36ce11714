package health

import (
	"net/netip"
	"time"

	"kdht/appliance/link"
)

// Input is everything that the health of a node is computed from.
type Input struct {
	Now     time.Time
	Started time.Time // of the process

	// Private says that the node belongs to a private network, OnlyLocal that it serves on loopback addresses alone.
	Private, OnlyLocal bool
	Bootstrap          int // nodes to join through that are configured

	// Links are the interfaces but the loopback one; LinksError is why they are not known.
	Links      []NetLink
	LinksError string
	// Hosted are the addresses of the loopback interface that others may have routes to, as of a service that is announced to routers.
	Hosted []netip.Addr
	// Bound are the addresses that the node listens on; empty if it listens on all that there are.
	Bound []netip.Addr

	Joined   bool // the node has found its place in the network once
	Families []Family
	Probe    Probe

	Tasks  []Task
	Store  StoreInput
	Kernel KernelInput

	// More is what extensions say. Since is not looked at.
	More []Check
}

// NetLink is a network interface.
type NetLink struct {
	Name  string
	Role  link.Role
	Up    bool // switched on, and with a carrier
	Addrs []netip.Addr
}

// Family is the node in the DHT of one address family.
type Family struct {
	Name           string // "IPv4" or "IPv6"
	IPv6           bool
	Contacts, Good int
	// Answered is when a query of ours was last answered, the zero Time if none was; Silence is how many in a row were not
	// since then.
	Answered time.Time
	Silence  int
}

// Probe is what came of the last query to our own sockets.
type Probe struct {
	At    time.Time // zero: none was sent yet
	Took  time.Duration
	Error string // of one that should have been answered; "" if all were
	// Some says that others were answered, None that no socket could be asked from this machine.
	Some, None bool
}

// Task is a part of the process.
type Task struct {
	Name, Error string
	Running     bool
}

// StoreInput is the state of the database.
type StoreInput struct {
	Failure         string // why nothing can be stored; "" if it can
	FailedSince     time.Time
	SetAside        string // where an unusable database was moved; "" if none was
	Bytes, MaxBytes int64
}

// KernelInput is the state of the kernel half.
type KernelInput struct {
	Off     bool // by configuration
	Settled bool // it is known whether there can be one
	Active  bool
	Reason  string // why it is not active
	NICs    []NIC  // that it is wanted at
	Missing int    // keys held here that it does not know
	JIT     bool
}

// NIC is an interface that the kernel half is wanted at.
type NIC struct{ Name, Mode, Reason string }
