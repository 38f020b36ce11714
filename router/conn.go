package router

import (
	"context"
	"net/netip"
)

// Packet is one datagram on its way from or to a [Conn].
type Packet struct {
	// Data is the payload. For reading, its capacity is the room there is; a longer datagram is cut off there.
	Data []byte
	// Addr is the other end. IPv4 addresses are never in IPv6-mapped form.
	Addr netip.AddrPort
	// Local is the address of this host that the datagram was sent to, or shall leave from. The zero Addr leaves
	// the choice to the network stack.
	Local netip.Addr
	// Group says that a datagram came by broadcast or multicast.
	Group bool
}

// Conn is a datagram socket of one family. All methods may be called at the same time, except that only one
// goroutine reads.
type Conn interface {
	// ReadBatch waits for datagrams and fills the packets from the front. It returns how many it filled; with an
	// error it is none. After Close the error wraps [net.ErrClosed]; other errors are passing ones.
	ReadBatch(ps []Packet) (int, error)
	// WriteBatch sends the packets in order, and returns how many of them the stack took. It drops what cannot be
	// sent, rather than wait; an error tells about the first datagram that was dropped.
	WriteBatch(ps []Packet) (int, error)
	// LocalAddr returns the bound address and port.
	LocalAddr() netip.AddrPort
	// Close unblocks ReadBatch.
	Close() error
}

// Listen opens a UDP socket for each address; the unspecified address of a family stands for all of its addresses.
// A port of 0 lets the system choose. A port that is in use is waited for, since a predecessor may be on its way
// out, until the context ends or two seconds are over. An IPv6 address on a host without IPv6 gives an error that
// [errors.Is] ErrFamilyUnavailable; the caller decides whether that matters.
func Listen(ctx context.Context, addrs ...netip.AddrPort) ([]Conn, error) {
	return listen(ctx, addrs)
}
