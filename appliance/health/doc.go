// Package health says how a node is, and why: checks that depend on each other, from the cable to the tailnet, so that of a
// dozen things that do not work the one is named that the others wait for.
//
//	link ── address ── bootstrap ── routing table
//	  └──── kernel half
//	answers    store    tasks        each by itself, and what extensions add
//
// A node is ready when the DHT answers and is answered: a query that was sent to its own socket came back, and other nodes
// have answered it lately, unless it is the first of its network. That a page is served says nothing about that.
//
// [Examine] computes all of it from an [Input] and nothing else.
package health
