package discover

import "net/netip"

// Instance is what tests see of an instance.
type Instance = instance

// Parsed is a message as it was read.
type Parsed struct {
	Query             bool
	Browse, Enumerate bool
	Questions, Known  int
	Found             []Instance
}

// Parse reads a message.
func Parse(b []byte) (p Parsed, err error) {
	q, found, err := parse(b)
	p.Found = found
	if q != nil {
		p.Query, p.Browse, p.Enumerate, p.Questions, p.Known = true, q.browse, q.enumerate, len(q.questions), len(q.have)
	}
	return p, err
}

// Compose composes a response.
func Compose(all []Instance, ttl uint32) ([]byte, error) { return appendResponse(all, ttl) }

// Query composes a query by a host that knows instances of these names.
func Query(names ...string) ([]byte, error) {
	var have []known
	for _, n := range names {
		have = append(have, known{n, ttl})
	}
	return appendQuery(have)
}

// Broadcast returns the last address of an IPv4 prefix.
func Broadcast(p netip.Prefix) netip.Addr { return broadcast(p) }

// NewNames makes the names of a process on a host: of its service instance, and of the host in its records.
func NewNames(hostname string) (instance, host string) {
	n := newNames(hostname)
	return n.instance(6881, true)
}
