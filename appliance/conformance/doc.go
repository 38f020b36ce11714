// Package conformance tests the program `kdht serve` as a black box: a process in a network namespace, asked by
// sockets and raw frames from another one, with its kernel half attached and without. There is nothing in it but
// tests.
//
// What the tests ask for is the wire as package krpc documents it, whatever half answers:
//
//   - Two processes with the same state, one with and one without kernel half, give the same answers to all recorded
//     datagrams of all clients, byte for byte. Only contacts of one bucket may come in another order, that in which
//     they answered when the process started, and so may peers and samples of
//     infohashes, which are drawn by lot.
//   - Bad input gets the KRPC error for it, or silence, is counted, and does no harm to what is stored.
//   - What was acknowledged is there after a kill.
//   - The process with full routing tables stays small.
//
// All tests need root.
package conformance
