package foreign

import "crypto/ed25519"

// Key is an Ed25519 key pair as clients take it.
type Key struct{ Seed, Public []byte }

// NewKey makes the key pair of a seed of 32 bytes.
func NewKey(seed []byte) Key {
	return Key{Seed: seed, Public: ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)}
}
