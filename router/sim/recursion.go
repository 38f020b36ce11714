package sim

import (
	"kdht/router"
	"kdht/router/krpc"
)

// recursed is the outcome of a recursive query.
type recursed struct {
	found                     // by the kernel alone
	answered []router.Contact // whom it has asked
	silent   router.Contact   // the last, if that has not answered
	known    []router.Contact // whom they referred to
}

// recurse guides a get from a node to the item as the kernel half does on one of its paths: one query at a time, each to the closest contact
// of the answer before, as long as that is closer than the node that gave it. The first value ends it; so does silence,
// after which user space takes over.
func (w *world) recurse(from int) (recursed, error) {
	w.cost = traffic{}
	target := w.item.target
	v, err := w.newView(from, w.bits)
	if err != nil {
		return recursed{}, err
	}
	r := recursed{}
	next, known := nearest(target, v.AppendClosest(nil, router.IPv4, target))
	for known {
		answered, err := w.send(from, next, w.getQuery())
		if err != nil {
			return recursed{}, err
		}
		if !answered {
			r.silent = next
			break
		}
		r.answered = append(r.answered, next)
		r.hops++
		if r.right = w.msg.V != nil; r.right {
			break
		}
		for id, a := range krpc.Nodes(w.msg.Nodes) {
			r.known = append(r.known, router.Contact{ID: id, Addr: a})
		}
		closer, ok := nearest(target, w.msg.Nodes)
		known = ok && router.Closer(target, closer.ID, next.ID)
		next = closer
	}
	r.cost = w.cost
	return r, nil
}

// nearest returns the contact closest to a target in compact node info; false if there is none.
func nearest(target router.ID, nodes []byte) (c router.Contact, ok bool) {
	for id, a := range krpc.Nodes(nodes) {
		if !ok || router.Closer(target, id, c.ID) {
			c, ok = router.Contact{ID: id, Addr: a}, true
		}
	}
	return c, ok
}
