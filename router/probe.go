package router

import "kdht/router/krpc"

// ProbeID is the ID in the pings with which the program that the node is part of sees whether it answers. From an address of
// this machine they count as health checks and not as queries, of which a node that nobody asks has none.
var ProbeID = krpc.ID([]byte("kdht-health-check-01"))

// probes reports whether the query is such a ping.
func (r *responder) probes(p *Packet) bool {
	from := p.Addr.Addr()
	return r.m.Method == krpc.MethodPing && r.m.ID == ProbeID && (from.IsLoopback() || from == p.Local)
}
