// Package limit says how much one source may send, and what sources get that never proved to be where they say they are.
// Both halves of the node keep to it: xdp/limit.h and xdp/challenge.h do the same in the kernel, word for word, and
// tests compare them.
//
// A source is an IPv4 address or an IPv6 /64. Each has a token bucket (the generic cell rate algorithm of ITU-T I.371), in
// a table of fixed size: a source that finds no room takes the place of the one that has sent the least.
//
// Whoever never proved his address may have forged it. Budgets, for all such sources together, bound what that can
// do: the bytes by which replies are longer than their queries, and the datagrams that the kernel half passes up to user
// space. Exempt sources and clients of recursion have a budget of the second kind of their own, for they may be forged as well
// where a router lets that in: half as large, because recursion costs more, of which they all together have an eighth besides. Once a budget is used up, a ping is answered without the asker's address, which makes the reply no longer than the
// query; other queries are answered by a ping of ours that is shorter than they are, whose transaction ID is a keyed hash of
// the asker's address and the time (a challenge). A reply to it proves the address, for half an hour; so do an answer to a query
// of ours and a valid write token. So what a victim gets because somebody forged his address, in bytes of UDP payload, is
//
//   - at any rate, at most what the forger sent and a share of the budget: at a million queries of 100 bytes a second and the
//     default budget of 512 KiB/s, 1.005 times what he sent, and 0.55 to 0.75 times for find_node, get_peers and get alone
//     once the budget is used up;
//   - at a rate so low that the budget lasts, up to about 6 times what the forger sent (a find_node that wants contacts of both
//     families), and 17 times for an item that is stored here (a get of 85 bytes, a reply of 1,472), at most the budget;
//   - to who runs a DHT node, and is known here as a contact or answers the challenge: as little, whatever is forged, as one source may
//     have. A reply of up to 256 bytes more than the query takes a token of it, more takes more in proportion, so that at the default limits
//     it is up to 17 times what the forger sent, but no more than 50 KiB/s after 256 KiB at once. What is over it is challenged
//     at once, and has no part of the budget. The same holds if the victim's own port is forged: who is there answers.
//
// And it says how much is sent to one destination, an address ([Destinations]): others ignore who sends them too much, libtorrent
// who sends it 50 datagrams within 10 s. Every query of ours counts, whichever half sends it: both take tokens from one table, in a map
// that user space maps. At the pace of the public network, 2.8 per second after a burst of 8, that is 36 within 10 s. Replies do
// not count, of which nobody gets more than he sends queries.
//
// A client that may ask for recursion has this node send queries to others, in the kernel half up to 36 for one of its own: 12
// hops on 3 paths. So the kernel half has a budget for all of them together ([Config.Queries]), of which recursions may begin
// with half; what is over it goes up to user space, whose recursions have a budget of their own.
//
// Nothing here allocates, waits, or grows. Times are those of CLOCK_MONOTONIC.
package limit
