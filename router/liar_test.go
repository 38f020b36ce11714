package router_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// liar is a node that answers as its kind likes.
type liar struct {
	net  *simNet
	conn *simConn
	id   router.ID
	lie  func(l *liar, target router.ID, r *krpc.Message)
}

func anyID() (id router.ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// near returns an ID that shares n bits with a target.
func near(target router.ID, n int) router.ID {
	id := anyID()
	copy(id[:n/8], target[:n/8])
	return id
}

// lies are the kinds of liars.
var lies = map[string]func(l *liar, target router.ID, r *krpc.Message){
	"says that all the closest live at its own address": func(l *liar, target router.ID, r *krpc.Message) {
		for range 8 {
			r.Nodes = krpc.AppendNode(r.Nodes, near(target, 128), l.conn.local)
		}
	},
	"refers to ever closer nodes that do not exist": func(l *liar, target router.ID, r *krpc.Message) {
		for i := range 20 {
			b := anyID()
			r.Nodes = krpc.AppendNode(r.Nodes, near(target, 64+8*(i%8)), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, b[0], b[1]}), 1))
		}
	},
	"refers to addresses that are none": func(l *liar, target router.ID, r *krpc.Message) {
		for _, a := range []string{"0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "127.0.0.1:1", "10.0.0.1:1", "198.18.0.1:0"} {
			r.Nodes = krpc.AppendNode(r.Nodes, near(target, 100), netip.MustParseAddrPort(a))
		}
		id, mapped := near(target, 100), netip.MustParseAddr("::ffff:198.18.0.1").As16()
		r.Nodes6 = append(append(id[:], mapped[:]...), 0x1a, 0xe1)
	},
	"takes the ID that is best for each target": func(l *liar, target router.ID, r *krpc.Message) {
		r.ID = near(target, 144)
	},
	"says wrong IDs of real nodes": func(l *liar, target router.ID, r *krpc.Message) {
		for i := range 20 {
			r.Nodes = krpc.AppendNode(r.Nodes, near(target, 120), simAddr(router.IPv4, i))
		}
	},
	"refers to nodes without an ID": func(l *liar, target router.ID, r *krpc.Message) {
		for range 20 {
			b := anyID()
			r.Nodes = krpc.AppendNode(r.Nodes, router.ID{}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, b[0], b[1]}), 1))
		}
	},
	"refers to its accomplices under perfect IDs": func(l *liar, target router.ID, r *krpc.Message) {
		for i := range 20 {
			r.Nodes = krpc.AppendNode(r.Nodes, near(target, 152), simAddr(router.IPv4, liarsFrom+i))
		}
	},
	"forges values and peers": func(l *liar, target router.ID, r *krpc.Message) {
		r.V = []byte("6:forged")
		r.K, r.Sig, r.Seq, r.HasSeq = make([]byte, 32), make([]byte, 64), 1<<60, true
		r.Values = krpc.AppendPeer(nil, netip.MustParseAddrPort("0.0.0.0:0"))
	},
}

// run answers queries until the socket is closed.
func (l *liar) run() {
	ps := []router.Packet{{Data: make([]byte, 2048)}}
	for {
		if _, err := l.conn.ReadBatch(ps); errors.Is(err, net.ErrClosed) {
			return
		}
		var m krpc.Message
		if krpc.Decode(ps[0].Data, &m) != nil || m.Type != krpc.TypeQuery {
			continue
		}
		r := krpc.Message{Type: krpc.TypeResponse, TID: m.TID, ID: l.id, HasID: true, Token: []byte("liar")}
		target := m.Target
		if m.HasInfoHash {
			target = m.InfoHash
		}
		if m.Method != krpc.MethodPing {
			l.lie(l, target, &r)
		}
		b, err := r.Append(nil)
		if err != nil {
			panic(err)
		}
		l.net.send(l.conn, ps[0].Addr, b)
	}
}

// meet makes the liar known to a node: by a query of its own.
func (l *liar) meet(n *simNode) {
	m := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), ID: l.id, HasID: true}
	b, _ := m.Append(nil)
	l.net.send(l.conn, n.addr, b)
}

// liarsFrom is the number of the first address of a liar.
const liarsFrom = 200

// A fifth of the nodes lie, all in the same way. Lookups stay bounded, and find what honest nodes store.
func TestLookupsAmongLiars(t *testing.T) {
	const honest, liars = 80, 20
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimNet(2)
				fleet := s.startSim(t, honest, router.IPv4)
				for i := range liars {
					l := &liar{net: s, conn: s.listen(simAddr(router.IPv4, liarsFrom+i)), lie: lie}
					l.id = krpc.NodeIDFor(l.conn.local.Addr(), byte(i), anyID())
					go l.run()
					t.Cleanup(func() { _ = l.conn.Close() })
					for j := range fleet {
						if (i+j)%4 == 0 {
							l.meet(fleet[j])
						}
					}
				}
				time.Sleep(5 * time.Minute)
				var worst router.LookupStats
				for i := range 30 {
					put, err := fleet[i].PutImmutable(t.Context(), fmt.Appendf(nil, "i%de", i))
					if err != nil {
						t.Fatalf("put: %+v, %v", put, err)
					}
					kept := 0
					for _, n := range fleet {
						if n.store.Holds(put.Target) {
							kept++
						}
					}
					got, err := fleet[(i*37+11)%honest].GetImmutable(t.Context(), put.Target)
					if err != nil {
						t.Errorf("get of what %d honest nodes hold: %+v, %v", kept, got, err)
						continue
					}
					worst.Queried = max(worst.Queried, got.Stats.Queried, put.Stats.Queried)
					worst.Duration = max(worst.Duration, got.Stats.Duration, put.Stats.Duration)
				}
				t.Logf("at most %d queries and %v", worst.Queried, worst.Duration)
				if worst.Queried > 130 || worst.Duration > 30*time.Second {
					t.Error("a lookup took too long")
				}
				for _, n := range fleet {
					n.stop()
				}
			})
		})
	}
}
