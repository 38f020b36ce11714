package router

import "net/netip"

// socket is a [Conn] in use by a node.
type socket struct {
	conn   Conn
	family Family
	count  func(event)
}

// write sends one datagram, or drops it: UDP promises no more.
func (s *socket) write(b []byte, to netip.AddrPort) {
	s.reply(b, to, netip.Addr{})
}

// reply sends one datagram from a given local address.
func (s *socket) reply(b []byte, to netip.AddrPort, local netip.Addr) {
	if _, err := s.conn.WriteBatch([]Packet{{Data: b, Addr: to, Local: local}}); err != nil {
		s.count(eventDropWrite)
	}
}
