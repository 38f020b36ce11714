package sim

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

const (
	// headers is what IPv4 and UDP add to every message, in bytes.
	headers = 20 + 8
	// maxViews bounds how many nodes' views are kept; what one lookup has visited, another may.
	maxViews = 4096
)

// epoch is when virtual time begins.
var epoch = time.Unix(1_000_000_000, 0)

// world is a network with tables and dead nodes, as one worker sees it. It is not safe for concurrent use.
type world struct {
	*network
	bits   int     // b of whoever asks
	others int     // b of those that answer
	dead   float64 // share of the nodes that do not answer

	views map[int]*router.View // of those that answer; the oldest makes room for another
	order []int                // nodes whose views are kept
	next  int                  // place in order of the oldest
	table []int
	query []byte
	reply []byte
	msg   krpc.Message
	tid   [4]byte
	item  item
	cost  traffic
}

// item is what a get looks for.
type item struct {
	target  router.ID
	holders []int // nodes
}

// value is the bencoded value of every item, of 100 bytes.
var value = append([]byte("100:"), make([]byte, 100)...)

// traffic counts messages, both ways.
type traffic struct {
	messages int
	bytes    int // with IPv4 and UDP headers
}

func (t *traffic) add(message []byte) {
	t.messages++
	t.bytes += headers + len(message)
}

func newWorld(net *network, bits, others int) *world {
	return &world{network: net, bits: bits, others: others, views: make(map[int]*router.View), tid: [4]byte{'s', 'i', 'm', 0}}
}

// view returns what a node answers others from.
func (w *world) view(node int) (*router.View, error) {
	if v := w.views[node]; v != nil {
		return v, nil
	}
	v, err := w.newView(node, w.others)
	if err != nil {
		return nil, err
	}
	if len(w.order) < maxViews {
		w.order = append(w.order, node)
	} else {
		delete(w.views, w.order[w.next])
		w.order[w.next] = node
		w.next = (w.next + 1) % maxViews
	}
	w.views[node] = v
	return v, nil
}

// newView returns the view of a node's table with b bits to a level.
func (w *world) newView(node, bits int) (*router.View, error) {
	w.table = w.appendTable(w.table[:0], node, bits)
	s := &bpf.Snapshot{Bits: bits, ID4: w.ids[node], Nodes4: make([][krpc.Node4Len]byte, len(w.table))}
	for i, c := range w.table {
		n := &s.Nodes4[i]
		copy(n[:], w.ids[c][:])
		ip := addr(c).Addr().As4()
		copy(n[20:], ip[:])
		n[24], n[25] = port>>8, port&0xff
	}
	v, err := router.NewView(s)
	if err != nil {
		return nil, fmt.Errorf("sim: view of node %d: %w", node, err)
	}
	return v, nil
}

// newTable returns the table of a node whose contacts have all answered, one after the other since some time ago.
func (w *world) newTable(node int, since time.Duration) *router.Table {
	t := router.NewTable(router.TableConfig{Self: w.ids[node], Family: router.IPv4, Private: true, Bits: w.bits, Rand: w.newRand(node)})
	w.table = w.appendTable(w.table[:0], node, w.bits)
	for i, c := range w.table {
		ago := since - since*time.Duration(i)/time.Duration(len(w.table))
		t.Responded(w.contact(c), w.roundTrip(node, c), epoch.Add(-ago))
	}
	return t
}

// newRand returns the source of what a node draws at random.
func (w *world) newRand(node int) io.Reader {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], w.seed)
	binary.BigEndian.PutUint64(seed[8:], uint64(node))
	return rand.NewChaCha8(seed)
}

// send sends a query from a node to another, which answers it in w.msg unless it is dead. What is exchanged is counted.
func (w *world) send(from int, to router.Contact, q krpc.Message) (answered bool, err error) {
	q.Type, q.TID, q.Version = krpc.TypeQuery, w.tid[:], []byte(krpc.Version)
	q.ID, q.HasID = w.ids[from], true
	if w.query, err = q.Append(w.query[:0]); err != nil {
		return false, fmt.Errorf("sim: query: %w", err)
	}
	w.cost.add(w.query)
	node := nodeAt(to.Addr)
	if !w.alive(node, w.dead) {
		return false, nil
	}
	if err := krpc.Decode(w.query, &w.msg); err != nil {
		return false, fmt.Errorf("sim: query: %w", err)
	}
	v, err := w.view(node)
	if err != nil {
		return false, err
	}
	var ok bool
	if w.reply, ok = v.Answer(w.reply[:0], &w.msg, addr(from)); !ok {
		return false, fmt.Errorf("sim: node %d has no answer to %q", node, w.query)
	}
	if q.Method == krpc.MethodGet && q.Target == w.item.target && slices.Contains(w.item.holders, node) {
		if err := w.addValue(); err != nil {
			return false, err
		}
	}
	w.cost.add(w.reply)
	if err := krpc.Decode(w.reply, &w.msg); err != nil {
		return false, fmt.Errorf("sim: response: %w", err)
	}
	return true, nil
}

// addValue puts the value of the item into the reply, as a node does that holds it.
func (w *world) addValue() error {
	var m krpc.Message
	if err := krpc.Decode(w.reply, &m); err != nil {
		return fmt.Errorf("sim: response: %w", err)
	}
	m.V = value
	b, err := m.Append(nil)
	if err != nil {
		return fmt.Errorf("sim: response: %w", err)
	}
	w.reply = b
	return nil
}
