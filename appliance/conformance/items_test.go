package conformance_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"kdht/router/krpc"
)

const (
	errProtocol  = "error 203"
	errValueSize = "error 205"
	errSignature = "error 206"
	errSaltSize  = "error 207"
	errCAS       = "error 301"
	errSeq       = "error 302"
)

// testItems puts items that must not be stored, and some at the limits that must be (BEP 44).
func testItems(t *testing.T, p *pair) {
	for _, to := range []netip.AddrPort{node4, node6} {
		cs := p.clients(t, clientFor(to), to)
		token := string(askToken(t, cs[0]))
		x := strings.Repeat("x", 2000)
		put := func(want, name string, it krpc.Message, change ...string) {
			p.same(t, cs, name, putQuery(it, token).with(change...).bytes(), want)
		}
		family := []byte(fmt.Sprintf("of IPv%d", to.Addr().BitLen()/32)) // each has items of its own
		mutable := func(seq int64, v string) krpc.Message { return signed(family, seq, []byte(v)) }
		holds := func(it krpc.Message) {
			t.Helper()
			q := newQuery("get", "target", str(bytesOf(targetOf(it)))).bytes()
			m := p.same(t, cs, "get", q, wantAnswer)
			if m == nil || !bytes.Equal(m.V, it.V) || !bytes.Equal(m.Sig, it.Sig) || m.Seq != it.Seq {
				t.Errorf("get %s: got %v, want value %q, seq %d", targetOf(it), m, clip(it.V), it.Seq)
			}
		}

		// Signatures and keys.
		good := mutable(1, str("value"))
		for i := range len(good.Sig) {
			bad := good
			bad.Sig = bytes.Clone(good.Sig)
			bad.Sig[i] ^= 1 << (i % 8)
			put(errSignature, fmt.Sprintf("signature with a wrong bit in byte %d", i), bad)
		}
		put(errSignature, "signature without the salt", krpc.Message{K: good.K, Salt: good.Salt, Seq: 1, V: good.V, Sig: krpc.Sign(key, nil, 1, good.V)})
		put(errSignature, "signature of another seq", good, "seq", num(2))
		put(errSignature, "signature of another value", good, "v", str("valuf"))
		put(errSignature, "signature of another salt", good, "salt", str("other"))
		put(errSignature, "another key", good, "k", str(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32)).Public().(ed25519.PublicKey)))
		for name, k := range map[string]string{"zero": string(make([]byte, 32)), "not on the curve": "\x02" + string(make([]byte, 31)), "not reduced": strings.Repeat("\xff", 32)} {
			put(errSignature, "a key that is "+name, good, "k", str(k))
		}
		put(errSignature, "zero signature", good, "sig", str(make([]byte, 64)))
		put(errSignature, "signature plus the order", good, "sig", str(addOrder(good.Sig)))
		for _, v := range theVectors(t).BEP44Negative {
			if v.Sig != nil {
				put(errSignature, v.Name, krpc.Message{K: v.K, Salt: v.Salt, Seq: v.Seq, V: v.V, Sig: v.Sig})
			}
		}
		put(wantAnswer, "a good one", good)
		holds(good)

		// Sizes.
		put(wantAnswer, "value of 1000 bytes", krpc.Message{V: []byte(str(x[:996]))})
		put(errValueSize, "value of 1001 bytes", krpc.Message{V: []byte(str(x[:997]))})
		put(errValueSize, "raw value of 1000 bytes", krpc.Message{V: []byte(str(x[:1000]))})
		put(errValueSize, "value of 1504 bytes", krpc.Message{V: []byte(str(x[:1500]))})
		put(errValueSize, "list of 1002 bytes", krpc.Message{V: []byte("l" + strings.Repeat("i12e", 250) + "e")})
		big := mutable(2, str(x[:996]))
		put(wantAnswer, "mutable value of 1000 bytes", big)
		holds(big)
		put(errValueSize, "mutable value of 1001 bytes", mutable(3, str(x[:997])))
		put(wantAnswer, "salt of 64 bytes", signed([]byte(x[:64]), 1, []byte(str("v"))))
		put(errSaltSize, "salt of 65 bytes", signed([]byte(x[:65]), 1, []byte(str("v"))))
		put(errSaltSize, "salt of 500 bytes", signed([]byte(x[:500]), 1, []byte(str("v"))))
		put(wantAnswer, "empty salt", signed(nil, 1, []byte(str("v"))), "salt", "0:")
		put(wantSilence, "value that does not fit a datagram", krpc.Message{V: []byte(str(x + x))})

		// Form.
		for _, v := range []string{"i01e", "i-0e", "i-01e", "d1:b0:1:a0:e", "d1:a0:1:a0:e", "02:aa", "l02:aae", "d01:a0:e"} {
			put(errProtocol, "value "+v, krpc.Message{V: []byte(v)})
			put(errProtocol, "mutable value "+v, mutable(3, v))
		}
		for _, v := range []string{"i0e", "i-1e", "0:", "le", "de", "d1:a0:1:b0:e", "i99999999999999999999999999e", "d0:0:e"} {
			put(wantAnswer, "value "+v, krpc.Message{V: []byte(v)})
		}
		put(errProtocol, "no value", good, "v", "")
		put(errProtocol, "no token", good, "token", "")
		put(errProtocol, "no seq", good, "seq", "")
		put(errProtocol, "no sig", good, "sig", "")
		put(wantAnswer, "immutable with seq and salt", krpc.Message{V: []byte(str("immutable"))}, "seq", num(0), "salt", "0:")

		// Sequence numbers.
		for _, seq := range []string{num(-1), "i-9223372036854775808e", "i9223372036854775808e", "i18446744073709551618e", "i99999999999999999999999e"} {
			put(errProtocol, "seq "+seq, good, "seq", seq)
			put(wantAnswer, "immutable with seq "+seq, krpc.Message{V: []byte(str("immutable"))}, "seq", seq) // of no use there
		}
		holds(big) // seq 2
		put(errSeq, "old seq", good)
		put(errSeq, "old seq, the same value", mutable(1, string(big.V)))
		put(errSeq, "equal seq, other value", mutable(2, str("other")))
		put(wantAnswer, "equal seq, same value", big)
		holds(big)
		put(errCAS, "cas too high", mutable(3, str("three")), "cas", num(3))
		put(errCAS, "cas too low", mutable(3, str("three")), "cas", num(1))
		put(errCAS, "cas negative", mutable(3, str("three")), "cas", num(-1))
		put(errProtocol, "cas too big", mutable(3, str("three")), "cas", "i9223372036854775808e")
		holds(big)
		put(wantAnswer, "cas right", mutable(3, str("three")), "cas", num(2))
		holds(mutable(3, str("three")))
		put(errCAS, "cas of the old one", mutable(4, str("four")), "cas", num(2))
		put(errSeq, "cas right, old seq", mutable(2, str("two")), "cas", num(3))
		put(wantAnswer, "cas where nothing is stored", signed(append(family, '2'), 1, []byte(str("v"))), "cas", num(77))
		last := mutable(1<<63-1, str("last"))
		put(wantAnswer, "the last seq there is", last)
		put(errSeq, "a seq after the last", mutable(4, str("four")))
		holds(last)
	}
}

func bytesOf(id krpc.ID) []byte { return id[:] }

// addOrder makes another signature that sloppy verifiers take: S plus the order of the group.
func addOrder(sig []byte) []byte {
	order := [32]byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 31: 0x10}
	out := bytes.Clone(sig)
	carry := 0
	for i, o := range order {
		sum := int(out[32+i]) + int(o) + carry
		out[32+i], carry = byte(sum), sum>>8
	}
	return out
}
