package krpc_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kdht/router/krpc"
)

// diffMessages compares what two messages mean: the text of "values" may differ as long as the peers are the same.
func diffMessages(a, b *krpc.Message) string {
	peers := func(m *krpc.Message) []netip.AddrPort { return slices.Collect(krpc.Peers(m.Values)) }
	return cmp.Diff(a, b,
		cmpopts.EquateComparable(netip.AddrPort{}),
		cmpopts.IgnoreFields(krpc.Message{}, "Values")) +
		cmp.Diff(peers(a), peers(b), cmpopts.EquateComparable(netip.AddrPort{}))
}

// addSeeds adds every datagram of the other tests.
func addSeeds(f *testing.F) {
	v := theVectors(f)
	for _, d := range append(v.Datagrams, v.Replies...) {
		f.Add([]byte(d.Hex))
	}
	for _, c := range v.Tolerance.Cases {
		f.Add([]byte(c.Hex))
	}
	for _, c := range refusals() {
		f.Add([]byte(c.in))
	}
	for _, c := range acceptances() {
		f.Add([]byte(c.in))
	}
}

// FuzzDecode: no datagram makes Decode panic or return a contradiction, and what it accepted can be sent on and means
// the same to the next reader.
func FuzzDecode(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var m krpc.Message
		err := krpc.Decode(b, &m)
		if !bytes.Equal(b, before) {
			t.Fatal("Decode changed the datagram")
		}
		if err != nil {
			if e, ok := errors.AsType[*krpc.Error](err); ok {
				if errors.Is(err, krpc.ErrMalformed) || m.Type != krpc.TypeQuery || m.TID == nil || e.Code < 201 {
					t.Fatalf("%v for %+v", err, m)
				}
			} else if !errors.Is(err, krpc.ErrMalformed) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		checkPromises(t, &m)
		sent, err := m.Append(nil)
		if err != nil {
			if m.Type == krpc.TypeResponse && m.V != nil {
				if err := krpc.CheckValue(m.V); err != nil {
					return // a bad value in a response is for its reader to refuse
				}
			}
			t.Fatalf("cannot be sent on: %v: %+v", err, m)
		}
		var again krpc.Message
		if err := krpc.Decode(sent, &again); err != nil {
			t.Fatalf("sent as %q: %v", sent, err)
		}
		if diff := diffMessages(&m, &again); diff != "" {
			t.Fatalf("(-received +read again):\n%s", diff)
		}
		twice, err := again.Append(nil)
		if err != nil || !bytes.Equal(sent, twice) {
			t.Fatalf("sent as %q, then as %q: %v", sent, twice, err)
		}
	})
}

// checkPromises checks what Decode promises about a message that it accepts.
func checkPromises(t *testing.T, m *krpc.Message) {
	t.Helper()
	ok := m.TID != nil && len(m.TID) <= krpc.MaxTID && len(m.Nodes)%26 == 0 && len(m.Nodes6)%38 == 0 && len(m.Samples)%20 == 0 &&
		(m.K == nil || len(m.K) == 32) && (m.Sig == nil || len(m.Sig) == 64)
	switch m.Type {
	case krpc.TypeQuery:
		ok = ok && m.HasID && m.Name != nil
		switch m.Method {
		case krpc.MethodPing:
		case krpc.MethodFindNode, krpc.MethodGet, krpc.MethodSampleInfohashes, krpc.MethodUnknown:
			ok = ok && m.HasTarget
		case krpc.MethodGetPeers:
			ok = ok && m.HasInfoHash
		case krpc.MethodAnnouncePeer:
			ok = ok && m.HasInfoHash && (m.Token != nil || m.Recursive) && (m.ImpliedPort || m.Port != 0)
		case krpc.MethodPut:
			ok = ok && (m.Token != nil || m.Recursive) && krpc.CheckValue(m.V) == nil &&
				(m.K == nil || m.HasSeq && m.Seq >= 0 && m.Sig != nil && len(m.Salt) <= 64)
		default:
			ok = false
		}
	case krpc.TypeResponse:
		ok = ok && m.HasID
	case krpc.TypeError:
	default:
		ok = false
	}
	if !ok {
		t.Fatalf("Decode accepts %+v", m)
	}
}

// FuzzCheckValue: no value makes CheckValue panic, and one that it accepts can travel in a put.
func FuzzCheckValue(f *testing.F) {
	for _, e := range theVectors(f).BEP44 {
		f.Add([]byte(e.V))
	}
	f.Add([]byte("d1:ai-1e1:blleee"))
	f.Fuzz(func(t *testing.T, v []byte) {
		m := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPut, TID: []byte{1}, HasID: true, Token: []byte{}, V: v}
		b, err := m.Append(nil)
		checked := krpc.CheckValue(v)
		if checked == nil && err != nil || checked == krpc.ErrValueForm && err == nil { //nolint:errorlint // the very value
			t.Fatalf("CheckValue: %v, Append: %v", checked, err)
		}
		if err != nil {
			return
		}
		var got krpc.Message
		if err := krpc.Decode(b, &got); err != checked { //nolint:errorlint // the very value is promised
			t.Fatalf("CheckValue: %v, Decode: %v", checked, err)
		}
		if !bytes.Equal(got.V, v) {
			t.Fatalf("v %q, want %q", got.V, v)
		}
	})
}
