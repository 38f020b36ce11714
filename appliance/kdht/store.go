package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"kdht/router"
	"kdht/router/krpc"
)

// storedJSON is the outcome of a put or announce as JSON.
type storedJSON struct {
	Target  krpc.ID       `json:"target"`
	K       string        `json:"k,omitempty"`
	Salt    string        `json:"salt,omitempty"` // hexadecimal
	Seq     *int64        `json:"seq,omitempty"`
	Stored  []contactJSON `json:"stored"`
	Refused []refusalJSON `json:"refused"`
	Silent  int           `json:"silent"`
	Lookup  statsJSON     `json:"lookup"`
}

// storedViaJSON is the outcome of a put or announce through a node as JSON.
type storedViaJSON struct {
	Target      krpc.ID `json:"target"`
	K           string  `json:"k,omitempty"`
	Salt        string  `json:"salt,omitempty"` // hexadecimal
	Seq         *int64  `json:"seq,omitempty"`
	StoredCount int64   `json:"storedCount"` // nodes, the one that was asked included
	viaJSON
}

// refusalJSON is a node that refused, as JSON.
type refusalJSON struct {
	contactJSON
	Code int    `json:"code"`
	Text string `json:"text"`
}

func storeJSON(r *router.StoreResult) *storedJSON {
	j := &storedJSON{Target: r.Target, Stored: contactsJSON(r.Stored), Refused: make([]refusalJSON, len(r.Refused)), Silent: r.Silent, Lookup: costJSON(r.Stats)}
	for i, f := range r.Refused {
		j.Refused[i] = refusalJSON{contactJSON{f.Node.ID, f.Node.Addr.String()}, f.Code, f.Text}
	}
	return j
}

// sayStored says how many nodes stored something, and what the others said.
func (s *system) sayStored(r *router.StoreResult) {
	parts := []string{fmt.Sprintf("stored at %d %s", len(r.Stored), plural(len(r.Stored), "node"))}
	codes := make(map[int]int)
	for _, f := range r.Refused {
		codes[f.Code]++
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		parts = append(parts, fmt.Sprintf("%d refused with error %d", codes[code], code))
	}
	if r.Silent > 0 {
		parts = append(parts, fmt.Sprintf("%d did not answer", r.Silent))
	}
	s.say("%s", strings.Join(parts, ", "))
}

// plural gives a noun for a number of things.
func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
