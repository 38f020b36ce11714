package router

import "kdht/router/krpc"

// How long a reply with a value of BEP 44 may be, if 1,024 bytes are too few. A single packet is the aim, since
// fragments are often dropped; over IPv6, tunnels and PPPoE take their share of the 1,500 bytes besides.
const (
	maxValueReply4 = 1500 - 20 - 8
	maxValueReply6 = 1400
)

// maxReply returns how long a reply may be that has contacts of one family only.
func maxReply(m *krpc.Message) int {
	switch {
	case m.V == nil:
		return krpc.MaxPayload
	case FamilyOf(m.IP.Addr()) == IPv4:
		return maxValueReply4
	}
	return maxValueReply6
}

// fit takes away what the reply can do without until it is short enough: half of the samples, the contacts of the
// family that the asker did not use, the other samples, and the asker's own contacts, the farthest first. What is left
// may still be too long because of the transaction ID, which is the asker's choice. room is memory to measure in.
func (c *composer) fit(room []byte) {
	m := &c.m
	measure := func(limit int) int {
		b, err := m.Append(room)
		if err != nil {
			return 0 // it will not be sent
		}
		return len(b) - len(room) - limit
	}
	over := measure(krpc.MaxPayload)
	shorten := func(s *[]byte, record, keep int) {
		if over <= 0 {
			return
		}
		n := min((over+record-1)/record, (len(*s)-keep)/record) * record
		*s = (*s)[:len(*s)-n]
		over -= n
	}
	shorten(&m.Samples, krpc.IDLen, len(m.Samples)/2)
	if over > 0 {
		c.dropForeign()
		over = measure(maxReply(m))
	}
	shorten(&m.Samples, krpc.IDLen, 0)
	contacts, record := &m.Nodes, krpc.Node4Len
	if FamilyOf(m.IP.Addr()) == IPv6 {
		contacts, record = &m.Nodes6, krpc.Node6Len
	}
	if over > 0 {
		c.closestFirst(*contacts, record)
		shorten(contacts, record, 0)
	}
}

// closestFirst sorts contacts in compact form, which are in the order of the buckets, by distance from the target.
func (c *composer) closestFirst(contacts []byte, record int) {
	var swap [krpc.Node6Len]byte
	for i := record; i < len(contacts); i += record {
		for j := i; j > 0; j -= record {
			a, b := contacts[j-record:j], contacts[j:j+record]
			if !Closer(c.target, ID(b[:krpc.IDLen]), ID(a[:krpc.IDLen])) {
				break
			}
			copy(swap[:], a)
			copy(a, b)
			copy(b, swap[:record])
		}
	}
}
