package gateway

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"kdht/router"
	"kdht/router/krpc"
)

// The relay interface of pkarr (design/relays.md in its repository): GET and PUT of the mutable item without salt of a
// public key, whose value is a DNS message, as
//
//	signature(64) sequence number(8, big-endian, the time in microseconds) DNS message(at most 1000)
const (
	pkarrHead  = 64 + 8
	maxPayload = pkarrHead + 1000
	pkarrType  = "application/pkarr.org/relays#payload"
	// Bounds of the time for which clients may keep an answer, which within them is the least of its records.
	minTTL = 30 * time.Second
	maxTTL = 24 * time.Hour
)

// zbase32 is the human-oriented base-32 encoding of public keys.
var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

const zbase32Len = 52 // of 32 bytes

// ParseZBase32 reads a public key in z-base-32, as pkarr writes it.
func ParseZBase32(s string) (k [32]byte, ok bool) {
	if len(s) != zbase32Len {
		return k, false
	}
	b, err := zbase32.DecodeString(s)
	if err != nil || len(b) != len(k) || zbase32.EncodeToString(b) != s { // the last character has bits that mean nothing
		return k, false
	}
	return [32]byte(b), true
}

// isRelayed picks the requests that are for the relay: a path of one part that has the length of a public key.
func isRelayed(r *http.Request) bool {
	key, ok := strings.CutPrefix(r.URL.Path, "/")
	return ok && len(key) == zbase32Len && !strings.Contains(key, "/")
}

// relay serves pkarr clients.
func (g *Gateway) relay(w http.ResponseWriter, r *http.Request) {
	g.serve(w, r, route{get: g.getPacket, put: g.putPacket})
}

// packetKey reads the public key of a path.
func packetKey(r *http.Request) ([32]byte, error) {
	k, ok := ParseZBase32(strings.TrimPrefix(r.URL.Path, "/"))
	if !ok {
		return k, bad("key", "%s is no public key in z-base-32.", printable(strings.TrimPrefix(r.URL.Path, "/")))
	}
	return k, nil
}

// getPacket serves the newest signed packet of a key.
func (g *Gateway) getPacket(w http.ResponseWriter, r *http.Request, _ Caller) error {
	k, err := packetKey(r)
	if err != nil {
		return err
	}
	it, err := g.mutable(r, k, nil)
	if err != nil {
		return err
	}
	packet, ok := stringOf(it.V)
	if !ok {
		return &Problem{Status: http.StatusNotFound, Code: "no-packet", Detail: "The item of this key is no signed packet."}
	}
	ttl, err := packetTTL(packet)
	if err != nil {
		return &Problem{Status: http.StatusNotFound, Code: "no-packet", Detail: fmt.Sprintf("The item of this key is no DNS message: %v.", err)}
	}
	h := w.Header()
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(min(max(ttl, minTTL), maxTTL).Seconds())))
	modified := time.UnixMicro(it.Seq).UTC().Truncate(time.Second)
	h.Set("Last-Modified", modified.Format(http.TimeFormat))
	h.Set("Memento-Datetime", time.Now().UTC().Format(http.TimeFormat))
	if since, err := http.ParseTime(r.Header.Get("If-Modified-Since")); err == nil && !since.Before(modified) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	b := append(make([]byte, 0, pkarrHead+len(packet)), it.Sig[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(it.Seq))
	return serveBytes(w, pkarrType, append(b, packet...))
}

// parsePayload reads what a client puts.
func parsePayload(k [32]byte, b []byte) (it router.Item, err error) {
	if len(b) > maxPayload {
		return it, &Problem{Status: http.StatusRequestEntityTooLarge, Code: "too-large", Detail: fmt.Sprintf("The payload has more than %d bytes.", maxPayload)}
	}
	if len(b) <= pkarrHead {
		return it, bad("payload", "The payload has %d bytes, and no DNS message after signature and time, which have %d.", len(b), pkarrHead)
	}
	seq := binary.BigEndian.Uint64(b[64:])
	if seq > math.MaxInt64 {
		return it, bad("seq", "The time of the payload is too large.")
	}
	packet := b[pkarrHead:]
	it = router.Item{Mutable: true, K: k, V: encodeString(packet), Seq: int64(seq), Sig: [64]byte(b[:64])}
	if p := checkValue(it.V); p != nil {
		return it, p
	}
	if !krpc.Verify(k[:], nil, it.Seq, it.V, it.Sig[:]) {
		return it, refusal(krpc.ErrSignature)
	}
	if _, err := packetTTL(packet); err != nil {
		return it, bad("packet", "The payload has no DNS message: %v.", err)
	}
	return it, nil
}

// packetTTL checks the form of a DNS message (RFC 1035) and gives the least time to live of its answers, 0 if there are none.
func packetTTL(b []byte) (ttl time.Duration, err error) {
	var p dnsmessage.Parser
	if _, err := p.Start(b); err != nil {
		return 0, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return 0, err
	}
	for first := true; ; first = false {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return 0, err
		}
		if d := time.Duration(h.TTL) * time.Second; first || d < ttl {
			ttl = d
		}
		if err := p.SkipAnswer(); err != nil {
			return 0, err
		}
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return 0, err
	}
	return ttl, p.SkipAllAdditionals()
}

// publishing are the packets that are being put, by key. The zero value has none.
type publishing struct {
	mu    sync.Mutex
	under map[[32]byte][]router.Item
}

// begin notes a packet and reports whether another one of its key is being put.
func (p *publishing) begin(it router.Item) (another *router.Item, end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.under == nil {
		p.under = make(map[[32]byte][]router.Item)
	}
	for _, x := range p.under[it.K] {
		if x.Sig != it.Sig {
			another = &x
		}
	}
	p.under[it.K] = append(p.under[it.K], it)
	return another, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		all := p.under[it.K]
		for i := range all {
			if all[i].Sig == it.Sig {
				all = append(all[:i:i], all[i+1:]...)
				break
			}
		}
		if p.under[it.K] = all; len(all) == 0 {
			delete(p.under, it.K)
		}
	}
}

// putPacket stores a signed packet.
func (g *Gateway) putPacket(w http.ResponseWriter, r *http.Request, _ Caller) error {
	k, err := packetKey(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}
	it, err := parsePayload(k, body)
	if err != nil {
		return err
	}
	cond, err := packetCondition(r)
	if err != nil {
		return err
	}
	another, end := g.pkarr.begin(it)
	defer end()
	if another != nil && cond.none() {
		return &Problem{Status: http.StatusPreconditionRequired, Code: "publishing", Seq: &another.Seq,
			Detail: "Another packet of this key is being published. Say with If-Match which one this replaces."}
	}
	s, _, err := g.update(r, k, nil, func(current *router.Item) (router.Item, *int64, error) {
		cas, err := cond.cas(current)
		return it, cas, err
	})
	if err != nil {
		return err
	}
	w.Header().Set("Pkarr-Dht-Stored-Nodes", strconv.Itoa(s.Stored))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// replacing says which version a packet replaces: that with a time, or one that is no newer than a date, as an earlier form
// of the interface has it, whose dates have seconds only.
type replacing struct {
	seq   *int64
	until *time.Time
}

func packetCondition(r *http.Request) (c replacing, err error) {
	if s := strings.Trim(r.Header.Get("If-Match"), `" `); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return c, bad("if-match", "If-Match is %s, and not the time of a packet in microseconds.", printable(s))
		}
		c.seq = &n
	}
	if s := r.Header.Get("If-Unmodified-Since"); s != "" {
		if t, err := http.ParseTime(s); err == nil { // RFC 9110: others are ignored
			c.until = &t
		}
	}
	return c, nil
}

func (c replacing) none() bool { return c.seq == nil && c.until == nil }

// cas decides whether a packet may replace the present one.
func (c replacing) cas(current *router.Item) (*int64, error) {
	if current == nil || c.none() {
		return c.seq, nil
	}
	if c.seq != nil && *c.seq != current.Seq || c.until != nil && time.UnixMicro(current.Seq).Truncate(time.Second).After(*c.until) {
		p := refusal(krpc.ErrCAS)
		p.KRPC, p.Seq = 0, &current.Seq
		p.Detail = "The present packet is another one than the request means to replace."
		return nil, p
	}
	return &current.Seq, nil
}
