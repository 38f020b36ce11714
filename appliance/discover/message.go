package discover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ttl is how long records are good, in seconds; RFC 6762, section 10 recommends it for records of a host.
	ttl = 120
	// legacyTTL is the same in an answer to a plain DNS resolver (RFC 6762, section 6.7).
	legacyTTL = 10
	// flush says that a record replaces all others of its name and type (RFC 6762, section 10.2).
	flush dnsmessage.Class = 1 << 15
	// Bounds of what is read of one message.
	maxQuestions = 32
	maxRecords   = 128
	maxInstances = 8
	// maxKnown bounds the known answers of a query, so that it fits a packet.
	maxKnown = 16
)

// instance is a service instance: a node as seen on one interface.
type instance struct {
	Name  string // first label
	Host  string // full name of the host in its records
	Port  uint16
	TTL   uint32 // seconds; 0: it says goodbye
	Text  Text
	Addrs []netip.Addr
}

// resources returns all records of an instance. A TTL of 0 makes them a goodbye.
func (s *instance) resources(seconds uint32, unique dnsmessage.Class) ([]dnsmessage.Resource, error) {
	full, err := dnsmessage.NewName(s.Name + "." + serviceName)
	if err != nil {
		return nil, err
	}
	host, err := dnsmessage.NewName(s.Host)
	if err != nil {
		return nil, err
	}
	head := func(name dnsmessage.Name, class dnsmessage.Class) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET | class, TTL: seconds}
	}
	all := []dnsmessage.Resource{
		{Header: head(dnsmessage.MustNewName(serviceName), 0), Body: &dnsmessage.PTRResource{PTR: full}},
		{Header: head(full, unique), Body: &dnsmessage.SRVResource{Target: host, Port: s.Port}},
		{Header: head(full, unique), Body: &dnsmessage.TXTResource{TXT: s.Text.strings()}},
	}
	for _, a := range s.Addrs {
		var body dnsmessage.ResourceBody
		if a.Is4() {
			body = &dnsmessage.AResource{A: a.As4()}
		} else {
			body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		}
		all = append(all, dnsmessage.Resource{Header: head(host, unique), Body: body})
	}
	return all, nil
}

// appendResponse composes a response with all records of instances.
func appendResponse(instances []instance, seconds uint32) ([]byte, error) {
	return response(dnsmessage.Message{}, instances, seconds, flush)
}

// appendLegacy composes the answer to a plain DNS resolver, which repeats its question.
func appendLegacy(q *query, instances []instance) ([]byte, error) {
	return response(dnsmessage.Message{Header: dnsmessage.Header{ID: q.id}, Questions: q.questions}, instances, legacyTTL, 0)
}

func response(m dnsmessage.Message, instances []instance, seconds uint32, unique dnsmessage.Class) ([]byte, error) {
	m.Response, m.Authoritative = true, true
	for i := range instances {
		r, err := instances[i].resources(seconds, unique)
		if err != nil {
			return nil, fmt.Errorf("compose records: %w", err)
		}
		m.Answers = append(m.Answers, r...)
	}
	return m.Pack()
}

// appendEnumeration composes the answer to the question which types of service there are.
func appendEnumeration() ([]byte, error) {
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}}
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(enumerationName), Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(serviceName)},
	}}
	return m.Pack()
}

// known is an instance whose records a querier has, with the seconds that they are good for.
type known struct {
	instance string
	seconds  uint32
}

// appendQuery composes the question for all instances, with those that need not answer.
func appendQuery(have []known) ([]byte, error) {
	service := dnsmessage.MustNewName(serviceName)
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: service, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
	for _, k := range have[:min(len(have), maxKnown)] {
		full, err := dnsmessage.NewName(k.instance + "." + serviceName)
		if err != nil {
			continue // it is then asked needlessly
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: service, Class: dnsmessage.ClassINET, TTL: k.seconds},
			Body:   &dnsmessage.PTRResource{PTR: full},
		})
	}
	return m.Pack()
}

// query is what of a query concerns us.
type query struct {
	id        uint16
	questions []dnsmessage.Question // as they were asked
	browse    bool                  // which instances are there?
	enumerate bool                  // which types of service?
	specific  []dnsmessage.Question // about one name, which may be ours
	have      []known               // instances that the querier knows
}

// about reports whether a query is about an instance by its name or that of its host.
func (q *query) about(s *instance) bool {
	return slices.ContainsFunc(q.specific, func(d dnsmessage.Question) bool {
		name := d.Name.String()
		return strings.EqualFold(name, s.Name+"."+serviceName) || strings.EqualFold(name, s.Host)
	})
}

// knows reports whether the querier has the records of an instance, good for half of their time at least, so that they
// must not be sent (RFC 6762, section 7.1).
func (q *query) knows(s *instance) bool {
	return slices.ContainsFunc(q.have, func(k known) bool { return strings.EqualFold(k.instance, s.Name) && k.seconds >= ttl/2 })
}

// parse reads a message: a query or a response, of which only complete instances are returned. It never panics, reads
// what is within its bounds, and fails on what is no message of mDNS.
func parse(b []byte) (q *query, found []instance, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return nil, nil, err
	}
	if h.OpCode != 0 || h.RCode != dnsmessage.RCodeSuccess { // RFC 6762, sections 18.3 and 18.11
		return nil, nil, errNotMDNS
	}
	if h.Response {
		if err := p.SkipAllQuestions(); err != nil {
			return nil, nil, err
		}
		found, err = parseResponse(&p)
		return nil, found, err
	}
	q, err = parseQuery(&p, h.ID)
	return q, nil, err
}
