package router

import (
	"strconv"
	"sync/atomic"

	"kdht/router/krpc"
)

// event is one thing that the node counts, beside queries and errors, which are counted by method and code.
type event uint8

const (
	eventDropSyntax event = iota // datagram that is no KRPC message
	eventDropReadOnly
	eventDropGroup    // datagram sent by broadcast or multicast
	eventDropSource   // datagram from where nobody can be
	eventDropLimited  // datagram of a sender who sends too many
	eventDropUnproven // query of a sender who may have forged his address, and that is too short for a challenge
	eventDropWrite    // reply that the network stack did not take
	eventChallenged
	eventLean
	eventProven
	eventReplyMatched
	eventReplyChallenge
	eventReplyLate
	eventReplyUnknown
	eventReplyAddress
	eventTimeout
	eventResent
	eventLimited
	eventWriteBusy
	eventTokenInvalid
	eventStored
	eventSighting
	eventSightingLost
	eventPublished
	eventPublishFailed
	eventIDChanged
	eventRecursionBegun
	eventRecursionResumed
	eventRecursionHeld
	eventRecursionCached
	eventRecursionShared
	eventRecursionRepeated
	eventRecursionFound
	eventRecursionNotFound
	eventRecursionUnfinished
	eventRecursionStored
	eventRecursionRefused
	eventRecursionForged
	eventRecursionLate
	eventRecursionDenied
	eventRecursionQueued
	eventRecursionBusy
	eventHeated
	eventCooled
	eventNoHot
	eventProbe
	events
)

// eventNames are the groups and names of events as statistics show them.
var eventNames = [events][2]string{
	eventDropSyntax:     {"drop", "malformed"},
	eventDropReadOnly:   {"drop", "query to a read-only node"},
	eventDropGroup:      {"drop", "not unicast"},
	eventDropSource:     {"drop", "impossible source"},
	eventDropWrite:      {"drop", "reply not sent"},
	eventDropLimited:    {"drop", "too many from its source"},
	eventDropUnproven:   {"drop", "unproven source"},
	eventChallenged:     {"unproven source", "challenged"},
	eventLean:           {"unproven source", "ping answered without its address"},
	eventProven:         {"unproven source", "proven"},
	eventReplyMatched:   {"reply", "matched"},
	eventReplyChallenge: {"reply", "to a challenge"},
	eventReplyLate:      {"reply", "late"},
	eventReplyUnknown:   {"reply", "unknown transaction"},
	eventReplyAddress:   {"reply", "wrong address"},
	eventTimeout:        {"outgoing", "timeout"},
	eventResent:         {"outgoing", "sent again"},
	eventLimited:        {"outgoing", "over the limit"},
	eventWriteBusy:      {"store", "busy"},
	eventTokenInvalid:   {"store", "invalid token"},
	eventStored:         {"store", "stored"},
	eventSighting:       {"sighting", "seen"},
	eventSightingLost:   {"sighting", "lost"},
	eventPublished:      {"table", "published"},
	eventPublishFailed:  {"table", "not published"},
	eventIDChanged:      {"table", "ID changed"},

	eventRecursionBegun:      {"recursion", "begun"},
	eventRecursionResumed:    {"recursion", "taken over from the kernel"},
	eventRecursionHeld:       {"recursion", "answered from the store"},
	eventRecursionCached:     {"recursion", "answered from the cache"},
	eventRecursionShared:     {"recursion", "joined one under way"},
	eventRecursionRepeated:   {"recursion", "query repeated"},
	eventRecursionFound:      {"recursion", "found"},
	eventRecursionNotFound:   {"recursion", "not found"},
	eventRecursionUnfinished: {"recursion", "not finished in time"},
	eventRecursionStored:     {"recursion", "stored"},
	eventRecursionRefused:    {"recursion", "not stored"},
	eventRecursionForged:     {"recursion", "forged value"},
	eventRecursionLate:       {"recursion", "late answer"},
	eventRecursionDenied:     {"recursion", "not allowed"},
	eventRecursionQueued:     {"recursion", "waited for others"},
	eventRecursionBusy:       {"recursion", "over the limit"},
	eventHeated:              {"hot", "promoted"},
	eventCooled:              {"hot", "demoted"},
	eventNoHot:               {"hot", "no room"},
	eventProbe:               {"health check", "received"},
}

// errorCodes are the codes that the node answers with.
var errorCodes = [...]int{
	krpc.ErrCodeGeneric, krpc.ErrCodeServer, krpc.ErrCodeProtocol, krpc.ErrCodeMethod, krpc.ErrCodeValueSize,
	krpc.ErrCodeSignature, krpc.ErrCodeSaltSize, krpc.ErrCodeCAS, krpc.ErrCodeSeq,
}

// counters are all counters of a node.
type counters struct {
	events   [events]atomic.Uint64
	received [krpc.Methods]atomic.Uint64 // queries
	answered [krpc.Methods]atomic.Uint64
	sent     [krpc.Methods]atomic.Uint64 // queries of our own
	errors   [len(errorCodes)]atomic.Uint64
}

func (c *counters) count(e event) { c.events[e].Add(1) }

func (c *counters) countError(code int) {
	for i, known := range errorCodes {
		if code == known {
			c.errors[i].Add(1)
		}
	}
}

// list returns all counters, in an order that does not change.
func (c *counters) list() []Counter {
	var all []Counter
	for m := range krpc.Methods {
		name := krpc.Method(m).String()
		if krpc.Method(m) == krpc.MethodNone {
			continue
		}
		all = append(all,
			Counter{"query received", name, c.received[m].Load()},
			Counter{"query answered", name, c.answered[m].Load()},
			Counter{"query sent", name, c.sent[m].Load()})
	}
	for i, code := range errorCodes {
		all = append(all, Counter{"error sent", strconv.Itoa(code), c.errors[i].Load()})
	}
	for e := range events {
		all = append(all, Counter{eventNames[e][0], eventNames[e][1], c.events[e].Load()})
	}
	return all
}
