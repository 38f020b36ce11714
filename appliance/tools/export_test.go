package tools

import "kdht/router/krpc"

// ParseQuery gives the target of what people write.
func ParseQuery(s string) (krpc.ID, error) {
	q, err := parseQuery(s)
	return q.target, err
}

// Decode decodes what people paste.
func Decode(s string) {
	var x decoded
	x.fill(datagram(s))
}

// Way draws a lookup of which each row is an address, the one that named it, and its hop.
func Way(goal string, rows ...struct {
	Addr, Referrer string
	Hops, Bits     int
	Good           bool
}) string {
	var all []row
	for _, r := range rows {
		all = append(all, row{Addr: r.Addr, Referrer: r.Referrer, Hops: r.Hops, Bits: r.Bits, Good: r.Good})
	}
	return string(way(all, goal))
}
