package tools

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"

	"kdht/appliance/gateway"
	"kdht/router/krpc"
)

// query is what somebody wants to look up.
type query struct {
	target krpc.ID
	peers  bool // of the infohash that target is, beside the item with that target
	// key and salt of a mutable item.
	mutable bool
	key     [32]byte
	salt    []byte
}

var errQuery = errors.New("this is no infohash or target (40 hexadecimal digits), no public key (64, or 52 characters of z-base-32; a salt may follow after a slash), and no magnet link")

// parseQuery reads what people write or paste.
func parseQuery(s string) (q query, err error) {
	s = strings.TrimSpace(s)
	if u, err := url.Parse(s); err == nil && u.Scheme == "magnet" {
		s = ""
		for _, xt := range u.Query()["xt"] {
			if h, ok := strings.CutPrefix(xt, "urn:btih:"); ok {
				s = h
			}
		}
		if len(s) == 32 { // the older form, in base-32 (RFC 4648)
			b, err := base32.StdEncoding.DecodeString(strings.ToUpper(s))
			if err != nil {
				return q, errQuery
			}
			s = hex.EncodeToString(b)
		}
		q.peers = true
	}
	if id, err := krpc.ParseID(s); err == nil {
		q.target = id
		return q, nil
	}
	s = strings.TrimPrefix(strings.TrimPrefix(s, "pk:"), "//")
	k, salt, _ := strings.Cut(s, "/")
	key, ok := gateway.ParseZBase32(k)
	if b, err := hex.DecodeString(k); err == nil && len(b) == len(key) {
		key, ok = [32]byte(b), true
	}
	if !ok || len(salt) > krpc.MaxSalt || q.peers {
		return query{}, errQuery
	}
	q.mutable, q.key, q.salt = true, key, []byte(salt)
	q.target = krpc.MutableTarget(key[:], q.salt)
	return q, nil
}
