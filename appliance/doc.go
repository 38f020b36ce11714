// Package appliance is the process and its life: it opens the store and the sockets, runs the node, its kernel half
// and the status page as tasks under one supervisor, and stops them in order.
//
//	appliance/health  how the node is, and what is to blame
//	appliance/journal  the last lines of the log, kept in memory
//	appliance/link    the host's network interfaces, by netlink
//	appliance/kernel  the kernel half's life: attach, follow links, lease, hand-over between processes
//	appliance/discover  nodes of one network on one LAN find each other, by DNS-SD
//	appliance/history rates of the last minutes and the last day
//	appliance/status  the status page, its JSON twin, metrics, health endpoints
//	appliance/browser the pages in a real browser: tests, a module of its own
//	appliance/tools   what one can do on the page: see a lookup, decode a datagram
//	appliance/bundle  what somebody needs to find out from afar what is wrong
//	appliance/gateway  items, peers and names over HTTP for programs, a pkarr relay, and who may do what
//	appliance/admin  the admin plane in a tailnet: who may do what, configuration, backups, updates from afar
//	appliance/box     what a machine without keyboard needs at boot (kdht serve --appliance)
//	appliance/update  updates of the appliance: interface, trial, history; bootdisk below it: what the disk boots
//	appliance/durable   files that a loss of power leaves old or new
//	appliance/guard   the small program that commits a trial or goes back
//	appliance/kdht    the program
//
//	appliance/boxtest      nodes with their pages in the process of a test
//	appliance/conformance  what the program says on the wire, against recorded datagrams, with and without its kernel half
//	appliance/fleet        many nodes and programs of others in network namespaces, for tests and the demo
//
// Not here: the protocol and the routing tables (router), eBPF objects (bpf), the database (store), the meaning of
// configuration keys (config).
package appliance
