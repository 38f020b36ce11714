package conformance_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"sync"
	"testing"
)

// vectors is what is used of vectors.json: datagrams recorded from real programs, and what the BEPs print.
type vectors struct {
	Datagrams, Replies []datagram
	BEP44              []bep44Vector
	BEP44Negative      []bep44Vector `json:"bep44_negative"`
	Tolerance          struct {
		Cases []struct {
			Name string
			Hex  hexBytes
		}
	} `json:"parser_tolerance"`
}

type datagram struct {
	ID, Kind string
	Hex      hexBytes
	QueryHex hexBytes `json:"query_hex"`
}

type bep44Vector struct {
	Name         string
	K, Salt, Sig hexBytes
	Seq          int64
	V            hexBytes `json:"v_bencoded"`
	Expect       string
}

// hexBytes are written as hexadecimal digits.
type hexBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

const codec = "../../router/krpc/"

var loadVectors = sync.OnceValues(func() (*vectors, error) {
	b, err := os.ReadFile(codec + "testdata/vectors.json")
	if err != nil {
		return nil, err
	}
	v := new(vectors)
	return v, json.Unmarshal(b, v)
})

func theVectors(t *testing.T) *vectors {
	t.Helper()
	return get[*vectors](t)(loadVectors())
}

// outcomes is the table in the documentation of package krpc: what is done with each parser case.
func outcomes(t *testing.T) map[string]string {
	t.Helper()
	doc := get[[]byte](t)(os.ReadFile(codec + "doc.go"))
	table := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^//\t(.+?) {2,}(.+?) {2,}(.+)$`).FindAllStringSubmatch(string(doc), -1) {
		table[match[1]] = match[2]
	}
	return table
}
