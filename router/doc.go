// Package router is the Kademlia of the node: who is near what, and how to reach them.
//
// Here live node IDs and their distance, the routing tables (one for IPv4, one for IPv6, BEP 32), the view of
// those tables that queries are answered from, write tokens, the UDP transport, iterative lookups, and the upkeep
// of the tables. The package publishes its tables to package bpf, whose XDP program answers most queries from the
// same data; what [View.Answer] produces is the reference for what that program must produce, byte for byte.
//
// Not here: the wire format (package krpc), stored items and peers (package store), and everything that touches
// eBPF objects (package bpf).
package router
