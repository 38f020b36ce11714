// Package kernel is the life of the kernel half in this process: it loads the XDP program, attaches it to every
// suitable network interface as they come, go and change, tells it which addresses are ours, renews its lease, passes
// its sightings on, and hands it over to the next process or takes it away at the end.
//
// Whatever it cannot have it does without, once in the log and always in [Half.Report]: native mode, an interface,
// pins, or XDP altogether.
//
// Not here: the XDP program and its loader (bpf), the table that is published (router), netlink (link).
package kernel
