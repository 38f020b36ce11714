package conformance_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"kdht/router/krpc"
)

// wants says what has to come back.
const (
	wantAnswer  = "answer" // a response
	wantSilence = "silent"
	wantNodes   = "find_node" // a response with contacts
)

// wantError is an error message with a code.
func wantError(code int) string { return fmt.Sprintf("error %d", code) }

// testRecorded sends all recorded datagrams and all parser cases to both nodes, from the same address and port, in
// both families.
func testRecorded(t *testing.T, p *pair) {
	v := theVectors(t)
	var all []example
	for _, d := range slices.Concat(v.Datagrams, v.Replies) {
		want := wantAnswer
		switch d.Kind {
		case "reply", "error": // nobody asked
			want = wantSilence
		case "put", "announce_peer": // their tokens are those of others
			want = wantError(krpc.ErrCodeProtocol)
		case "find_node", "get_peers", "get":
			want = wantNodes
		case "punch":
			want = wantError(krpc.ErrCodeMethod)
		case "(none)": // "de"
			want = wantSilence
		}
		all = append(all, example{d.ID, string(d.Hex), want})
		if d.QueryHex != nil {
			all = append(all, example{d.ID + ", its query", string(d.QueryHex), ""})
		}
	}
	table := outcomes(t)
	for _, c := range v.Tolerance.Cases {
		if table[c.Name] == "" {
			t.Errorf("%s: not in the table", c.Name)
		}
		all = append(all, example{c.Name, string(c.Hex), table[c.Name]})
	}
	if len(v.Datagrams) != 110 || len(v.Replies) != 102 || len(v.Tolerance.Cases) != 50 {
		t.Errorf("%d datagrams, %d replies, %d cases, want 110, 102, 50", len(v.Datagrams), len(v.Replies), len(v.Tolerance.Cases))
	}
	answered := 0
	for _, to := range []netip.AddrPort{node4, node6} {
		cs := p.clients(t, clientFor(to), to)
		before := p.nodes[0].counters(t)
		for _, e := range all {
			if p.same(t, cs, e.name, []byte(e.datagram), e.want) != nil {
				answered++
			}
		}
		d := p.nodes[0].counters(t).since(before)
		t.Logf("%v: the kernel half answered %d queries", to, d["xdp/answered"])
		if d["xdp/answered"] < 30 {
			t.Errorf("%v: the kernel half answered only %d queries", to, d["xdp/answered"])
		}
	}
	testWrites(t, p)
	t.Logf("%d datagrams sent to each node in each family, %d answers compared", len(all), answered)
}

// testWrites sends the recorded puts and announces with a token that is right.
func testWrites(t *testing.T, p *pair) {
	for _, to := range []netip.AddrPort{node4, node6} {
		cs := p.clients(t, otherFor(to), to)
		token := askToken(t, cs[0])
		for _, d := range theVectors(t).Datagrams {
			if d.Kind != "put" && d.Kind != "announce_peer" {
				continue
			}
			var m krpc.Message
			must(t, krpc.Decode(d.Hex, &m))
			b := bytes.Replace(d.Hex, []byte("5:token"+str(m.Token)), []byte("5:token"+str(token)), 1)
			answer := p.same(t, cs, d.ID+" with a good token", b, "")
			if answer == nil {
				continue
			}
			switch got := outcomeOf(answer); got {
			case wantAnswer, errCAS, errSeq: // some are about the same item
			default:
				t.Errorf("%s with a good token: %s", d.ID, describe(answer))
			}
		}
	}
}

// same sends a datagram to both nodes, which have to do the same with it, and what is wanted if that is not empty. It
// returns the answer, nil for silence.
func (p *pair) same(t *testing.T, cs [2]*client, name string, b []byte, want string) *krpc.Message {
	t.Helper()
	var raw [2][]byte
	var ms [2]*krpc.Message
	for i, c := range cs {
		silent := want == wantSilence
		if want == "" {
			silent = !answerable(b)
		}
		var err error
		if silent {
			if _, err = c.conn.Write(b); err == nil {
				err = c.silence()
			}
		} else {
			raw[i], ms[i], err = c.answer(b)
		}
		if err != nil {
			t.Errorf("%s: --xdp %s: %v\nsent %q", name, modes[i], err, clip(b))
			return nil
		}
	}
	m := ms[0]
	p.tally.note(b, m)
	if m == nil {
		return nil
	}
	if a, b := inOrder(raw[0]), inOrder(raw[1]); !bytes.Equal(a, b) {
		t.Errorf("%s: the answers differ:\n%q --xdp %s\n%q --xdp %s", name, a, modes[0], b, modes[1])
	}
	if got := outcomeOf(m); want == wantNodes && m.Nodes == nil && m.Nodes6 == nil ||
		want == wantAnswer && got != wantAnswer || want[:min(5, len(want))] == "error" && got != want {
		t.Errorf("%s: got %s, want %s\nsent %q", name, describe(m), want, clip(b))
	}
	p.wellFormed(t, name, m, cs[0], raw[0])
	return m
}

// answerable says whether a datagram is a query that gets an answer.
func answerable(b []byte) bool {
	var m krpc.Message
	err := krpc.Decode(b, &m)
	_, refused := err.(*krpc.Error) //nolint:errorlint // Decode returns this very type
	return err == nil && m.Type == krpc.TypeQuery || refused
}

func outcomeOf(m *krpc.Message) string {
	if m.Type == krpc.TypeError {
		return wantError(m.Err.Code)
	}
	return wantAnswer
}

// wellFormed checks what all answers have in common.
func (p *pair) wellFormed(t *testing.T, name string, m *krpc.Message, c *client, raw []byte) {
	t.Helper()
	if m.IP != c.local {
		t.Errorf("%s: ip is %v, want %v", name, m.IP, c.local)
	}
	if string(m.Version) != krpc.Version {
		t.Errorf("%s: v is %q", name, m.Version)
	}
	if len(raw) > krpc.MaxPayload && m.V == nil {
		t.Errorf("%s: the answer has %d bytes, want at most %d", name, len(raw), krpc.MaxPayload)
	}
	if out, err := m.Append(nil); err != nil || !bytes.Equal(out, raw) {
		t.Errorf("%s: the answer is not canonical: %q, %v", name, raw, err)
	}
}

// inOrder puts the contacts, samples and peers of an answer in order. A bucket's contacts come in the order in which they
// entered the table, which differs from run to run, and samples of infohashes and peers are drawn by lot.
func inOrder(b []byte) []byte {
	b = slices.Clone(b)
	var m krpc.Message
	if krpc.Decode(b, &m) == nil {
		sortRecords(m.Nodes, 26)
		sortRecords(m.Nodes6, 38)
		sortRecords(m.Samples, krpc.IDLen)
		if i := bytes.IndexByte(m.Values, ':'); i >= 0 {
			sortRecords(m.Values, i+1+len(m.IP.Addr().AsSlice())+2) // of the asker's family
		}
	}
	return b
}

func sortRecords(b []byte, size int) {
	sorted := slices.SortedFunc(slices.Chunk(slices.Clone(b), size), bytes.Compare)
	copy(b, bytes.Join(sorted, nil))
}

// clip shortens a datagram for a message.
func clip(b []byte) []byte { return b[:min(len(b), 300)] }
