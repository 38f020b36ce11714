package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Errors of [Open].
var (
	// ErrUnsigned says that there is no signature of the key that was asked for.
	ErrUnsigned = errors.New("not signed with the release key")
	// ErrSignature says that the signature is wrong: the manifest was changed after it was signed.
	ErrSignature = errors.New("wrong signature")
)

// signed is the signed document.
type signed struct {
	Manifest  json.RawMessage `json:"manifest"`
	Key       string          `json:"key,omitempty"`       // Ed25519 public key, hexadecimal digits
	Signature string          `json:"signature,omitempty"` // over message(Manifest), hexadecimal digits
}

// context separates these signatures from all others that the key may make.
const context = "kdht release manifest 1\x00"

// message gives what is signed: the context and the canonical form.
func message(manifest []byte) ([]byte, error) {
	b := bytes.NewBufferString(context)
	if err := json.Compact(b, manifest); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Sign makes the signed document, indented for people.
func Sign(m *Manifest, key ed25519.PrivateKey) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	msg, err := message(raw)
	if err != nil {
		return nil, err
	}
	doc, err := json.MarshalIndent(signed{
		Manifest:  raw,
		Key:       hex.EncodeToString(key.Public().(ed25519.PublicKey)),
		Signature: hex.EncodeToString(ed25519.Sign(key, msg)),
	}, "", "  ")
	return append(doc, '\n'), err
}

// Open reads a signed document. With a key, it must be signed with that one ([ErrUnsigned], [ErrSignature]); with nil, it
// need not be signed at all, and nothing vouches for it.
func Open(doc []byte, key ed25519.PublicKey) (*Manifest, error) {
	if len(doc) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes are too many", ErrInvalid, len(doc))
	}
	var s signed
	if err := json.Unmarshal(doc, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if key != nil {
		if err := s.verify(key); err != nil {
			return nil, err
		}
	}
	m := new(Manifest)
	if err := json.Unmarshal(s.Manifest, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return m, m.Validate()
}

func (s *signed) verify(key ed25519.PublicKey) error {
	signer, err := hex.DecodeString(s.Key)
	if err != nil || !bytes.Equal(signer, key) {
		return ErrUnsigned
	}
	sig, err := hex.DecodeString(s.Signature)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return ErrUnsigned
	}
	msg, err := message(s.Manifest)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !ed25519.Verify(key, msg, sig) {
		return ErrSignature
	}
	return nil
}
