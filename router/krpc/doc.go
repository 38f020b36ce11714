// Package krpc is the wire: KRPC messages of the Mainline DHT, their codec, and the rules of the BEPs that depend on
// nothing but a message (BEP 5, 32, 33, 42, 43, 44, 51).
//
// It is pure: no sockets, no clock, no state, and no knowledge of other rooms. Sending, routing tables and lookups
// live in package router, items and peers in package store.
package krpc
