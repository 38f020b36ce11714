package krpc_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"kdht/router/krpc"
)

func TestNodeIDVectors(t *testing.T) {
	v := theVectors(t).BEP42
	if len(v) != 22 {
		t.Errorf("%d vectors, want 22", len(v))
	}
	for _, e := range v {
		t.Run(e.IP+"/"+e.ID, func(t *testing.T) {
			ip := netip.MustParseAddr(e.IP)
			id, err := krpc.ParseID(e.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := krpc.ValidNodeID(id, ip); got != e.Valid {
				t.Errorf("valid = %t, want %t (%s)", got, e.Valid, e.Why)
			}
			if mapped := netip.AddrFrom16(ip.As16()); krpc.ValidNodeID(id, mapped) != e.Valid {
				t.Errorf("IPv4-mapped address judged otherwise")
			}
			if e.Rand == nil {
				return
			}
			// With the free bits of the vector, the very ID of the vector must come out.
			if got := krpc.NodeIDFor(ip, *e.Rand, id); got != id {
				t.Errorf("NodeIDFor = %s, want %s", got, id)
			}
			other := krpc.NodeIDFor(ip, *e.Rand, [20]byte(bytes.Repeat([]byte{0xff}, 20)))
			if !krpc.ValidNodeID(other, ip) || other[2]&7 != 7 || other[18] != 0xff {
				t.Errorf("NodeIDFor with all free bits set = %s", other)
			}
		})
	}
}

func TestNodeIDExemptions(t *testing.T) {
	wrong, _ := krpc.ParseID("e56f6cbf5b7c4be0237986d5243b87aa6d51305a")
	for ip, want := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "9.255.255.255": false, "11.0.0.0": false,
		"172.16.0.0": true, "172.31.255.255": true, "172.15.255.255": false, "172.32.0.0": false,
		"192.168.0.0": true, "192.168.255.255": true, "192.167.255.255": false, "192.169.0.0": false,
		"169.254.0.0": true, "169.254.255.255": true, "169.253.255.255": false,
		"127.0.0.0": true, "127.255.255.255": true, "126.255.255.255": false, "128.0.0.0": false,
		"::ffff:10.1.2.3": true, "::ffff:8.8.8.8": false,
		"::1": true, "::2": false, "fe80::1": true, "fd00::1": true, "fbff::1": false, "2001:db8::1": false,
	} {
		if got := krpc.ValidNodeID(wrong, netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: valid = %t, want %t", ip, got, want)
		}
	}
	if krpc.ValidNodeID(wrong, netip.Addr{}) {
		t.Error("an ID is valid without an address")
	}
}

func TestItemVectors(t *testing.T) {
	for _, e := range theVectors(t).BEP44 {
		t.Run(e.Name, func(t *testing.T) {
			if err := krpc.CheckValue(e.V); err != nil {
				t.Errorf("CheckValue: %v", err)
			}
			if e.K == nil {
				if got := krpc.ImmutableTarget(e.V); !bytes.Equal(got[:], e.Target) {
					t.Errorf("target %s, want %x", got, e.Target)
				}
				return
			}
			if got := krpc.MutableTarget(e.K, e.Salt); !bytes.Equal(got[:], e.Target) {
				t.Errorf("target %s, want %x", got, e.Target)
			}
			if got := krpc.AppendSignable(nil, e.Salt, e.Seq, e.V); !bytes.Equal(got, e.Signed) {
				t.Errorf("signed bytes %q, want %q", got, []byte(e.Signed))
			}
			if !krpc.Verify(e.K, e.Salt, e.Seq, e.V, e.Sig) {
				t.Error("signature does not verify")
			}
			for what, ok := range map[string]bool{
				"another seq":  krpc.Verify(e.K, e.Salt, e.Seq-1, e.V, e.Sig),
				"another salt": krpc.Verify(e.K, append([]byte("x"), e.Salt...), e.Seq, e.V, e.Sig),
				"another v":    krpc.Verify(e.K, e.Salt, e.Seq, append([]byte("1"), e.V...), e.Sig),
				"another k":    krpc.Verify(append([]byte{e.K[0] ^ 1}, e.K[1:]...), e.Salt, e.Seq, e.V, e.Sig),
				"a short sig":  krpc.Verify(e.K, e.Salt, e.Seq, e.V, e.Sig[1:]),
				"a short k":    krpc.Verify(e.K[1:], e.Salt, e.Seq, e.V, e.Sig),
			} {
				if ok {
					t.Errorf("signature verifies with %s", what)
				}
			}
			if e.Seed != nil {
				key := ed25519.NewKeyFromSeed(e.Seed)
				if got := krpc.Sign(key, e.Salt, e.Seq, e.V); !bytes.Equal(got, e.Sig) {
					t.Errorf("Sign = %x, want %x", got, e.Sig)
				}
			}
		})
	}
}

func TestBEP46Vectors(t *testing.T) {
	v := theVectors(t).BEP46
	for _, e := range v {
		if got := krpc.MutableTarget(e.K, e.Salt); !bytes.Equal(got[:], e.Target) {
			t.Errorf("salt %q: target %s, want %x", []byte(e.Salt), got, e.Target)
		}
	}
	if len(v) != 2 {
		t.Errorf("%d vectors, want 2", len(v))
	}
}

func TestPkarrVector(t *testing.T) {
	p := theVectors(t).Pkarr
	v := fmt.Appendf(nil, "%d:%s", len(p.DNSPacket), p.DNSPacket)
	if got := krpc.AppendSignable(nil, nil, p.TimestampUS, v); !bytes.Equal(got, p.Signable) {
		t.Errorf("signed bytes %q, want %q", got, []byte(p.Signable))
	}
	if got := krpc.Sign(ed25519.NewKeyFromSeed(p.Seed), nil, p.TimestampUS, v); !bytes.Equal(got, p.Sig) {
		t.Errorf("signature %x, want %x", got, p.Sig)
	}
	var m krpc.Message
	if err := krpc.Decode(p.PutQuery, &m); err != nil {
		t.Fatal(err)
	}
	target, err := krpc.CheckPut(&m)
	if err != nil || !bytes.Equal(target[:], p.Target) {
		t.Errorf("CheckPut = %s, %v; want %x", target, err, p.Target)
	}
	if out, err := m.Append(nil); err != nil || !bytes.Equal(out, p.PutQuery) {
		t.Errorf("put encoded again: %q, %v", out, err)
	}
	if err := krpc.Decode(p.GetReply, &m); err != nil {
		t.Fatal(err)
	}
	if !krpc.Verify(m.K, m.Salt, m.Seq, m.V, m.Sig) || !bytes.Equal(m.V, v) || m.Seq != p.TimestampUS {
		t.Errorf("reply carries k %x seq %d v %q sig %x", m.K, m.Seq, m.V, m.Sig)
	}
}

// The recorded puts are those of real clients: all their signatures hold, also with the salt sent empty.
func TestRecordedPuts(t *testing.T) {
	n := 0
	for _, d := range theVectors(t).Datagrams {
		if d.Kind != "put" {
			continue
		}
		n++
		var m krpc.Message
		if err := krpc.Decode(d.Hex, &m); err != nil {
			t.Errorf("%s: %v", d.ID, err)
			continue
		}
		want := krpc.ImmutableTarget(m.V)
		if m.K != nil {
			want = krpc.MutableTarget(m.K, m.Salt)
		}
		if target, err := krpc.CheckPut(&m); err != nil || target != want {
			t.Errorf("%s: CheckPut = %s, %v; want %s", d.ID, target, err, want)
		}
		if m.HasTarget && m.Target != want {
			t.Errorf("%s: target %s in the put, want %s", d.ID, m.Target, want)
		}
	}
	if n != 17 {
		t.Errorf("%d puts, want 17", n)
	}
}

// puts builds puts for the negative vectors, all with the key of the vectors' seed.
func TestNegativePuts(t *testing.T) {
	v := theVectors(t)
	key := ed25519.NewKeyFromSeed(v.Pkarr.Seed)
	public := key.Public().(ed25519.PublicKey)
	hello := []byte("12:Hello World!")
	mutable := func(change func(*krpc.Message)) *krpc.Message {
		m := &krpc.Message{
			Type: krpc.TypeQuery, TID: []byte("aa"), Method: krpc.MethodPut, HasID: true, Token: []byte("token"),
			K: public, V: hello, Seq: 1, HasSeq: true,
		}
		if change != nil {
			change(m)
		}
		if m.Sig == nil {
			m.Sig = krpc.Sign(key, m.Salt, m.Seq, m.V)
		}
		return m
	}
	negative := map[string]bep44Vector{}
	for _, e := range v.BEP44Negative {
		negative[e.Name] = e
	}
	vector := func(name string) *krpc.Message {
		e, ok := negative[name]
		if !ok {
			t.Fatalf("no vector %q", name)
		}
		return mutable(func(m *krpc.Message) { m.K, m.Seq, m.V, m.Sig = e.K, e.Seq, e.V, e.Sig })
	}
	raw := func(n int) []byte { return fmt.Appendf(nil, "%d:%s", n, strings.Repeat("x", n)) }
	for name, c := range map[string]struct {
		m    *krpc.Message
		want *krpc.Error
	}{
		"good":                                {mutable(nil), nil},
		"flipped signature bit":               {vector("flipped signature bit"), krpc.ErrSignature},
		"salted signature without salt":       {vector("salted signature without salt"), krpc.ErrSignature},
		"bencoded v of 1005 bytes (1000 raw)": {mutable(func(m *krpc.Message) { m.V = raw(1000) }), krpc.ErrValueSize},
		"bencoded v of 1001 bytes":            {mutable(func(m *krpc.Message) { m.V = raw(997) }), krpc.ErrValueSize},
		"bencoded v of 1000 bytes":            {mutable(func(m *krpc.Message) { m.V = raw(996) }), nil},
		"salt of 65 bytes":                    {mutable(func(m *krpc.Message) { m.Salt = raw(62) }), krpc.ErrSaltSize},
		"salt of 64 bytes":                    {mutable(func(m *krpc.Message) { m.Salt = raw(61) }), nil},
		"seq negative":                        {mutable(func(m *krpc.Message) { m.Seq = -1 }), krpc.ErrArgSeq},
		"seq max":                             {mutable(func(m *krpc.Message) { m.Seq = math.MaxInt64 }), nil},
		"no seq":                              {mutable(func(m *krpc.Message) { m.HasSeq = false }), krpc.ErrArgSeq},
		"immutable of 1001 bytes":             {mutable(func(m *krpc.Message) { m.K, m.V = nil, raw(997) }), krpc.ErrValueSize},
		"immutable, seq -1 ignored":           {mutable(func(m *krpc.Message) { m.K, m.Seq = nil, -1 }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := c.m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			var m krpc.Message
			err = krpc.Decode(b, &m)
			if err == nil {
				_, err = krpc.CheckPut(&m)
			}
			got, _ := errors.AsType[*krpc.Error](err)
			if got != c.want {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// CheckPut does not rely on Decode: what a program is about to send can be checked with it too.
func TestCheckPutAlone(t *testing.T) {
	v := []byte("1:x")
	for name, c := range map[string]struct {
		m    krpc.Message
		want error
	}{
		"no v":        {krpc.Message{}, krpc.ErrArgV},
		"large v":     {krpc.Message{V: make([]byte, 1001)}, krpc.ErrValueSize},
		"v not sound": {krpc.Message{V: []byte("x")}, krpc.ErrValueForm},
		"short k":     {krpc.Message{V: v, K: v}, krpc.ErrArgK},
		"short sig":   {krpc.Message{V: v, K: make([]byte, 32), Sig: v}, krpc.ErrArgSig},
		"no seq":      {krpc.Message{V: v, K: make([]byte, 32), Sig: make([]byte, 64)}, krpc.ErrArgSeq},
		"immutable":   {krpc.Message{V: v}, nil},
	} {
		if _, err := krpc.CheckPut(&c.m); err != c.want { //nolint:errorlint // the very value is promised
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestCheckValue(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("l", n) + strings.Repeat("e", n) }
	for v, want := range map[string]error{
		"0:": nil, "1:x": nil, "i0e": nil, "i-5e": nil, "i123456789012345678901234567890e": nil, "le": nil, "de": nil,
		"d1:ai1e2:aai2e1:bi3ee": nil, "l1:ai1eldeee": nil, "d0:0:e": nil, "11:hello world": nil, "10:0123456789": nil,
		nested(8): nil,

		"": krpc.ErrValueForm, "x": krpc.ErrValueForm, "hello": krpc.ErrValueForm, "e": krpc.ErrValueForm,
		"1:": krpc.ErrValueForm, "1:xy": krpc.ErrValueForm, "01:x": krpc.ErrValueForm, "00:": krpc.ErrValueForm,
		"-1:x": krpc.ErrValueForm, "99999999999999999999:x": krpc.ErrValueForm, "18446744073709551617:x": krpc.ErrValueForm,
		"i": krpc.ErrValueForm, "ie": krpc.ErrValueForm, "i-e": krpc.ErrValueForm, "i-0e": krpc.ErrValueForm,
		"i01e": krpc.ErrValueForm, "i00e": krpc.ErrValueForm, "i-01e": krpc.ErrValueForm, "i+1e": krpc.ErrValueForm,
		"i 1e": krpc.ErrValueForm, "i1.5e": krpc.ErrValueForm, "i1": krpc.ErrValueForm, "i1ei2e": krpc.ErrValueForm,
		"l": krpc.ErrValueForm, "d": krpc.ErrValueForm, "d1:a": krpc.ErrValueForm, "d1:ae": krpc.ErrValueForm,
		"di1ei2ee": krpc.ErrValueForm, "d1:bi1e1:ai2ee": krpc.ErrValueForm, "d1:ai1e1:ai2ee": krpc.ErrValueForm,
		"ld1:bi1e1:ai2eee": krpc.ErrValueForm, "d01:ai1ee": krpc.ErrValueForm, "l01:ae": krpc.ErrValueForm,
		nested(9): krpc.ErrValueForm,
		fmt.Sprintf("997:%s", strings.Repeat("x", 997)): krpc.ErrValueSize,
	} {
		if got := krpc.CheckValue([]byte(v)); got != want { //nolint:errorlint // the very value is promised
			t.Errorf("%.40q: %v, want %v", v, got, want)
		}
	}
}

func TestBloomVectors(t *testing.T) {
	v := theVectors(t).BEP33
	if len(v) != 3 {
		t.Fatalf("%d vectors, want 3", len(v))
	}
	var many, one, none krpc.BloomFilter
	ip := netip.MustParseAddr("192.0.2.0")
	for range 256 {
		many.Add(ip)
		many.Add(netip.AddrFrom16(ip.As16())) // mapped: the same address
		ip = ip.Next()
	}
	ip = netip.MustParseAddr("2001:db8::")
	for range 1000 {
		many.Add(ip)
		ip = ip.Next()
	}
	one.Add(netip.MustParseAddr("192.0.2.1"))
	for i, f := range []krpc.BloomFilter{many, one, none} {
		if !bytes.Equal(f[:], v[i].Filter) {
			t.Errorf("%s: filter %x, want %x", v[i].Input, f, v[i].Filter)
		}
		if v[i].Estimate != nil && math.Abs(f.Estimate()-*v[i].Estimate) > 1e-4 {
			t.Errorf("%s: estimate %f, want %f", v[i].Input, f.Estimate(), *v[i].Estimate)
		}
		for _, bit := range v[i].Bits {
			if f[bit/8]>>(bit%8)&1 == 0 {
				t.Errorf("%s: bit %d is not set", v[i].Input, bit)
			}
		}
	}
	sum := none
	sum.Merge(&many)
	sum.Merge(&one)
	if sum != many {
		t.Error("an address inside a filter changes it when merged")
	}
	full := krpc.BloomFilter(bytes.Repeat([]byte{0xff}, 256))
	if e := full.Estimate(); math.IsInf(e, 0) || e < 7000 {
		t.Errorf("estimate of a full filter: %f", e)
	}
}
