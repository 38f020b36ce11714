// Package store keeps what a DHT node must not forget in one bbolt file: BEP 44
// items (immutable and mutable), announced peers (BEP 5, BEP 32, BEP 33), the
// nodes of the routing table, the node's identity in each address family, its
// token secrets, and which items are the node's own and to be republished.
//
// What a writing method acknowledges by returning nil is on stable storage.
// Concurrent writers share a transaction and its fsync (see commit.go). Readers
// never wait for a commit.
//
// Everything stored for others is bounded: by time (items 2 h after the last put,
// peers 30 min after the last announce) and by quotas, in total and per source
// address. Every refusal is a sentinel error.
//
// A file that is damaged, or is not a store, is renamed, never deleted, and a new
// one is begun; [Store.SetAside] tells.
//
// What does not live here: wire formats, hashes, signatures and tokens (the caller
// has verified them before it stores), and any decision on what to store.
package store
