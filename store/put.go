package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// PutItem stores an item that arrived from source, which is charged for it; the zero
// Addr is this node itself. It follows BEP 44: cas, if not nil, must equal the stored
// sequence number (ErrCASMismatch); the sequence number must be higher than the
// stored one (ErrSeqOld), or the same with the same value (else
// ErrSeqSameOtherValue). The same value again restarts the item's time and charges
// the new source. cas and the sequence number are not looked at when nothing is
// stored, cas not at all for immutable items.
//
// Other errors: ErrInvalid, the quota errors, ErrDamaged, ErrClosed, or that of the
// disk. When nil is returned, the item is on stable storage.
func (s *Store) PutItem(it *Item, cas *int64, from netip.Addr) error {
	r, err := encodeItem(it)
	if err != nil {
		return err
	}
	p := putting{target: it.Target, record: r, own: it.Own, source: sourceOf(from)}
	if cas != nil && it.Mutable {
		p.hasCAS, p.cas = true, *cas
	}
	return s.submit(p.run, false)
}

// putting is a put on its way to the writer.
type putting struct {
	target Key
	record record
	own    bool
	source source
	hasCAS bool
	cas    int64
}

func (p putting) run(b *batch) error {
	err := p.put(b)
	if errors.Is(err, ErrQuota) && b.reclaim() {
		err = p.put(b)
	}
	return err
}

func (p putting) put(b *batch) error {
	expires, known := b.expires(p.target)
	live := known && expires > b.now

	r := p.record
	same := false
	if live {
		old := record(b.bucket(bucketItems).Get(p.target[:]))
		if old.valid(p.target) {
			var err error
			if same, err = p.compare(old); err != nil {
				return err
			}
			if same {
				r = old // the first signature is as good
			}
		}
	}

	var was charge
	if known {
		was = b.chargeOf(p.target, expires)
	}
	now := charge{p.source, r.cost()}
	until := b.s.after(b.s.opt.ItemTTL)
	if p.own || known && expires == never {
		now.source, until = 0, never
	} else if err := b.quota(was, now, known); err != nil {
		return err
	}
	if same && until == expires && was == now && until != never {
		return nil // put twice within a second
	}

	// From here on nothing fails but the file.
	if !same {
		b.put(bucketItems, p.target[:], r)
	}
	if known {
		b.unindex(p.target, expires, was)
	} else {
		b.added++
	}
	b.indexItem(p.target, until, now)
	return nil
}

// compare applies BEP 44's rules to a stored record: same says that the put only
// restarts the time.
func (p putting) compare(old record) (same bool, err error) {
	same = bytes.Equal(old.value(), p.record.value())
	switch {
	case old.mutable() != p.record.mutable():
		return false, fmt.Errorf("%w: the target holds an item of the other kind", ErrInvalid)
	case !old.mutable():
		if !same {
			return false, fmt.Errorf("%w: the target holds another value", ErrInvalid)
		}
		return true, nil
	case p.hasCAS && p.cas != old.seq():
		return false, ErrCASMismatch
	case p.record.seq() < old.seq():
		return false, ErrSeqOld
	case p.record.seq() > old.seq():
		return false, nil
	case !same:
		return false, ErrSeqSameOtherValue
	}
	return true, nil
}

// quota decides whether an item may cost what it would, given what it costs now. What
// costs its source no more than before is never refused.
func (b *batch) quota(was, now charge, known bool) error {
	opt, x := &b.s.opt, &b.s.index
	switch {
	case !known && over(len(x.items)+b.added+1, opt.MaxItems):
		return ErrQuotaItems
	case now.cost > was.cost && over(x.bytes-was.cost+now.cost, opt.MaxBytes):
		return ErrQuotaBytes
	case now.source == was.source:
		if now.cost > was.cost && b.overSource(now.source, now.cost-was.cost) {
			return ErrQuotaSource
		}
	case b.overSource(now.source, now.cost):
		return ErrQuotaSource
	}
	return nil
}

func (b *batch) overSource(src source, cost int64) bool {
	return src != 0 && over(b.s.index.sources[src]+cost, b.s.opt.MaxBytesPerSource)
}

// chargeOf tells who pays for a known item.
func (b *batch) chargeOf(target Key, expires uint32) charge {
	if expires == never {
		v := b.bucket(bucketOwn).Get(target[:])
		return charge{0, int64(binary.BigEndian.Uint32(v[4:]))}
	}
	return parseCharge(b.bucket(bucketExpiry).Get(expiryKey(expires, target)))
}

// indexItem adds an item's index entry.
func (b *batch) indexItem(target Key, expires uint32, c charge) {
	if expires == never {
		v := binary.BigEndian.AppendUint32(nil, b.now)
		b.put(bucketOwn, target[:], binary.BigEndian.AppendUint32(v, uint32(c.cost)))
	} else {
		b.put(bucketExpiry, expiryKey(expires, target), c.append(nil))
	}
	b.items[target] = expires
	b.change(func(x *index) {
		if expires == never {
			x.own[target] = b.now
		}
		x.charge(c.source, c.cost)
	})
}

// unindex removes an item's index entry.
func (b *batch) unindex(target Key, expires uint32, c charge) {
	if expires == never {
		b.delete(bucketOwn, target[:])
	} else {
		b.delete(bucketExpiry, expiryKey(expires, target))
	}
	b.items[target] = 0
	b.change(func(x *index) {
		delete(x.own, target)
		x.charge(c.source, -c.cost)
	})
}

// removeItem removes an item altogether.
func (b *batch) removeItem(target Key) {
	expires, ok := b.expires(target)
	if !ok {
		return
	}
	b.unindex(target, expires, b.chargeOf(target, expires))
	b.delete(bucketItems, target[:])
	b.added--
	b.gone[target] = struct{}{}
}
