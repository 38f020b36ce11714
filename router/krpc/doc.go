// Package krpc is the wire: KRPC messages of the Mainline DHT, their codec, and the rules of the BEPs that depend on
// nothing but a message (BEP 5, 32, 33, 42, 43, 44, 51).
//
// It is pure: no sockets, no clock, no state, and no knowledge of other rooms. Sending, routing tables and lookups
// live in package router, items and peers in package store.
//
// # What Decode accepts
//
// Append is strict: canonical bencoding, whole contacts, legal sizes. Decode is tolerant where the meaning of a
// message is beyond doubt, has an error as the answer where the asker can learn from it, and has silence where an
// answer would be a guess or could flood a third party. These are the parser cases that six widely used servers were
// tried with ("find_node" means: answered as if it were that method):
//
//	sample_infohashes                            answer     BEP 51
//	unknown method with target                   find_node  a future method with a target gets the closest contacts, as libtorrent does
//	unknown method no target                     error 204  BEP 5
//	ping ro=1                                    answer     BEP 43: read-only nodes are answered, and kept out of tables
//	ping top-level extra keys (v,ip,c)           answer     unknown keys are for others
//	unsorted keys (k-rpc style t,y,q,a)          answer     the meaning is clear; to sort is the duty of the sender
//	unsorted (bootstrap-dht style ip,a,t,q,v,y)  answer     bootstrap-dht, the router everybody starts from, sends these
//	unsorted a (target before id)                answer     as above
//	duplicate key t                              silent     two meanings; servers differ in which they take
//	length with leading zero (02:aa)             answer     harmless, and the meaning is clear
//	trailing newline                             answer     what follows the message is not part of it
//	trailing e                                   answer     as above
//	trailing 4 NULs                              answer     as above
//	int -0 in port style                         answer     in a key that is ignored
//	int leading zero                             answer     as above
//	tid len 0                                    answer     legal, if odd: the asker may tell its queries apart by address
//	tid len 1                                    answer     echoed verbatim
//	tid len 3                                    answer     echoed verbatim
//	tid len 4                                    answer     echoed verbatim
//	tid len 6                                    answer     echoed verbatim
//	tid len 8                                    answer     echoed verbatim
//	tid len 15                                   answer     echoed verbatim
//	tid len 16                                   answer     echoed verbatim
//	tid len 20                                   answer     echoed verbatim
//	tid len 21                                   answer     echoed verbatim
//	tid len 32                                   answer     echoed verbatim
//	tid len 67                                   answer     echoed verbatim
//	tid len 128                                  answer     echoed verbatim; so is anything up to 256 bytes
//	missing t                                    silent     nobody could match the answer to a query
//	t is int                                     silent     as above: it cannot be echoed as sent
//	missing y                                    silent     not a KRPC message
//	y=query (long)                               silent     as above
//	missing a                                    error 203  BEP 5: invalid arguments
//	a without id                                 error 203  as above; every query has an id
//	id 19 bytes                                  error 203  as above; padding or cutting an ID makes up another node
//	id 21 bytes                                  error 203  as above
//	id 32 bytes                                  error 203  as above
//	target 19                                    error 203  as above
//	find_node with info_hash only                error 203  BEP 5: find_node has a target
//	get_peers with target only                   error 203  BEP 5: get_peers has an info_hash
//	get_peers no hash                            error 203  as above
//	want not list                                answer     the key counts as absent: contacts of the transport's family
//	want empty list                              answer     as above; nobody asks for contacts of no family
//	want n6 only                                 answer     nodes6 and no nodes, even over IPv4 (BEP 32)
//	de                                           silent     never answer garbage: the source address may be forged
//	empty-ish d1:y1:qe                           silent     as above; it has no t
//	bs=1 first                                   answer     the first query of libtorrent when it bootstraps
//	negative string length                       silent     not bencoding
//	nested depth 60                              silent     deeper than 10, which no message in use comes near
//	padding 1400                                 answer     unknown keys may be long
//
// Further rules:
//   - A dictionary of more than 64 keys must have them sorted, or else looking for duplicates would be costly.
//   - Duplicates are looked for where keys have a meaning: in the message, "a" and "r". In a value v they are found by
//     CheckValue, together with everything else that is not canonical.
//   - An integer may have any number of digits where it is ignored; where it is used it counts as absent beyond int64.
//   - Optional arguments with a wrong type count as absent, mandatory ones are an error 203.
//   - In responses, nodes, nodes6 and samples lose a trailing part of a record, and k, sig and bloom filters with a
//     wrong size count as absent: the rest of the response is of use, and values are verified anyway.
//
// # Recursive queries
//
// A client without DHT logic sets the top-level key "rd" to 1 in a query: recursion desired, as in DNS. No BEP has it, and
// nodes that do not know it ignore it. A node that does recursion for the client's address looks the target up in
// the whole network, verifies what it finds, and answers with one datagram within 5 seconds. To a node that does not,
// "rd" counts as absent.
//
//   - get, get_peers and find_node have the arguments that they always have. A get for a mutable item with a salt
//     carries the salt as "salt" besides: without it no signature can be checked, and responses do not have it.
//   - put and announce_peer have them too, but need no "token".
//   - The response is that of the method: "id", "nodes" and "nodes6" with the closest nodes found, "token", and what was
//     found: "v" with "k", "sig" and "seq", or "values", of the families that "want" names. If "seq" of a get is not less than
//     that of the newest version, there is "seq" and no "v". Items are verified; peers cannot be, so some may be made up by nodes that lie.
//   - A response without what was asked for has "rd": 1 says that the network does not have it, 0 that this is not certain,
//     because time ran out or no node answered. A response without it and without "rd" says that there was no recursion. To find_node, put and
//     announce_peer the response always has "rd", if there was.
//   - The response to put and announce_peer has "stored" in "r": how many nodes stored it, the one that was asked
//     included. If none did, it is an error message with the code of BEP 44 that most nodes gave, or 202 (server error) if none
//     answered.
package krpc
