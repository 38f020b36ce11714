// Package nexthop knows how datagrams leave this host, through route netlink: the routes of its main table and the link
// addresses of its neighbours. An XDP program cannot ask the kernel for that on a host that does not forward packets
// for others (bpf_fib_lookup says BPF_FIB_LKUP_RET_FWD_DISABLED), and a node must not become a router for its sake.
//
// What is not plain is not usable: routes of several next hops, tunnels and rules of policy routing. Nobody sends by
// those from here; the network stack does.
//
// Not here: interfaces and their addresses (link), the XDP program (bpf), which of the routes it is given (kernel).
package nexthop
