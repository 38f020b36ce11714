package router

import "kdht/bpf"

// NewSnapshot collects what the kernel half, and [View], answer from. Either table may be nil: that family is then
// empty, with the zero ID.
func NewSnapshot(t4, t6 *Table, secret [16]byte) *bpf.Snapshot {
	s := &bpf.Snapshot{Secret: secret}
	if t4 != nil {
		s.ID4 = t4.Self()
		for _, c := range t4.Published() {
			s.Nodes4 = append(s.Nodes4, c.compact4())
		}
	}
	if t6 != nil {
		s.ID6 = t6.Self()
		for _, c := range t6.Published() {
			s.Nodes6 = append(s.Nodes6, c.compact6())
		}
	}
	return s
}
