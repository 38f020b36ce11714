package krpc_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"testing"
)

// vectors is testdata/vectors.json: datagrams recorded from real programs and the vectors printed in the BEPs.
type vectors struct {
	BEP42         []bep42Vector
	BEP44         []bep44Vector
	BEP44Negative []bep44Vector `json:"bep44_negative"`
	BEP46         []struct{ K, Salt, Target hexBytes }
	BEP33         []bep33Vector
	Pkarr         pkarrVector
	Datagrams     []datagram
	Replies       []datagram
	Tolerance     struct{ Cases []toleranceCase } `json:"parser_tolerance"`
}

type bep42Vector struct {
	IP    string
	ID    string
	Rand  *byte
	Valid bool
	Why   string
}

type bep44Vector struct {
	Name   string
	K      hexBytes
	Seed   hexBytes
	Salt   hexBytes
	Seq    int64
	V      hexBytes `json:"v_bencoded"`
	Signed hexBytes
	Sig    hexBytes
	Target hexBytes
	Expect string
}

type bep33Vector struct {
	Input    string
	Filter   hexBytes
	Estimate *float64
	Bits     []int
}

type pkarrVector struct {
	Seed        hexBytes
	PublicKey   hexBytes `json:"public_key"`
	TimestampUS int64    `json:"timestamp_us"`
	DNSPacket   hexBytes `json:"dns_packet"`
	Signable    hexBytes
	Sig         hexBytes
	Target      hexBytes
	PutQuery    hexBytes `json:"put_query"`
	GetReply    hexBytes `json:"get_reply"`
}

type datagram struct {
	ID        string
	Kind      string
	Len       int
	Hex       hexBytes
	Canonical bool
	Decoded   map[string]any
	Offsets   map[string][2]int
	QueryHex  hexBytes `json:"query_hex"`
}

type toleranceCase struct {
	Name string
	Len  int
	Hex  hexBytes
}

// hexBytes is a byte string written in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

var loadVectors = sync.OnceValues(func() (*vectors, error) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		return nil, err
	}
	v := new(vectors)
	return v, json.Unmarshal(data, v)
})

// theVectors returns the vectors, which tests must not change.
func theVectors(t testing.TB) *vectors {
	t.Helper()
	v, err := loadVectors()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// find returns the datagram with this ID.
func (v *vectors) find(t testing.TB, id string) []byte {
	t.Helper()
	for _, list := range [][]datagram{v.Datagrams, v.Replies} {
		for _, d := range list {
			if d.ID == id {
				return d.Hex
			}
		}
	}
	t.Fatalf("no datagram %q in the vectors", id)
	return nil
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
