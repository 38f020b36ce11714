// Package gateway is the node's interface for programs that speak HTTP and know nothing about DHTs: items (BEP 44), peers
// (BEP 5), the plain names of a fleet, and what a pkarr relay does. openapi.yaml describes all of it, and is served.
//
// # Who may do what
//
// An [Authority] looks at a request and says who sends it and what he may do. There are three: a bearer token of the
// configuration (read and write, from anywhere); a program on the machine itself (read and write); a client of the LAN
// (read, and put what carries its own proof, as configured). Whoever is none of these may do nothing.
//
// Programs on the machine and clients of the LAN are believed for their address alone, and so might be a browser there that
// runs somebody else's script. Therefore a request that may write without a token must come by a name that cannot be somebody
// else's (DNS rebinding), from no other web origin than those of the configuration, and through no proxy, which would lend its
// own address to everybody. A proxy on the machine that does not say so (Forwarded, X-Forwarded-For, X-Real-IP, Via) cannot be told
// from a program there.
//
// # What the network has and what the gateway answers
//
// Values of the network are anybody's bytes. They are served as types that no browser shows or runs.
//
// An entity tag is the sequence number of a mutable item and the form in which it is shown, as in "1700-json". If-Match is
// BEP 44's cas, which nodes compare too: 412 is their error 301, 409 their error 302. Every error is a problem document
// (RFC 9457) with a code that programs can rely on.
package gateway
