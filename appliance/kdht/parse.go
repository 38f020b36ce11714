package main

import (
	"encoding/hex"
	"strings"

	"kdht/router/krpc"
)

// parseID reads a target, infohash or node ID.
func parseID(what, s string) (krpc.ID, error) {
	id, err := krpc.ParseID(s)
	if err == nil {
		return id, nil
	}
	hint := "write 40 hexadecimal digits, as in e5f96f6f38320f0f33959cb4d3d656452117aadb"
	if len(s) == 64 {
		hint += "; if these 64 are a public key, write --key before them"
	}
	if strings.HasPrefix(s, "magnet:") {
		hint = "write only the 40 hexadecimal digits that follow \"urn:btih:\" in the link"
	}
	if _, bad := hex.DecodeString(s); bad != nil && len(s) == 40 {
		return id, usage(hint, "the %s %q has characters that are no hexadecimal digits", what, s)
	}
	return id, usage(hint, "the %s %q has %d characters, not 40", what, shorten(s), len(s))
}

// parseKey reads a public key.
func parseKey(s string) (k [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, usage("write the 64 hexadecimal digits that \"kdht keygen\" printed", "the public key %q has %d characters, and should have 64 hexadecimal digits", shorten(s), len(s))
	}
	return [32]byte(b), nil
}

// parseSalt checks a salt.
func parseSalt(s string) ([]byte, error) {
	if len(s) > krpc.MaxSalt {
		return nil, usage("shorten it", "the salt has %d bytes, and at most %d are allowed (BEP 44)", len(s), krpc.MaxSalt)
	}
	return []byte(s), nil
}

// shorten cuts a long argument for a message.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
