package sim

import (
	"container/heap"
	"slices"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// When a query has no answer: the router calls a node slow after its estimate of round-trip times, for which those of
// this network make its minimum, asks once more, and gives up after its 6 seconds.
const (
	slowAfter = 300 * time.Millisecond
	patience  = 6 * time.Second
)

// event is what comes of a query in virtual time: a response, or none for some time, or for good.
type event struct {
	at       time.Duration // after epoch
	order    int           // of events at the same time
	to       router.Contact
	response *krpc.Message
	slow     bool
}

// events is a heap of what is to come.
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// search carries a lookup of a node out. onAnswer looks at every response; true ends the lookup.
func (w *world) search(from int, s *router.Search, q krpc.Message, begin time.Duration, onAnswer func(router.Contact, *krpc.Message) bool) error {
	var coming events
	now, order := begin, 0
	push := func(e event) {
		order++
		e.order = order
		heap.Push(&coming, e)
	}
	for {
		for c, ask := s.Next(epoch.Add(now)); ask; c, ask = s.Next(epoch.Add(now)) {
			answered, err := w.send(from, c, q)
			switch {
			case err != nil:
				return err
			case answered:
				push(event{at: now + w.roundTrip(from, nodeAt(c.Addr)), to: c, response: w.response()})
			default:
				push(event{at: now + slowAfter, to: c, slow: true})
				push(event{at: now + patience, to: c})
			}
		}
		done, wait := s.Done(epoch.Add(now))
		if done || len(coming) == 0 {
			return nil
		}
		if wait > 0 && now+wait < coming[0].at {
			now += wait
			continue
		}
		e := heap.Pop(&coming).(event)
		now = e.at
		switch {
		case e.slow:
			s.Slow(e.to)
			if _, err := w.send(from, e.to, q); err != nil { // once more, as lost as the first
				return err
			}
		case e.response == nil:
			s.Failed(e.to)
		default:
			s.Answered(e.to, e.response)
			if onAnswer != nil && onAnswer(e.to, e.response) {
				return nil
			}
		}
	}
}

// response returns what a lookup needs of the last response, in memory of its own.
func (w *world) response() *krpc.Message {
	return &krpc.Message{Type: w.msg.Type, HasID: true, ID: w.msg.ID, Nodes: slices.Clone(w.msg.Nodes), V: slices.Clone(w.msg.V)}
}

// found is the outcome of a lookup.
type found struct {
	hops  int // queries in the longest chain of referrals that led to a node that answered
	cost  traffic
	right bool    // exactly the closest nodes, or the value
	share float64 // of the closest nodes
}

// findNode looks up the 8 nodes closest to a target, as [router.Node.FindNode] does.
func (w *world) findNode(from int, target router.ID) (found, error) {
	w.cost = traffic{}
	s := router.NewSearch(w.newTable(from, 0), addr(from), target)
	q := krpc.Message{Method: krpc.MethodFindNode, Target: target, HasTarget: true}
	if err := w.search(from, s, q, 0, nil); err != nil {
		return found{}, err
	}
	var got []int
	for _, c := range s.Closest() {
		got = append(got, nodeAt(c.Addr))
	}
	want := w.closest(target, bucketSize, func(i int) bool { return i != from && w.alive(i, w.dead) })
	f := found{hops: s.Hops() + 1, cost: w.cost, right: slices.Equal(got, want)}
	for _, node := range want {
		if slices.Contains(got, node) {
			f.share += 1 / float64(len(want))
		}
	}
	return f, nil
}

// put stores an item on the nodes that are closest to its target before any die.
func (w *world) put(target router.ID) {
	w.item = item{target: target, holders: w.closest(target, bucketSize, func(int) bool { return true })}
}

// get looks the item up from a node, three queries at a time, until there is a value. begun is what the kernel half has found
// out, if it is not nil.
func (w *world) get(from int, begun *recursed) (found, error) {
	w.cost = traffic{}
	s := router.NewSearch(w.newTable(from, 0), addr(from), w.item.target)
	if begun != nil {
		for _, c := range begun.answered {
			s.Asked(c, true)
		}
		if begun.silent.Addr.IsValid() {
			s.Asked(begun.silent, false)
		}
		for _, c := range begun.known {
			s.Add(c)
		}
	}
	f := found{}
	err := w.search(from, s, w.getQuery(), 0, func(_ router.Contact, r *krpc.Message) bool {
		f.right = r.V != nil
		return f.right
	})
	f.hops, f.cost = s.Hops()+1, w.cost
	return f, err
}

func (w *world) getQuery() krpc.Message {
	return krpc.Message{Method: krpc.MethodGet, Target: w.item.target, HasTarget: true}
}
