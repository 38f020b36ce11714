package router

import "kdht/bpf"

// NewSnapshot collects what the kernel half, and [View], answer from. Either table may be nil: that family is then
// empty, with the zero ID. Both have the same b.
func NewSnapshot(t4, t6 *Table, secret [16]byte) *bpf.Snapshot {
	s := &bpf.Snapshot{Secret: secret}
	if t4 != nil {
		s.Bits, s.ID4 = t4.Bits(), t4.Self()
		fit := t4.Published()
		s.Nodes4 = make([][compactLen4]byte, len(fit))
		for i, c := range fit {
			s.Nodes4[i] = c.compact4()
		}
	}
	if t6 != nil {
		s.Bits, s.ID6 = t6.Bits(), t6.Self()
		fit := t6.Published()
		s.Nodes6 = make([][compactLen6]byte, len(fit))
		for i, c := range fit {
			s.Nodes6[i] = c.compact6()
		}
	}
	return s
}
