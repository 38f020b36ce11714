package krpc_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kdht/router/krpc"
)

// refused are the recorded datagrams that are not to be accepted.
var refused = map[string]error{
	"utorrent-holepunch": krpc.ErrNoTransaction, // "de", which opens a hole in a NAT
	"utorrent-punch":     krpc.ErrMethod,        // asks to send to a third party
	"reply-rtorrent-de":  krpc.ErrNoTransaction, // the answer to "de"
}

// held are the keys that a Message has a field for. Key paths as in the vectors.
var held = func() map[string]bool {
	h := map[string]bool{}
	for _, k := range strings.Fields(`e ip q ro t v y
		a.cas a.id a.implied_port a.info_hash a.k a.noseed a.port a.salt a.scrape a.seed a.seq a.sig a.target a.token
		a.v a.want
		r.BFpe r.BFsd r.id r.interval r.k r.nodes r.nodes6 r.num r.samples r.seq r.sig r.token r.v r.values`) {
		h[k] = true
	}
	return h
}()

func TestRecordedDatagrams(t *testing.T) {
	v := theVectors(t)
	if len(v.Datagrams) != 110 || len(v.Replies) != 102 {
		t.Errorf("have %d datagrams and %d replies, want 110 and 102", len(v.Datagrams), len(v.Replies))
	}
	reencoded := 0
	for _, d := range slices.Concat(v.Datagrams, v.Replies) {
		t.Run(d.ID, func(t *testing.T) {
			var m krpc.Message
			err := krpc.Decode(d.Hex, &m)
			if want := refused[d.ID]; want != nil || err != nil {
				if !errors.Is(err, want) {
					t.Fatalf("Decode: %v, want %v", err, want)
				}
				return
			}
			fields := fieldsOf(&m)
			complete := true
			for path, want := range flatten(d.Decoded) {
				if !held[path] {
					complete = false
					continue
				}
				if got := fields[path]; got != want {
					t.Errorf("%s = %s, want %s", path, got, want)
				}
			}
			for path := range fields {
				if !strings.HasPrefix(path, "#") && flatten(d.Decoded)[path] == "" {
					t.Errorf("%s = %s, want it absent", path, fields[path])
				}
			}
			for path, at := range d.Offsets {
				checkOffset(t, &m, path, d.Hex[at[0]:at[0]+at[1]])
			}
			out, err := m.Append(nil)
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			if d.Canonical && complete {
				reencoded++
				if !bytes.Equal(out, d.Hex) {
					t.Errorf("Append:\n%q, want\n%q", out, []byte(d.Hex))
				}
			}
		})
	}
	t.Logf("%d datagrams encoded again byte for byte", reencoded)
	if reencoded < 150 {
		t.Errorf("only %d datagrams could be encoded again", reencoded)
	}
}

// flatten turns the decoded form of the vectors into key paths and texts.
func flatten(decoded map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range decoded {
		if sub, ok := v.(map[string]any); ok {
			for k2, v2 := range sub {
				out[k+"."+k2] = text(v2)
			}
			continue
		}
		out[k] = text(v)
	}
	return out
}

func text(v any) string {
	switch v := v.(type) {
	case float64: // of an integer below 2^53
		return fmt.Sprintf("%d", int64(v))
	case []any:
		var parts []string
		for _, x := range v {
			parts = append(parts, text(x))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case string:
		if v == "" {
			return "(empty)"
		}
		return v
	}
	return fmt.Sprint(v)
}

// fieldsOf renders a Message in the form of flatten.
func fieldsOf(m *krpc.Message) map[string]string {
	out := map[string]string{}
	str := func(path string, b []byte) {
		if b != nil {
			out[path] = text(hex.EncodeToString(b))
		}
	}
	num := func(path string, present bool, n int64) {
		if present {
			out[path] = fmt.Sprint(n)
		}
	}
	flag := func(path string, present, set bool) {
		num(path, present, map[bool]int64{true: 1}[set])
	}
	out["y"] = string(rune(m.Type))
	str("t", m.TID)
	str("v", m.Version)
	if m.IP.IsValid() {
		str("ip", krpc.AppendAddr(nil, m.IP))
	}
	flag("ro", m.HasReadOnly, m.ReadOnly)
	c := "r."
	switch m.Type {
	case krpc.TypeQuery:
		c = "a."
		out["q"] = string(m.Name)
	case krpc.TypeError:
		out["e"] = fmt.Sprintf("[%d %s]", m.Err.Code, m.Err.Text)
	}
	if m.HasID {
		str(c+"id", m.ID[:])
	}
	if m.HasTarget {
		str(c+"target", m.Target[:])
	}
	if m.HasInfoHash {
		str(c+"info_hash", m.InfoHash[:])
	}
	if m.Want != 0 {
		var w []string
		if m.Want&krpc.WantN4 != 0 {
			w = append(w, "n4")
		}
		if m.Want&krpc.WantN6 != 0 {
			w = append(w, "n6")
		}
		out[c+"want"] = fmt.Sprint(w)
	}
	num(c+"port", m.HasPort, int64(m.Port))
	flag(c+"implied_port", m.HasImpliedPort, m.ImpliedPort)
	flag(c+"seed", m.HasSeed, m.Seed)
	flag(c+"noseed", m.HasNoSeed, m.NoSeed)
	flag(c+"scrape", m.HasScrape, m.Scrape)
	str(c+"token", m.Token)
	str(c+"nodes", m.Nodes)
	str(c+"nodes6", m.Nodes6)
	if m.Values != nil {
		var peers []string
		for a := range krpc.Peers(m.Values) {
			peers = append(peers, hex.EncodeToString(krpc.AppendAddr(nil, a)))
		}
		out[c+"values"] = fmt.Sprint(peers)
	}
	str(c+"k", m.K)
	str(c+"sig", m.Sig)
	str(c+"salt", m.Salt)
	if m.V != nil {
		_, s, ok := bytes.Cut(m.V, []byte(":")) // every v in the vectors is a string
		if !ok {
			s = m.V
		}
		str(c+"v", s)
	}
	num(c+"seq", m.HasSeq, m.Seq)
	num(c+"cas", m.HasCAS, m.CAS)
	str(c+"BFsd", m.BFSeeds)
	str(c+"BFpe", m.BFPeers)
	num(c+"interval", m.HasInterval, m.Interval)
	num(c+"num", m.HasNum, m.Num)
	str(c+"samples", m.Samples)
	return out
}

// checkOffset checks that a field is the bytes that the vectors point at.
func checkOffset(t *testing.T, m *krpc.Message, path string, want []byte) {
	t.Helper()
	var got []byte
	switch path {
	case "a.id", "r.id":
		got = m.ID[:]
	case "a.target":
		got = m.Target[:]
	case "a.info_hash":
		got = m.InfoHash[:]
	case "a.token", "r.token":
		got = m.Token
	case "a.k", "r.k":
		got = m.K
	case "a.sig", "r.sig":
		got = m.Sig
	case "a.salt":
		got = m.Salt
	case "a.v", "r.v": // the offset is that of the bytes of the string
		if _, got, _ = bytes.Cut(m.V, []byte(":")); got == nil {
			got = m.V
		}
	case "r.nodes":
		got = m.Nodes
	case "r.nodes6":
		got = m.Nodes6
	case "r.samples":
		got = m.Samples
	case "a.seq", "r.seq":
		got = fmt.Append(nil, m.Seq)
	case "a.cas":
		got = fmt.Append(nil, m.CAS)
	case "a.port":
		got = fmt.Append(nil, m.Port)
	case "q":
		got = m.Name
	case "t":
		got = m.TID
	case "v":
		got = m.Version
	case "y":
		got = []byte{byte(m.Type)}
	default:
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %q, want %q as at its offset", path, got, want)
	}
}

// What the servers of the vectors answered was an answer to something: that is read too.
func TestRecordedQueries(t *testing.T) {
	for _, d := range theVectors(t).Replies {
		if d.QueryHex == nil {
			continue
		}
		var q, r krpc.Message
		err := krpc.Decode(d.QueryHex, &q)
		if _, answer := errors.AsType[*krpc.Error](err); err != nil && !answer {
			if string(d.QueryHex) == "de" {
				continue
			}
			t.Errorf("%s: query %q: %v", d.ID, []byte(d.QueryHex), err)
			continue
		}
		if err := krpc.Decode(d.Hex, &r); err != nil {
			t.Errorf("%s: %v", d.ID, err)
			continue
		}
		if !bytes.Equal(q.TID, r.TID) {
			t.Errorf("%s: transaction %q answered with %q", d.ID, q.TID, r.TID)
		}
	}
}
