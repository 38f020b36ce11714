// Package sim simulates large networks in one process, to show how the cost of a lookup grows with their size.
//
// What nodes say is what the product says: a query is encoded, the node that it goes to answers it from a
// [router.View] of its own ([router.View.Answer]), and a lookup decides by [router.Search], the code of a
// [router.Node]'s lookups. What is simulated is the rest:
//
//   - IDs are uniform, as BEP 42 makes them. A node's address is its place in the order of the IDs.
//   - Tables have converged: a bucket, or a sub-bucket, holds 8 nodes drawn from all that belong there, or all of them
//     where they are fewer. The draw is a function of the seed and the node, so a table is made when a lookup comes by,
//     and a million of them need not exist at once.
//   - Time is virtual. A round trip takes 20 to 200 ms, a function of the two nodes; no datagram is lost.
//   - Dead nodes have just died: their neighbours do not know yet.
//
// Equal seeds give equal results but for the memory of a table, whatever the number of CPUs.
package sim
