package router_test

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// Whoever forges the addresses of clients has the node send hardly anything to others, whether he has it look things up or put them. Meanwhile a
// client that has proved its address is served as ever, and one that has not is asked to, and then is as well.
func TestForgedClientsCountAsOne(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		c := recursion
		c.QueryRate = 800
		n, stop := startResolverWith(t, s, c, limit.Config{Growth: 1 << 40})
		var queries atomic.Int64
		s.tapQueries(func(from, _ netip.AddrPort, q *krpc.Message) {
			if from == n.addr && q.Method != krpc.MethodPing { // by those it finds out who is a node
				queries.Add(1)
			}
		})
		forged := 0
		flood := func(length time.Duration) {
			conn := s.conns[n.addr]
			for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				forged++
				m := krpc.Message{Method: krpc.MethodFindNode, HasTarget: true}
				switch forged % 3 {
				case 1:
					m = krpc.Message{Method: krpc.MethodGet, HasTarget: true}
				case 2:
					m = recursivePut(router.Item{V: []byte("1:" + string(rune('a'+forged%26)))})
				}
				m.Type, m.TID, m.HasID, m.Recursive = krpc.TypeQuery, []byte("aa"), true, true
				binary.BigEndian.PutUint64(m.Target[:], uint64(forged)*0x9e3779b97f4a7c15)
				b, err := m.Append(nil)
				if err != nil {
					t.Error(err)
					return
				}
				conn.inbox <- router.Packet{Data: b, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(forged >> 8), byte(forged)}), 4000)}
			}
		}
		const length = 10 * time.Second
		flood(length)
		time.Sleep(answerTime)
		// What may be sent at once, and what in the time until the last has ended; puts are sent on to those who were found.
		most := int64(800/8*(length+answerTime).Seconds()) * 3 / 2
		t.Logf("%d queries sent because of %d from forged addresses", queries.Load(), forged)
		if got := queries.Load(); got == 0 || got > most {
			t.Errorf("%d queries sent because of %d from forged addresses, want at most %d", got, forged, most)
		}

		token := n.View().Token(clientAddr(router.IPv4, 0).Addr())
		honest := &coldClient{rdClient: s.client(t, clientAddr(router.IPv4, 0), n.addr)}
		honest.send(honest.datagram(announce(router.ID{1}, token[:], 9)))
		if r, _ := honest.receive(answerTime); r == nil || r.Type != krpc.TypeResponse {
			t.Fatalf("announced: %s", brief(r))
		}
		fresh := s.client(t, clientAddr(router.IPv4, 1), n.addr)
		done := make(chan bool)
		go func() { flood(length); done <- true }()
		go func() { honest.run(1, 4, 50*time.Millisecond, length); done <- true }()
		time.Sleep(time.Second)
		q := krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{77}, HasTarget: true, Recursive: true}
		var r *krpc.Message
		for range 3 { // it may have had a place among those who may be forged, and not its turn in time
			fresh.send(fresh.datagram(q))
			if r, _ = fresh.receive(answerTime); r == nil || r.Recursive {
				break
			}
			if r.Method == krpc.MethodPing && len(r.TID) == 8 {
				b, err := (&krpc.Message{Type: krpc.TypeResponse, TID: r.TID, HasID: true}).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				fresh.send(b)
				time.Sleep(time.Second) // on the way it and the query after it may change places
			}
		}
		if r == nil || r.Type != krpc.TypeResponse || !r.Recursive {
			t.Errorf("a client that answers when it is asked for a proof: %s", brief(r))
		}
		<-done
		<-done
		if honest.found < honest.asked || honest.asked < 50 {
			t.Errorf("a client that has proved its address: %d of %d found", honest.found, honest.asked)
		}
		stop()
	})
}

// One client that never proved its address and asks for more than it may does not keep another one from being answered.
func TestClientsWithoutProofShare(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, stop := startResolverWith(t, s, recursion, limit.Config{Growth: 1 << 40})
		find := func(c *rdClient, i int) {
			q := krpc.Message{Method: krpc.MethodFindNode, HasTarget: true, Recursive: true}
			binary.BigEndian.PutUint64(q.Target[:], uint64(i+1)*0x9e3779b97f4a7c15)
			c.send(c.datagram(q))
		}
		greedy, modest := s.client(t, clientAddr(router.IPv4, 0), n.addr), s.client(t, clientAddr(router.IPv4, 1), n.addr)
		for i := range 500 {
			find(greedy, i)
		}
		time.Sleep(50 * time.Millisecond)
		find(modest, 1000)
		if r, _ := modest.receive(answerTime); r == nil || r.Type != krpc.TypeResponse || !r.Recursive {
			t.Error(brief(r))
		}
		time.Sleep(answerTime)
		stop()
	})
}
