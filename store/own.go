package store

import (
	"errors"
	"slices"
)

// OwnItems returns the items to republish, those put longest ago first.
func (s *Store) OwnItems() ([]*Item, error) {
	s.mu.RLock()
	targets := make([]Key, 0, len(s.index.own))
	for k := range s.index.own {
		targets = append(targets, k)
	}
	s.mu.RUnlock()
	items := make([]*Item, 0, len(targets))
	for _, k := range targets {
		it, err := s.Item(k)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if it.Own {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(a, b *Item) int { return a.Updated.Compare(b.Updated) })
	return items, nil
}

// Disown makes an own item an ordinary one, whose time begins now. ErrNotFound if
// there is no such own item.
func (s *Store) Disown(target [20]byte) error {
	return s.submit(func(b *batch) error {
		if expires, ok := b.expires(target); !ok || expires != never {
			return ErrNotFound
		}
		c := b.chargeOf(target, never)
		b.unindex(target, never, c)
		b.indexItem(target, b.s.after(b.s.opt.ItemTTL), c)
		return nil
	}, false)
}
