package store

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound says that the key holds nothing, or only what has expired.
	ErrNotFound = errors.New("store: not found")
	// ErrClosed is returned by every method once Close was called.
	ErrClosed = errors.New("store: closed")
	// ErrLocked is returned by Open when another process has the file open.
	ErrLocked = errors.New("store: file is locked by another process")
	// ErrInvalid says that the arguments cannot be stored: an empty or oversized
	// value, a salt over 64 bytes, a negative sequence number, an address without
	// port. KRPC error 203.
	ErrInvalid = errors.New("store: invalid")
	// ErrDamaged says that the file proved damaged during the operation, which was
	// not carried out. The store sets the file aside and begins a new one.
	ErrDamaged = errors.New("store: file is damaged")

	// ErrCASMismatch says that the stored sequence number differs from cas
	// (BEP 44, KRPC error 301).
	ErrCASMismatch = errors.New("store: cas does not match the stored sequence number")
	// ErrSeqOld says that the stored sequence number is higher (BEP 44, KRPC error
	// 302).
	ErrSeqOld = errors.New("store: sequence number is older than the stored one")
	// ErrSeqSameOtherValue says that the stored sequence number is the same but its
	// value another (BEP 44, KRPC error 302).
	ErrSeqSameOtherValue = errors.New("store: sequence number is stored with another value")

	// ErrQuota is the class of all quota errors: errors.Is(err, ErrQuota). KRPC error
	// 202.
	ErrQuota = errors.New("store: quota exceeded")
	// ErrQuotaBytes says that Options.MaxBytes would be exceeded.
	ErrQuotaBytes = fmt.Errorf("%w: total bytes", ErrQuota)
	// ErrQuotaItems says that Options.MaxItems would be exceeded.
	ErrQuotaItems = fmt.Errorf("%w: number of items", ErrQuota)
	// ErrQuotaInfohashes says that Options.MaxInfohashes would be exceeded.
	ErrQuotaInfohashes = fmt.Errorf("%w: number of infohashes", ErrQuota)
	// ErrQuotaPeers says that Options.MaxPeersPerInfohash would be exceeded.
	ErrQuotaPeers = fmt.Errorf("%w: peers of the infohash", ErrQuota)
	// ErrQuotaSource says that Options.MaxBytesPerSource would be exceeded.
	ErrQuotaSource = fmt.Errorf("%w: bytes of the source address", ErrQuota)
)
