package main

import (
	"bytes"
	"fmt"
	"net"
	"time"

	"kdht/router/krpc"
)

const (
	// itemCount is how many items are stored and asked for.
	itemCount = 16
	// itemAsks is how often each is asked for before it is measured: a node that answers from somewhere faster what is
	// asked for often does so by then.
	itemAsks = 20
	// headroom is how much a frame can surely grow at its head.
	headroom = 212
)

// itemMark is in every item.
var itemMark = bytes.Repeat([]byte("k"), 32)

// items are the values that are stored, of the kind's size.
func (k kind) items() (all [][]byte) {
	for i := range itemCount {
		text := bytes.Repeat([]byte("k"), k.value-len(fmt.Sprint(k.value)))
		copy(text[len(text)-4:], fmt.Sprintf("%04d", i))
		all = append(all, fmt.Appendf(nil, "%d:%s", len(text), text))
	}
	return all
}

// reply is how long the frame of a reply with such an item is. A driver receives into a buffer in which there is room for
// that; a veth copies each frame into one that it fits, so the generator's frames are padded to what the head does not
// give. The reflector has the same frames.
func (k kind) reply() int {
	return headersLen + len("d2:ip6:......1:rd2:id20:....................5:nodes208:") + 208 +
		len("5:token8:........1:v") + k.value + len("e1:t4:....1:v4:....1:y1:re")
}

// store puts the items of a kind at the node, and asks for them.
func (r *rig) store(k kind) error {
	if k.value == 0 {
		return nil
	}
	conn, err := r.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, v := range k.items() {
		target := krpc.ImmutableTarget(v)
		get := krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}
		got, err := exchange(conn, get)
		if err != nil {
			return err
		}
		if _, err := exchange(conn, krpc.Message{Method: krpc.MethodPut, Token: got.Token, V: v}); err != nil {
			return err
		}
		for range itemAsks {
			if got, err = exchange(conn, get); err != nil {
				return err
			}
			if !bytes.Equal(got.V, v) {
				return fmt.Errorf("a get for an item of %d bytes that was put gives %d bytes", len(v), len(got.V))
			}
		}
	}
	time.Sleep(200 * time.Millisecond) // so that what becomes hot is
	return nil
}

// exchange sends a query and returns the response.
func exchange(conn net.Conn, q krpc.Message) (*krpc.Message, error) {
	q.Type, q.TID, q.HasID, q.ReadOnly = krpc.TypeQuery, []byte("st"), true, true
	out, err := q.Append(nil)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 2048)
	for range 5 {
		if _, err := conn.Write(out); err != nil {
			return nil, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return nil, err
		}
		for {
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			var m krpc.Message
			if krpc.Decode(buf[:n], &m) != nil || string(m.TID) != "st" {
				continue
			}
			if m.Type != krpc.TypeResponse {
				return nil, fmt.Errorf("%v: error %d, %s", q.Method, m.Err.Code, m.Err.Text)
			}
			return &m, nil
		}
	}
	return nil, fmt.Errorf("%v: no answer", q.Method)
}
