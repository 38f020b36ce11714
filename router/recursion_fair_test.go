package router_test

import (
	"slices"
	"testing"
	"time"

	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// startResolver starts a node with recursion in a network of others, in which no destination is the bottleneck.
func startResolver(t *testing.T, s *simNet, c router.Recursion) (n *simNode, stop func()) {
	t.Helper()
	return startResolverWith(t, s, c, limit.Config{})
}

// startResolverWith starts one that holds senders to limits.
func startResolverWith(t *testing.T, s *simNet, c router.Recursion, limits limit.Config) (n *simNode, stop func()) {
	t.Helper()
	fleet := s.startSim(t, 60, router.IPv4)
	time.Sleep(time.Minute)
	n = s.start(t, router.Config{
		Bootstrap: []string{fleet[0].addr.String()}, Recursion: c, Limits: limits, Tuning: router.Tuning{QueryRatePerNode: 1000},
	}, newMemStore(), simAddr(router.IPv4, 100))
	time.Sleep(time.Minute)
	return n, func() {
		n.stop()
		stopAll(fleet)
	}
}

// coldClient asks for the nodes around ever other targets, and counts the answers.
type coldClient struct {
	*rdClient
	asked, found int
	took         []time.Duration
}

// run asks width at a time until the time is over: the next one when one is answered.
func (a *coldClient) run(first byte, width int, pause, length time.Duration) {
	end := time.Now().Add(length)
	sent := make(map[string]time.Time)
	ask := func() {
		a.asked++
		q := krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{byte(a.asked), byte(a.asked >> 8), first}, HasTarget: true, Recursive: true}
		b := a.datagram(q)
		a.send(b)
		var m krpc.Message
		if krpc.Decode(slices.Clone(b), &m) == nil {
			sent[string(m.TID)] = time.Now()
		}
	}
	for range width {
		ask()
	}
	for len(sent) > 0 {
		r, _ := a.receive(answerTime)
		if r == nil {
			return
		}
		a.took = append(a.took, time.Since(sent[string(r.TID)]))
		delete(sent, string(r.TID))
		if r.HasRecursive && r.Recursive {
			a.found++
		}
		if time.Sleep(pause); time.Now().Before(end) {
			ask()
		}
	}
}

// A node carries out some dozens of cold recursions per second, however many clients ask, and those who ask for little do not wait
// for those who ask for much.
func TestRecursionIsFair(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, stop := startResolver(t, s, recursion)
		const greedy, modest = 12, 4
		const length = 20 * time.Second
		all := make([]*coldClient, greedy+modest)
		done := make(chan int)
		for i := range all {
			all[i] = &coldClient{rdClient: s.client(t, clientAddr(router.IPv4, i), n.addr)}
			go func() {
				width, pause := 24, time.Duration(0)
				if i >= greedy {
					width, pause = 1, 500*time.Millisecond
				}
				all[i].run(byte(i), width, pause, length)
				done <- i
			}()
		}
		for range all {
			<-done
		}
		asked, found := 0, 0
		var waited []time.Duration
		for i, a := range all {
			if i < greedy {
				asked += a.asked
				found += a.found
				continue
			}
			waited = append(waited, a.took...)
			if a.found < a.asked || a.asked < 10 {
				t.Errorf("a client that asks now and then: %d of %d found", a.found, a.asked)
			}
		}
		slices.Sort(waited)
		rate := float64(found) / length.Seconds()
		t.Logf("%d clients with 24 queries under way: %d of %d, %.0f/s; %d that ask now and then: median %v, at most %v",
			greedy, found, asked, rate, modest, waited[len(waited)/2], waited[len(waited)-1])
		if rate < 20 {
			t.Errorf("%.0f recursions per second", rate)
		}
		if most := waited[len(waited)-1]; most > 3*time.Second {
			t.Errorf("a client that asks now and then waited %v", most)
		}
		stop()
	})
}

// Of a recursion whose queries had to wait for their turn, the client hears that it is complete, if in the end everybody close was
// asked.
func TestRecursionWaitsForItsTurn(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		c := recursion
		c.QueryRate = 60
		n, stop := startResolver(t, s, c)
		s.setLatency(200*time.Microsecond, 300*time.Microsecond) // the budget is all there is to wait for
		client := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		for i := range 20 {
			begin := time.Now()
			q := krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{byte(i * 13)}, HasTarget: true}
			r := client.ask(q)
			if r == nil || !r.HasRecursive || !r.Recursive {
				t.Errorf("%d, after %v: %s", i, time.Since(begin), brief(r))
			}
		}
		stop()
	})
}
