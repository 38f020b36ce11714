package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"
)

// bucketAudit: serial(8) → entry of the audit log as JSON, ending in its CRC-32C. It is made with the first entry, and no part of
// the schema: a version that does not know it leaves it alone.
var bucketAudit = []byte("audit")

const (
	// MaxAudit is how many entries the audit log keeps; the oldest ones are forgotten.
	MaxAudit = 500
	// maxAuditText bounds each text of an entry, in bytes.
	maxAuditText = 1 << 10
)

// Audit is an entry of the audit log: something that somebody has changed, or was not allowed to.
type Audit struct {
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	What    string    `json:"what"`
	Outcome string    `json:"outcome"`
}

// AddAudit appends to the audit log and returns once that is durable. Texts of more than 1 KiB are cut off.
func (s *Store) AddAudit(a Audit) error {
	v, err := a.encode()
	if err != nil {
		return err
	}
	return s.submit(func(b *batch) error {
		b.dirty = true
		b.fail(appendAudit(b.tx, v))
		return nil
	}, false)
}

// Audit returns the last n entries of the audit log, the newest first. Entries that are damaged are left out.
func (s *Store) Audit(n int) (all []Audit, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		all = lastAudit(tx, n)
		return nil
	})
	return all, err
}

func (a Audit) encode() ([]byte, error) {
	a.Who, a.What, a.Outcome = clipped(a.Who), clipped(a.What), clipped(a.Outcome)
	v, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return seal(v), nil
}

func clipped(s string) string {
	if len(s) <= maxAuditText {
		return s
	}
	n := maxAuditText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// appendAudit appends an encoded entry, and forgets those that are too many.
func appendAudit(tx *bbolt.Tx, v []byte) error {
	b, err := tx.CreateBucketIfNotExists(bucketAudit)
	if err != nil {
		return err
	}
	serial := uint64(1)
	if k, _ := b.Cursor().Last(); len(k) == 8 {
		serial = binary.BigEndian.Uint64(k) + 1
	}
	if err := b.Put(binary.BigEndian.AppendUint64(nil, serial), v); err != nil {
		return err
	}
	for {
		k, _ := b.Cursor().First()
		if len(k) == 8 && binary.BigEndian.Uint64(k)+MaxAudit > serial {
			return nil
		}
		if err := b.Delete(k); err != nil {
			return err
		}
	}
}

func lastAudit(tx *bbolt.Tx, n int) (all []Audit) {
	b := tx.Bucket(bucketAudit)
	if b == nil {
		return nil
	}
	c := b.Cursor()
	for k, v := c.Last(); k != nil && len(all) < n; k, v = c.Prev() {
		var a Audit
		if text, ok := unseal(v); ok && json.Unmarshal(text, &a) == nil {
			all = append(all, a)
		}
	}
	return all
}
