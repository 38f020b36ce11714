package krpc

import (
	"crypto/ed25519"
	"crypto/sha1" // BEP 44 prescribes SHA-1 for targets
	"strconv"
)

// Sizes in bytes of the cryptographic parts of a mutable item (BEP 44).
const (
	KeyLen = ed25519.PublicKeySize
	SigLen = ed25519.SignatureSize
)

// ImmutableTarget returns the target of an immutable item: SHA-1 of the bencoded value (BEP 44).
func ImmutableTarget(v []byte) ID { return ID(sha1.Sum(v)) }

// MutableTarget returns the target of a mutable item: SHA-1 of public key and salt (BEP 44).
func MutableTarget(k, salt []byte) ID {
	h := sha1.New()
	h.Write(k)
	h.Write(salt)
	var id ID
	h.Sum(id[:0])
	return id
}

// AppendSignable appends the bytes that the signature of a mutable item covers: the salt unless empty, the sequence
// number and the bencoded value (BEP 44).
func AppendSignable(b, salt []byte, seq int64, v []byte) []byte {
	if len(salt) > 0 {
		b = append(b, "4:salt"...)
		b = appendString(b, salt)
	}
	b = append(b, "3:seqi"...)
	b = strconv.AppendInt(b, seq, 10)
	b = append(b, "e1:v"...)
	return append(b, v...)
}

// Verify reports whether sig is a valid signature by the key k over a mutable item. Keys and signatures with a wrong
// size are never valid.
func Verify(k, salt []byte, seq int64, v, sig []byte) bool {
	if len(k) != KeyLen || len(sig) != SigLen {
		return false
	}
	var buf [256]byte
	return ed25519.Verify(k, AppendSignable(buf[:0], salt, seq, v), sig)
}

// Sign returns the signature of a mutable item, 64 bytes.
func Sign(key ed25519.PrivateKey, salt []byte, seq int64, v []byte) []byte {
	return ed25519.Sign(key, AppendSignable(nil, salt, seq, v))
}

// CheckValue checks the bencoded value of an item: at most MaxValue bytes (else ErrValueSize, 205), and one canonical
// bencoded value nested no deeper than a datagram can carry (else ErrValueForm, 203).
func CheckValue(v []byte) error {
	if len(v) > MaxValue {
		return ErrValueSize
	}
	if !canonical(v) {
		return ErrValueForm
	}
	return nil
}

// CheckPut checks everything about a put that does not depend on what is stored: size and form of the value, size of
// the salt, and for a mutable item (one with K) sequence number and signature. It returns the item's target, or the
// *Error to answer with. Decode has done all of it but the signature.
func CheckPut(m *Message) (ID, error) {
	if err := checkPutArgs(m); err != nil {
		return ID{}, err
	}
	if m.K == nil {
		return ImmutableTarget(m.V), nil
	}
	if !Verify(m.K, m.Salt, m.Seq, m.V, m.Sig) {
		return ID{}, ErrSignature
	}
	return MutableTarget(m.K, m.Salt), nil
}

// checkPutArgs returns nil or the *Error for arguments of a put that cannot be right.
func checkPutArgs(m *Message) error {
	switch {
	case m.V == nil:
		return ErrArgV
	case len(m.V) > MaxValue:
		return ErrValueSize
	case m.K == nil:
		// Immutable, even with seq or sig: some clients send seq 0 in every put.
	case len(m.K) != KeyLen:
		return ErrArgK
	case len(m.Sig) != SigLen:
		return ErrArgSig
	case !m.HasSeq || m.Seq < 0:
		return ErrArgSeq
	case len(m.Salt) > MaxSalt:
		return ErrSaltSize
	}
	return CheckValue(m.V)
}
