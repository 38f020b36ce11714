package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// An item record is what bucketItems holds:
//
//	flags(1) [k(32) sig(64) seq(8) saltlen(1) salt] v crc(4)
//
// The part in brackets is there when flags has recordMutable. The CRC-32C covers the
// target and all before it: pages of a bbolt file have no checksum of their own.
type record []byte

const (
	recordMutable = 1

	maxSalt = 64
	// maxValue is more than BEP 44 allows (1000 bytes), for the callers that take
	// somewhat more.
	maxValue = 4096

	offKey, offSig, offSeq, offSaltLen, offSalt = 1, 33, 97, 105, 106

	crcSize = 4

	// itemOverhead is what an item costs besides its record: target, index entry, and
	// bbolt's own headers.
	itemOverhead = 96

	maxItemCost = offSalt + maxSalt + maxValue + crcSize + itemOverhead
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeItem makes the record of an item.
func encodeItem(it *Item) (record, error) {
	switch {
	case len(it.V) == 0 || len(it.V) > maxValue:
		return nil, fmt.Errorf("%w: value of %d bytes", ErrInvalid, len(it.V))
	case !it.Mutable:
		r := make(record, 0, 1+len(it.V)+crcSize)
		return append(append(r, 0), it.V...).seal(it.Target), nil
	case len(it.Salt) > maxSalt:
		return nil, fmt.Errorf("%w: salt of %d bytes", ErrInvalid, len(it.Salt))
	case it.Seq < 0:
		return nil, fmt.Errorf("%w: sequence number %d", ErrInvalid, it.Seq)
	}
	r := make(record, 0, offSalt+len(it.Salt)+len(it.V)+crcSize)
	r = append(r, recordMutable)
	r = append(r, it.K[:]...)
	r = append(r, it.Sig[:]...)
	r = binary.BigEndian.AppendUint64(r, uint64(it.Seq))
	r = append(r, byte(len(it.Salt)))
	r = append(r, it.Salt...)
	return append(r, it.V...).seal(it.Target), nil
}

// seal appends the checksum.
func (r record) seal(target Key) record {
	return binary.BigEndian.AppendUint32(r, r.sum(target))
}

func (r record) sum(target Key) uint32 {
	return crc32.Update(crc32.Checksum(target[:], castagnoli), castagnoli, r)
}

// valid reports whether the record is whole. The other methods need a valid one.
func (r record) valid(target Key) bool {
	n := len(r) - crcSize
	switch {
	case n < 2 || r[0] > recordMutable:
		return false
	case r.mutable() && (n < offSalt || n <= offSalt+int(r[offSaltLen])):
		return false
	}
	return binary.BigEndian.Uint32(r[n:]) == r[:n].sum(target)
}

func (r record) mutable() bool { return r[0]&recordMutable != 0 }

func (r record) seq() int64 { return int64(binary.BigEndian.Uint64(r[offSeq:])) }

func (r record) value() []byte {
	start := 1
	if r.mutable() {
		start = offSalt + int(r[offSaltLen])
	}
	return r[start : len(r)-crcSize]
}

// cost is what an item with this record is charged.
func (r record) cost() int64 { return int64(len(r)) + itemOverhead }

// item decodes the record, whose bytes the item keeps.
func (r record) item(target Key) *Item {
	it := &Item{Target: target, V: r.value(), Mutable: r.mutable()}
	if it.Mutable {
		copy(it.K[:], r[offKey:])
		copy(it.Sig[:], r[offSig:])
		it.Seq = r.seq()
		if n := int(r[offSaltLen]); n > 0 {
			it.Salt = r[offSalt : offSalt+n : offSalt+n]
		}
	}
	return it
}

// Entries of the expiry index.
const (
	expiryKeySize   = 4 + 20
	expiryValueSize = 4 + 8
	ownValueSize    = 4 + 4
)

func expiryKey(expires uint32, target Key) []byte {
	k := make([]byte, 0, expiryKeySize)
	return append(binary.BigEndian.AppendUint32(k, expires), target[:]...)
}

func parseExpiryKey(k []byte) (expires uint32, target Key) {
	return binary.BigEndian.Uint32(k), Key(k[4:])
}

// charge says who pays how much for an item.
type charge struct {
	source source
	cost   int64
}

func (c charge) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(c.cost))
	return binary.BigEndian.AppendUint64(b, uint64(c.source))
}

func parseCharge(v []byte) charge {
	return charge{source(binary.BigEndian.Uint64(v[4:])), int64(binary.BigEndian.Uint32(v))}
}
