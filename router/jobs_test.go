package router_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// slowStore takes its time for each put, as a disk does.
type slowStore struct {
	*memStore
	pause time.Duration
}

func (s *slowStore) PutItem(it *store.Item, cas *int64, from netip.Addr) error {
	time.Sleep(s.pause)
	return s.memStore.PutItem(it, cas, from)
}

// Who puts without end is told to wait; others are not.
func TestOneSourceCannotTakeAllWrites(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, err := router.New(router.Config{
			Conns: []router.Conn{s.listen(simAddr(router.IPv4, 0))},
			Store: &slowStore{newMemStore(), time.Second},
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- n.Run(ctx) }()
		put := func(from *simConn, i int) {
			token := n.View().Token(from.local.Addr())
			q := krpc.Message{
				Type: krpc.TypeQuery, Method: krpc.MethodPut, TID: []byte("aa"), ID: router.ID{1}, HasID: true, ReadOnly: true,
				Token: token[:], V: fmt.Appendf(nil, "i%de", i),
			}
			b, err := q.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.send(from, simAddr(router.IPv4, 0), b)
		}
		answer := func(from *simConn) krpc.Message {
			ps := []router.Packet{{Data: make([]byte, 2048)}}
			var m krpc.Message
			if _, err := from.ReadBatch(ps); err != nil {
				t.Fatal(err)
			}
			if err := krpc.Decode(ps[0].Data, &m); err != nil {
				t.Fatal(err)
			}
			return m
		}
		greedy, modest := s.listen(simAddr(router.IPv4, 1)), s.listen(simAddr(router.IPv4, 2))
		for i := range 1000 {
			put(greedy, i)
		}
		time.Sleep(300 * time.Millisecond)
		put(modest, 5000)
		if m := answer(modest); m.Type != krpc.TypeResponse {
			t.Errorf("the put of another is answered %v %+v", m.Type, m.Err)
		}
		stored := 0
		for range 1000 {
			if m := answer(greedy); m.Type == krpc.TypeResponse {
				stored++
			}
		}
		if stored < 10 || stored > 200 {
			t.Errorf("%d of 1000 puts from one source are stored at once", stored)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
