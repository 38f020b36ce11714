package main

import (
	"bytes"
	"encoding/hex"
	"strconv"

	"kdht/router"
	"kdht/router/krpc"
)

// encodeValue gives a byte string as a bencoded value.
func encodeValue(b []byte) []byte {
	v := strconv.AppendInt(nil, int64(len(b)), 10)
	return append(append(v, ':'), b...)
}

// stringOf gives the bytes of a bencoded string, and false for any other value.
func stringOf(v []byte) ([]byte, bool) {
	digits, rest, ok := bytes.Cut(v, []byte{':'})
	n, err := strconv.Atoi(string(digits))
	if !ok || err != nil || n != len(rest) {
		return nil, false
	}
	return rest, true
}

// checkValue checks a bencoded value before it is sent.
func checkValue(v []byte) error {
	if len(v) > krpc.MaxValue {
		if s, ok := stringOf(v); ok {
			const most = krpc.MaxValue - len("996:")
			return usage("split it over several items, or store a hash of it", "the value has %d bytes, and at most %d fit into an item (BEP 44: %d bencoded)", len(s), most, krpc.MaxValue)
		}
		return usage("split it over several items", "the bencoded value has %d bytes, and at most %d fit into an item (BEP 44)", len(v), krpc.MaxValue)
	}
	if err := krpc.CheckValue(v); err != nil {
		return usage("write for example 5:hello, i42e, l1:a1:be or d3:key5:valuee, with sorted keys; without --bencoded any bytes will do", "the value is not canonical bencoding")
	}
	return nil
}

// itemJSON is an item as JSON.
type itemJSON struct {
	Target krpc.ID `json:"target"`
	Text   *string `json:"text,omitempty"` // the value, if it is a printable byte string
	V      string  `json:"v"`              // the bencoded value in hexadecimal
	K      string  `json:"k,omitempty"`
	Salt   string  `json:"salt,omitempty"` // hexadecimal
	Seq    *int64  `json:"seq,omitempty"`
	Sig    string  `json:"sig,omitempty"`
}

func toJSON(it *router.Item) itemJSON {
	j := itemJSON{Target: it.Target, V: hex.EncodeToString(it.V)}
	if s, ok := stringOf(it.V); ok && printable(s) {
		t := string(s)
		j.Text = &t
	}
	if it.Mutable {
		j.K, j.Salt, j.Sig = hex.EncodeToString(it.K[:]), hex.EncodeToString(it.Salt), hex.EncodeToString(it.Sig[:])
		j.Seq = &it.Seq
	}
	return j
}

// statsJSON is the cost of a lookup as JSON.
type statsJSON struct {
	Queried  int     `json:"queried"`
	Answered int     `json:"answered"`
	Failed   int     `json:"failed"`
	Hops     int     `json:"hops"`
	Seconds  float64 `json:"seconds"`
}

func costJSON(s router.LookupStats) statsJSON {
	return statsJSON{Queried: s.Queried, Answered: s.Answered, Failed: s.Failed, Hops: s.Hops, Seconds: s.Duration.Seconds()}
}

// contactJSON is a node as JSON.
type contactJSON struct {
	ID   krpc.ID `json:"id"`
	Addr string  `json:"addr"`
}

func contactsJSON(cs []router.Contact) []contactJSON {
	out := make([]contactJSON, len(cs)) // an empty list, not null
	for i, c := range cs {
		out[i] = contactJSON{ID: c.ID, Addr: c.Addr.String()}
	}
	return out
}
