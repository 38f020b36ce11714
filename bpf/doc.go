// Package bpf is the kernel half of the node: an XDP program, written in C, that answers ping, find_node, and
// get_peers and get for keys that are not held here, and the typed loader through which the rest of the program
// reaches it. Nothing outside this directory touches an eBPF object.
//
// The kernel half owns no truth. What it knows of the routing tables is one immutable [Snapshot], published with
// [Program.Publish]; which keys are held here it learns from [Program.Hold]; which addresses are ours from
// [Program.SetEndpoints]; and it answers only while a lease renewed with [Program.Renew] runs. Every datagram it
// does not understand completely, or that user space could answer in any other way, goes up untouched.
//
// What is asked for often it answers from the hot map ([Program.SetHotItem], [Program.SetHotPeers]): verified parts of
// replies with their checksums, in two sizes within [Config.HotBytes]. An entry says itself when it expires; what is held
// anew ([Program.Hold]) or cooled is not answered from it any more when the call returns; a process that loads pinned maps
// finds nothing hot. A reply that would be longer than the interface's MTU, or from which user space would leave out
// contacts to keep it short, goes up (reply_too_long: over IPv6, values of more than some 800 bytes).
//
// What sources may send, and what they get that may be forged, is bounded as package limit says: [Program.SetLimits]. Of what it
// does not know itself it hears by [Program.Prove] and [Program.Expect].
//
// What it cannot do, and counts instead: a reply that needs more room around the frame than the driver leaves goes up
// (no_room: on veth most replies over IPv6; drivers of real NICs leave enough). A NIC that takes VLAN tags off in
// hardware, in native mode, hides the tag from the program, whose reply would go out without it: such VLANs must not
// be among the endpoints. In generic mode, a datagram whose checksum was left for hardware to finish, as local senders do
// over virtual links, goes up (partial_checksum): the reply would inherit where the checksum belongs. And it answers before the network stack filters: nftables and iptables rules do not see the
// queries that it answers nor its replies, nor does reverse path filtering (rp_filter); a reply goes back to the MAC
// address and the interface that its query came from. Of sources, only those that nobody else can have are refused
// (bad_source): the address and the MAC address that were asked, but not another of ours.
//
// It carries the queries of some clients ([Program.SetClients]) through the network itself: to the closest contacts, on
// [MaxPaths] paths that have no node in common (in a public network no IPv6 /64), and on each from referral to referral, each closer to the target than the one
// before, at most [MaxHops]. A path ends where nobody closer is named, the node answers with an error or under another ID, or says nothing
// in time ([Program.SetPatience]). Everything else but a plain step is left to user space, together with what was found out on all paths: an
// answer, what the program does not understand, the end of the last path ([Program.TakeRecursion], [Program.TakeOverdue]). What then still
// comes goes up only if user space waits for it ([Program.Dismiss]: no more); else it is dropped, and its
// sender reported as an asker is ([Program.Sightings]), and as seldom: so the table hears that the node is alive, which a forger could
// claim of any address, but no more than an asker can. The round-trip time of such an answer is lost.
// An XDP program can send one frame for one that came: what begins the other paths is a second program behind it, in the hook of
// traffic control, where the kernel has links for that (Linux 6.6); elsewhere there is one path. Each of those queries is an ordinary one of
// ours under a transaction ID that cannot be guessed and is used once; whoever takes it out of the map goes on, the
// program or user space, never both. How they leave the host is published too ([Program.SetRoutes]); they do not pass
// nftables' output chains either, and are not among what the router's own limits count.
//
// What is under way is bounded by its queries, 3,072: that many recursions where each has one path, a third of them with three. They are in a
// hash, not in an LRU, in which forged queries would push out real ones: who finds no room, or has used up what he may have (a client's slots, the
// budgets of [limit.Config]), goes up. Routes and link addresses are our own maps, which user space keeps from netlink: bpf_fib_lookup says
// BPF_FIB_LKUP_RET_FWD_DISABLED on a host that does not forward (package nexthop). When the
// process ends while the program stays ([Program.Close]), it begins no more, but follows referrals on; what comes up then finds no socket
// and is lost. The next process of the same version takes over what is late by then and answers the clients that still wait; of another
// version it has other maps, and those recursions are lost: the client's repeated query begins a new one. Answers that a predecessor
// waited for go up, and are not known there.
//
// In generic mode a tag that hardware has taken off a frame is kept apart by the kernel, where the program cannot see it, and goes along with
// whatever the frame becomes. An answer needs that; a query that is sent on leaves with the tag as well, though its route may be another's: it
// is late then, and user space, which sends by the stack, takes over.
//
// Not here: the wire format's definition (router/krpc), the choice of contacts (router), namespaces and fleets for
// tests (bpf/netns), load generators (bpf/bench).
package bpf
