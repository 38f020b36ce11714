package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// wantReply is the frame that user space's answer to d would make.
func wantReply(t testing.TB, d datagram, payload []byte) []byte {
	t.Helper()
	if payload == nil {
		t.Fatalf("user space does not answer %q", d.payload)
	}
	return d.answer(payload).frame(t)
}

// TestChecksums checks which UDP checksums of a query are taken.
func TestChecksums(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(11, 1)), 100, 100)
	p, v := program(t, s), view(t, s)
	for _, d := range []datagram{queryTo(node4, asker4, []byte(findNode)), queryTo(node6, asker6, []byte(findNode))} {
		want := wantReply(t, d, userSpace(t, v, d.payload, d.from))
		frame := d.frame(t)
		sum := frame[d.l4()+6:][:2]
		right := binary.BigEndian.Uint16(sum)
		for _, c := range []struct {
			name string
			sum  uint16
			good bool
		}{
			{"right", right, true},
			{"none", 0, d.to == node4},
			{"left to the hardware", d.pseudoSum(), true},
			{"its complement", ^right, false},
			{"off by one", right + 1, false},
			{"bytes swapped", right<<8 | right>>8, false},
		} {
			binary.BigEndian.PutUint16(sum, c.sum)
			verdict, out := run(t, p, frame)
			if answered := verdict == xdpTX; answered != c.good {
				t.Errorf("to %v, checksum %s: verdict %d", d.to, c.name, verdict)
			}
			if c.good && !bytes.Equal(out, want) {
				t.Errorf("to %v, checksum %s:\n got %x\nwant %x", d.to, c.name, out, want)
			}
		}
	}
}

// TestZeroChecksum asks so that the checksum of the reply comes out as 0, and checks that it is sent as 0xffff.
func TestZeroChecksum(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(11, 2)), 4, 4)
	p, v := program(t, s), view(t, s)
	for _, d := range []datagram{queryTo(node4, asker4, nil), queryTo(node6, asker6, nil)} {
		checksum := func(tid uint16) uint16 {
			d.payload = fmt.Appendf(nil, "d1:ad2:id20:%se1:q4:ping1:t2:%s1:y1:qe", anID, binary.BigEndian.AppendUint16(nil, tid))
			return binary.BigEndian.Uint16(wantReply(t, d, userSpace(t, v, d.payload, d.from))[d.l4()+6:])
		}
		// What is missing from the sum for a zero transaction ID, as it counts at an even offset, or at an odd one.
		missing := checksum(0)
		if checksum(missing) != 0xffff && checksum(missing<<8|missing>>8) != 0xffff {
			t.Fatalf("to %v: no reply has the checksum 0", d.to)
		}
		if !compare(t, p, v, d) {
			t.Errorf("%q is not answered", d.payload)
		}
	}
}

// TestLengths checks the length of replies to frames with any padding behind the datagram, so that the frame grows or
// shrinks, and with less headroom than usual.
func TestLengths(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(11, 3)), 100, 100)
	p, v := program(t, s), view(t, s)
	for _, payload := range []string{ping, findNode, "d1:ad2:id20:" + anID + "6:target20:" + aTarget + "4:wantl2:n42:n6ee1:q3:get1:t2:aa1:y1:qe"} {
		for _, d := range []datagram{queryTo(node4, asker4, []byte(payload)), queryTo(node6, asker6, []byte(payload))} {
			want := wantReply(t, d, userSpace(t, v, d.payload, d.from))
			frame := d.frame(t)
			for n := 0; n < 700; n = n*9/8 + 1 {
				padded := append(bytes.Clone(frame), bytes.Repeat([]byte{0xee}, n)...)
				if verdict, out := run(t, p, padded); verdict != xdpTX || !bytes.Equal(out, want) {
					t.Fatalf("%d bytes of padding, verdict %d, reply\n%x\n%x is right", n, verdict, out, want)
				}
				verdict, out, err := p.RunWithMetadata(32, padded)
				must(t, err)
				if verdict != xdpTX || !bytes.Equal(out, want) {
					t.Fatalf("%d bytes of padding and metadata, verdict %d, reply\n%x\n%x is right", n, verdict, out, want)
				}
			}
		}
	}
}
