package conformance_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kdht/router/krpc"
)

const (
	stormRounds  = 3
	stormWriters = 64
	// stormAcks is after how many acknowledged puts the node is killed.
	stormAcks = 700
)

// TestKillDuringPuts kills the node with SIGKILL while many clients put items, and starts it again on the same state.
// Every item whose put was acknowledged has to be there, and tokens from before are still good.
func TestKillDuringPuts(t *testing.T) {
	for _, mode := range modes {
		t.Run("xdp "+mode, func(t *testing.T) {
			r, state := newRig(t), t.TempDir()
			s := &storm{acked: make(map[krpc.ID]krpc.Message)}
			for i := range stormWriters {
				s.writers = append(s.writers, &writer{key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32)), seq: make(map[string]int64)})
			}
			n := r.serve(t, mode, state)
			for round := range stormRounds {
				begin := time.Now()
				acks := s.run(t, r, n)
				killed := time.Now()
				n = r.serve(t, mode, state)
				t.Logf("round %d: killed after %d acknowledgements in %v; it serves again %v later", round+1, acks,
					killed.Sub(begin).Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
				s.check(t, r)
			}
			pins := n.status(t).XDP.PinDir
			n.stop(t)
			if _, err := os.Stat(pins); pins != "" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after a clean stop there is something in %s: %v", pins, err)
			}
		})
	}
}

// storm is all that was put.
type storm struct {
	writers []*writer

	mu    sync.Mutex
	acked map[krpc.ID]krpc.Message // the last acknowledged version of each item
	acks  int                      // in this round
	over  chan struct{}            // closed when they are enough
}

// writer is a client that puts one item after the other.
type writer struct {
	key   ed25519.PrivateKey
	token []byte
	n     int
	seq   map[string]int64 // by salt
}

// run lets the writers write until the node is killed, and returns the number of acknowledgements.
func (s *storm) run(t *testing.T, r *rig, n *node) int {
	t.Helper()
	s.acks, s.over = 0, make(chan struct{})
	var wg sync.WaitGroup
	var clients []*client
	var killed atomic.Bool
	errs := make(chan error, len(s.writers))
	for i, w := range s.writers {
		to := node4
		if i%3 == 2 {
			to = node6
		}
		c := r.dial(t, netip.AddrPortFrom(swarmAddr(to.Addr().Is6(), 1000+i), 0), to)
		clients = append(clients, c)
		wg.Go(func() {
			err := w.write(s, c)
			if killed.Load() && !errors.Is(err, errRefused) {
				err = nil // as it should be
			}
			errs <- err
		})
	}
	select {
	case <-s.over:
	case <-time.After(patience):
		t.Errorf("too few acknowledgements in %v", patience)
	}
	killed.Store(true)
	n.kill()
	for _, c := range clients {
		_ = c.conn.Close() // ends the writers
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	return s.acks
}

var errRefused = errors.New("put refused")

// write puts items until one is not acknowledged, and says why.
func (w *writer) write(s *storm, c *client) error {
	for {
		if w.token == nil {
			m, err := w.exchange(c, krpc.Message{Method: krpc.MethodGet, Target: krpc.ID{1}, HasTarget: true})
			if err != nil {
				return err
			}
			w.token = m.Token
		}
		it := w.next()
		q := put(it)
		q.Token = w.token
		m, err := w.exchange(c, q)
		if err != nil {
			return err
		}
		if m.Type != krpc.TypeResponse {
			return fmt.Errorf("%w: %s", errRefused, describe(m))
		}
		s.mu.Lock()
		s.acked[targetOf(it)] = it
		if s.acks++; s.acks == stormAcks {
			close(s.over)
		}
		s.mu.Unlock()
	}
}

func (w *writer) exchange(c *client, q krpc.Message) (*krpc.Message, error) {
	q.Type, q.TID, q.ID, q.HasID = krpc.TypeQuery, fmt.Appendf(nil, "%d", w.n), krpc.ID{5}, true
	b, err := q.Append(nil)
	if err != nil {
		return nil, err
	}
	_, m, err := c.answer(b)
	return m, err
}

// next makes the next item: an immutable one, or the next version of a mutable one.
func (w *writer) next() krpc.Message {
	w.n++
	text := fmt.Sprintf("%x %d", w.key.Seed()[:1], w.n)
	v := []byte(str(text + string(make([]byte, w.n%5*150))))
	if w.n%2 == 0 {
		return krpc.Message{V: v}
	}
	salt := fmt.Sprint("salt ", w.n%7)
	w.seq[salt]++
	seq := w.seq[salt]
	return krpc.Message{K: w.key.Public().(ed25519.PublicKey), Salt: []byte(salt), Seq: seq, HasSeq: true, V: v, Sig: krpc.Sign(w.key, []byte(salt), seq, v)}
}

// check gets everything that was ever acknowledged. Of a mutable item there may be a later version, whose
// acknowledgement did not come.
func (s *storm) check(t *testing.T, r *rig) {
	t.Helper()
	cs := [2]*client{r.dial(t, netip.AddrPortFrom(client4, 0), node4), r.dial(t, netip.AddrPortFrom(client6, 0), node6)}
	lost, i := 0, 0
	for target, it := range s.acked {
		i++
		m := ask(t, cs[i%2], krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true})
		ok := bytes.Equal(m.V, it.V)
		if it.K != nil {
			ok = bytes.Equal(m.K, it.K) && krpc.Verify(m.K, it.Salt, m.Seq, m.V, m.Sig) && (m.Seq > it.Seq || m.Seq == it.Seq && ok)
		}
		if !ok {
			if lost++; lost <= 5 {
				t.Errorf("get %s: %s with %q, seq %d; acknowledged was %q, seq %d", target, describe(m), clip(m.V), m.Seq, clip(it.V), it.Seq)
			}
		}
	}
	t.Logf("%d items looked for, %d lost", len(s.acked), lost)
}
