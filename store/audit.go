package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"
)

// bucketAudit, bucketPuts, bucketRead and bucketFailed: serial(8) → entry of the audit log as JSON, ending in its CRC-32C. They are made with the first
// entry, and no part of the schema: a version that does not know them leaves them alone. What was put into the DHT, what was only read, and what
// was tried in vain are kept apart from what was done to the box, so that neither a program that writes all day long nor somebody who may nothing has
// anybody forget who changed the configuration.
var bucketAudit, bucketPuts, bucketRead, bucketFailed = []byte("audit"), []byte("audit-puts"), []byte("audit-read"), []byte("audit-failed")

// auditBuckets are all of them.
var auditBuckets = [][]byte{bucketAudit, bucketPuts, bucketRead, bucketFailed}

const (
	// MaxChanges is how many changes of the box the audit log keeps, MaxPuts how many entries of what was put into the DHT, MaxRead of what
	// was read, and MaxFailed of what was tried in vain; the oldest ones are forgotten.
	MaxChanges, MaxPuts, MaxRead, MaxFailed = 500, 500, 200, 200
	// MaxAudit is how many entries that makes.
	MaxAudit = MaxChanges + MaxPuts + MaxRead + MaxFailed
	// maxAuditText bounds each text of an entry, in bytes.
	maxAuditText = 1 << 10
)

// Audit is an entry of the audit log: something that somebody has changed or read, or was not allowed to.
type Audit struct {
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	What    string    `json:"what"`
	Outcome string    `json:"outcome"`
	// Put says that something was put into the DHT, and nothing of the box was changed.
	Put bool `json:"put,omitempty"`
	// Read says that something was read that not everybody may see, or asked for, and nothing was changed.
	Read bool `json:"read,omitempty"`
	// Failed says that nothing was changed, because it was refused or did not work.
	Failed bool `json:"failed,omitempty"`
}

// bucket is where the entry is kept, and with how many.
func (a Audit) bucket() (name []byte, most uint64) {
	switch {
	case a.Failed:
		return bucketFailed, MaxFailed
	case a.Put:
		return bucketPuts, MaxPuts
	case a.Read:
		return bucketRead, MaxRead
	}
	return bucketAudit, MaxChanges
}

// AddAudit appends to the audit log and returns once that is durable. Texts of more than 1 KiB are cut off.
func (s *Store) AddAudit(a Audit) error {
	v, err := a.encode()
	if err != nil {
		return err
	}
	return s.submit(func(b *batch) error {
		b.dirty = true
		b.fail(appendAudit(b.tx, a, v))
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

// appendAudit appends an entry, encoded as v, and forgets those that are too many.
func appendAudit(tx *bbolt.Tx, a Audit, v []byte) error {
	bucket, most := a.bucket()
	b, err := tx.CreateBucketIfNotExists(bucket)
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
		if len(k) == 8 && binary.BigEndian.Uint64(k)+most > serial {
			return nil
		}
		if err := b.Delete(k); err != nil {
			return err
		}
	}
}

// lastAudit gives the last n entries of all kinds, the newest first, each kind in its own order, whatever the clock did meanwhile.
func lastAudit(tx *bbolt.Tx, n int) (all []Audit) {
	var kinds [][]Audit
	for _, name := range auditBuckets {
		kinds = append(kinds, lastOf(tx.Bucket(name), n))
	}
	for len(all) < n {
		var next *[]Audit
		for i := range kinds {
			if k := &kinds[i]; len(*k) > 0 && (next == nil || (*k)[0].Time.After((*next)[0].Time)) {
				next = k
			}
		}
		if next == nil {
			break
		}
		all, *next = append(all, (*next)[0]), (*next)[1:]
	}
	return all
}

// lastOf gives the last n entries of a bucket, the newest first.
func lastOf(b *bbolt.Bucket, n int) (all []Audit) {
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
