package router_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// Of senders who never proved where they are the table hears of few at a time, however many there are; of who has proved it also in the
// middle of them, and of an honest newcomer within seconds after them.
func TestFewUnprovenSendersAreHeardOf(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Limits: limit.Config{Growth: 1 << 40}}, newMemStore(), simAddr(router.IPv4, 0))
		heard := func() uint64 { return counter(n.Stats(), "sighting", "seen") }
		ask := func(from netip.AddrPort, id router.ID) {
			m := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), ID: id, HasID: true}
			b, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.deliver(n.addr, router.Packet{Data: b, Addr: from})
		}
		time.Sleep(time.Second)
		begin := time.Now()
		for i := range 20000 {
			var a [4]byte
			var id router.ID
			binary.BigEndian.PutUint32(a[:], 7<<24+uint32(i))
			binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15)
			ask(netip.AddrPortFrom(netip.AddrFrom4(a), 6881), id)
			if i%100 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		most := 2 * (2 + uint64(time.Since(begin)>>25)) // of the first round and the last there may be but a part
		if got := heard(); got == 0 || got > most {
			t.Errorf("the table has heard of %d senders who may be forged, want at most %d", got, most)
		}
		newcomer := s.start(t, router.Config{Bootstrap: []string{n.addr.String()}}, newMemStore(), simAddr(router.IPv4, 1))
		time.Sleep(10 * time.Second)
		if got := n.Stats().Families[0].Contacts; got != 1 {
			t.Errorf("%d contacts after 5 s, want the newcomer", got)
		}
		// It has proved where it is: under another ID it is heard of although others come first.
		before := heard()
		for i := range 10 {
			ask(netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 0, 0, byte(i)}), 6881), router.ID{byte(i)})
		}
		ask(simAddr(router.IPv4, 1), router.ID{99})
		time.Sleep(time.Millisecond)
		if got := heard() - before; got != 3 {
			t.Errorf("the table has heard of %d senders, want two who may be forged, and one who is not", got)
		}
		newcomer.stop()
		n.stop()
	})
}
