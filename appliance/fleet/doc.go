// Package fleet runs many nodes on one machine, each in a network namespace of its own with an IPv4 and an IPv6
// address of its own, all joined by one routing namespace, whose links can be made slow or lossy. The tests with real clients, the
// demonstration and the experiment with recursion use it.
//
// A node here is the real program: a `kdht serve` process whose XDP program is attached to the namespace's
// interface. Programs that others wrote, which the tests mix in, are in fleet/foreign. Everything needs root and
// iproute2, and goes away with the process that made it.
package fleet
