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
