package store

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// keyUpdates: the log of updates, as JSON.
var keyUpdates = []byte("updates")

// MaxUpdates is how many updates the log keeps; the oldest ones are forgotten.
const MaxUpdates = 50

// Update is an entry of the log of updates of the machine that the node runs on.
type Update struct {
	Time   time.Time `json:"time"` // when the result was known
	From   string    `json:"from"` // version and slot
	To     string    `json:"to"`
	By     string    `json:"by"`               // who asked for it
	Result string    `json:"result"`           // "committed", "reverted", "refused", or "excused": what made one revert was not its fault
	Reason string    `json:"reason,omitempty"` // why, unless it was committed; or what else there is to know
}

// AddUpdate appends to the log of updates. Only one goroutine may do so at a time.
func (s *Store) AddUpdate(u Update) error {
	all, err := s.Updates()
	if err != nil {
		return err
	}
	all = append(all, u)
	all = all[max(0, len(all)-MaxUpdates):]
	v, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return s.submit(func(b *batch) error {
		b.put(bucketState, keyUpdates, seal(v))
		return nil
	}, false)
}

// Updates returns the log of updates, the oldest first. A log that is damaged is empty.
func (s *Store) Updates() (all []Update, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		if v, ok := unseal(tx.Bucket(bucketState).Get(keyUpdates)); ok {
			if json.Unmarshal(v, &all) != nil {
				all = nil
			}
		}
		return nil
	})
	return all, err
}
