package manifest

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"
)

// PrivateKey reads the content of a key file as "kdht keygen" writes it: the seed in hexadecimal digits.
func PrivateKey(text []byte) (ed25519.PrivateKey, error) {
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("not a key file: it should have %d hexadecimal digits and nothing else", 2*ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PublicKey reads a public key as "kdht keygen" prints it: 64 hexadecimal digits.
func PublicKey(text string) (ed25519.PublicKey, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("not a public key: it should have %d hexadecimal digits", 2*ed25519.PublicKeySize)
	}
	return key, nil
}
