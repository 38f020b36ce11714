package router

import "net/netip"

// socket is a [Conn] in use by a node.
type socket struct {
	conn   Conn
	family Family
	count  func(event)
}

// write sends one datagram from the address that the network stack chooses.
func (s *socket) write(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteBatch([]Packet{{Data: b, Addr: to}})
	return err
}

// reply sends one datagram from a given local address, or drops it: UDP promises no more.
func (s *socket) reply(b []byte, to netip.AddrPort, local netip.Addr) {
	if _, err := s.conn.WriteBatch([]Packet{{Data: b, Addr: to, Local: local}}); err != nil {
		s.count(eventDropWrite)
	}
}
