// Package link watches the host's network interfaces through route netlink: which there are, what they are, and
// which addresses they have.
//
// A [Watcher] is level-triggered: every notification of the kernel only says that something changed, and a dump then
// says what is. Lost notifications therefore cost nothing but another dump.
//
// Not here: XDP (bpf), and what to do about an interface (appliance).
package link
