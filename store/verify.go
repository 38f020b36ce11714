package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"time"
)

// bbolt maps its file and trusts it: a damaged page makes it panic, fault, or
// allocate without bound, partly in goroutines of its own, where nobody can recover.
// So verify reads the file's structure before bbolt may: both meta pages, the free
// list, then every page of every tree, with all offsets checked. The same things
// that bbolt's own Check looks at, and in addition every length.

// The layout of a bbolt file, version 2; see bbolt's internal/common.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	// pgidNone in a meta page's free list field: the list is not kept in the file.
	pgidNone = ^uint64(0)

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFreelist = 0x10

	pageHeader   = 16 // id(8) flags(2) count(2) overflow(4)
	pageElement  = 16 // branch: pos(4) ksize(4) pgid(8); leaf: flags(4) pos(4) ksize(4) vsize(4)
	bucketHeader = 16 // root(8) sequence(8)
	metaSize     = 64

	leafBucket = 0x01

	// maxDepth is far more than a tree of 2^48 bytes has levels.
	maxDepth = 32
	// maxPage bounds what a page with its overflow may hold; the largest value
	// that a store writes is its node list.
	maxPage = 16 << 20
)

var native = binary.NativeEndian

type boltMeta struct {
	pageSize                      int64
	id, root, freelist, hwm, txid uint64
	headed                        bool // the page's header is that of a meta page
}

type verifier struct {
	f        io.ReaderAt
	meta     boltMeta
	used     bitmap
	free     bitmap
	deadline time.Time
	buffers  [maxDepth][]byte
}

var errDeadline = errors.New("deadline")

// A verdict is what verify says of a file in which it found no damage.
type verdict struct {
	// complete is false when the time limit ran out before everything was seen.
	complete bool
	// torn says that one of the two meta pages is not whole: what a power failure
	// leaves, and what there are two for. The next commits write it anew.
	torn bool
}

// verify checks the structure of a bbolt file of the given size, for as long as the
// limit allows.
func verify(f io.ReaderAt, size int64, limit time.Duration) (verdict, error) {
	v := &verifier{f: f, deadline: time.Now().Add(limit)}
	var (
		out verdict
		err error
	)
	if v.meta, out.torn, err = readMeta(f, size); err != nil {
		return out, err
	}
	v.used, v.free = newBitmap(v.meta.hwm), newBitmap(v.meta.hwm)
	v.used.set(0)
	v.used.set(1)
	if err := v.freelist(); err != nil {
		return out, fmt.Errorf("free list: %w", err)
	}
	switch err := v.tree(v.meta.root, 0, nil, nil); {
	case errors.Is(err, errDeadline):
		return out, nil
	case err != nil:
		return out, err
	}
	for id := range v.meta.hwm {
		if v.used.get(id) == v.free.get(id) {
			return out, fmt.Errorf("page %d: used %v, free %v", id, v.used.get(id), v.free.get(id))
		}
	}
	out.complete = true
	return out, nil
}

// readMeta finds the meta page of the last transaction. torn says that not both are
// whole.
func readMeta(f io.ReaderAt, size int64) (best boltMeta, torn bool, err error) {
	valid, whole := 0, 0
	consider := func(off int64) {
		m, err := parseMeta(f, off)
		if err != nil || off != 0 && off != m.pageSize {
			return
		}
		// bbolt goes by the meta data alone, so the choice is made without looking at
		// the page's header.
		if valid++; valid == 1 || m.txid > best.txid {
			best = m
		}
		if m.headed && m.id == uint64(off/m.pageSize) {
			whole++
		}
	}
	consider(0)
	// The second meta page lies one page in, and the page size is not known when the
	// first is torn.
	for off := int64(1024); off <= 1024<<14 && off < size; off <<= 1 {
		consider(off)
	}
	if valid == 0 {
		return best, false, errors.New("no valid meta page")
	}
	if best.hwm < 4 || best.hwm > uint64(size/best.pageSize) {
		return best, false, fmt.Errorf("%d pages of %d bytes in a file of %d bytes", best.hwm, best.pageSize, size)
	}
	return best, whole < 2, nil
}

func parseMeta(f io.ReaderAt, off int64) (boltMeta, error) {
	var b [pageHeader + metaSize]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return boltMeta{}, err
	}
	p := b[pageHeader:]
	h := fnv.New64a()
	h.Write(p[:56])
	m := boltMeta{
		headed:   native.Uint16(b[8:]) == pageMeta,
		id:       native.Uint64(b[:]),
		pageSize: int64(native.Uint32(p[8:])),
		root:     native.Uint64(p[16:]),
		freelist: native.Uint64(p[32:]),
		hwm:      native.Uint64(p[40:]),
		txid:     native.Uint64(p[48:]),
	}
	switch {
	case native.Uint32(p) != boltMagic:
		return m, errors.New("wrong magic")
	case native.Uint32(p[4:]) != boltVersion:
		return m, errors.New("unknown version")
	case native.Uint64(p[56:]) != h.Sum64():
		return m, errors.New("wrong checksum")
	case m.pageSize < 1024 || m.pageSize > 1024<<14 || m.pageSize&(m.pageSize-1) != 0:
		return m, errors.New("impossible page size")
	}
	return m, nil
}

// page reads a page with its overflow pages and marks them used. The result is
// valid until the next call with the same depth.
func (v *verifier) page(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= v.meta.hwm {
		return nil, fmt.Errorf("page %d: out of bounds", id)
	}
	off := int64(id) * v.meta.pageSize
	var head [pageHeader]byte
	if _, err := v.f.ReadAt(head[:], off); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	overflow := uint64(native.Uint32(head[12:]))
	n := int64(overflow+1) * v.meta.pageSize
	switch {
	case native.Uint64(head[:]) != id:
		return nil, fmt.Errorf("page %d: claims to be page %d", id, native.Uint64(head[:]))
	case id+overflow >= v.meta.hwm:
		return nil, fmt.Errorf("page %d: %d overflow pages", id, overflow)
	case n > max(maxPage, 16*int64(v.meta.hwm)):
		return nil, fmt.Errorf("page %d: %d bytes", id, n)
	}
	for i := id; i <= id+overflow; i++ {
		if !v.used.set(i) {
			return nil, fmt.Errorf("page %d: referenced twice", i)
		}
	}
	if int64(cap(v.buffers[depth])) < n {
		v.buffers[depth] = make([]byte, n)
	}
	b := v.buffers[depth][:n]
	if _, err := v.f.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return b, nil
}

func (v *verifier) freelist() error {
	if v.meta.freelist == pgidNone {
		return errors.New("none in the file")
	}
	b, err := v.page(v.meta.freelist, 0)
	if err != nil {
		return err
	}
	if flags := native.Uint16(b[8:]); flags != pageFreelist {
		return fmt.Errorf("page %d: type %#x", v.meta.freelist, flags)
	}
	// A count that does not fit in 16 bits is in the first entry.
	count, list := uint64(native.Uint16(b[10:])), b[pageHeader:]
	if count == 0xffff {
		count, list = native.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return fmt.Errorf("%d entries", count)
	}
	last := uint64(1)
	for i := range count {
		id := native.Uint64(list[8*i:])
		if id <= last || id >= v.meta.hwm {
			return fmt.Errorf("entry %d: page %d after %d", i, id, last)
		}
		v.free.set(id)
		last = id
	}
	return nil
}

// tree checks the tree below a page. Its first key must be lo, which the branch above
// has for it, and all must be less than hi; nil is no bound. bbolt's own check lets
// the first key be greater, but its deletions go wrong then, and it writes no such
// tree.
func (v *verifier) tree(id uint64, depth int, lo, hi []byte) error {
	if depth >= maxDepth {
		return fmt.Errorf("page %d: too deep", id)
	}
	if time.Now().After(v.deadline) {
		return errDeadline
	}
	b, err := v.page(id, depth)
	if err != nil {
		return err
	}
	if v.free.get(id) {
		return fmt.Errorf("page %d: in use, but in the free list", id)
	}
	switch flags := native.Uint16(b[8:]); flags {
	case pageBranch:
		err = v.branch(b, depth, lo, hi)
	case pageLeaf:
		err = v.leaf(b, depth, lo, hi)
	default:
		err = fmt.Errorf("type %#x", flags)
	}
	if err != nil && !errors.Is(err, errDeadline) {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return err
}

func (v *verifier) branch(b []byte, depth int, lo, hi []byte) error {
	n := int(native.Uint16(b[10:]))
	if n == 0 {
		return errors.New("empty branch")
	}
	key := func(i int) ([]byte, error) {
		e, err := element(b, i, n)
		if err != nil {
			return nil, err
		}
		k, _, err := cut(b, n, e, native.Uint32(b[e:]), native.Uint32(b[e+4:]), 0)
		return k, err
	}
	k, err := key(0)
	if err != nil {
		return err
	}
	if lo != nil && !bytes.Equal(k, lo) {
		return errors.New("first key differs from the branch above")
	}
	for i := range n {
		next := hi
		if i+1 < n {
			if next, err = key(i + 1); err != nil {
				return err
			}
			if err := inside(next, k, hi); err != nil || bytes.Equal(k, next) {
				return fmt.Errorf("key %d out of order", i+1)
			}
		}
		if err := v.tree(native.Uint64(b[pageHeader+pageElement*i+8:]), depth+1, k, next); err != nil {
			return err
		}
		k = next
	}
	return nil
}

func (v *verifier) leaf(b []byte, depth int, lo, hi []byte) error {
	n := int(native.Uint16(b[10:]))
	prev := lo
	for i := range n {
		e, err := element(b, i, n)
		if err != nil {
			return err
		}
		k, val, err := cut(b, n, e, native.Uint32(b[e+4:]), native.Uint32(b[e+8:]), native.Uint32(b[e+12:]))
		if err != nil {
			return err
		}
		if err := inside(k, prev, hi); err != nil || i > 0 && bytes.Equal(k, prev) {
			return fmt.Errorf("key %d out of order", i)
		}
		if i == 0 && lo != nil && !bytes.Equal(k, lo) {
			return errors.New("first key differs from the branch above")
		}
		prev = k
		if native.Uint32(b[e:])&leafBucket == 0 {
			continue
		}
		if err := v.bucket(val, depth); err != nil {
			return fmt.Errorf("bucket %q: %w", k, err)
		}
	}
	return nil
}

// bucket checks a nested bucket: a tree of its own, or a small leaf inline.
func (v *verifier) bucket(val []byte, depth int) error {
	if len(val) < bucketHeader {
		return errors.New("short header")
	}
	if root := native.Uint64(val); root != 0 {
		return v.tree(root, depth+1, nil, nil)
	}
	inline := val[bucketHeader:]
	switch {
	case len(inline) < pageHeader:
		return errors.New("short inline page")
	case native.Uint16(inline[8:]) != pageLeaf:
		return errors.New("inline page is not a leaf")
	case depth+1 >= maxDepth:
		return errors.New("too deep")
	}
	return v.leaf(inline, depth+1, nil, nil)
}

// element gives the offset of the i-th of n element headers.
func element(b []byte, i, n int) (int, error) {
	if pageHeader+pageElement*n > len(b) {
		return 0, fmt.Errorf("%d elements", n)
	}
	return pageHeader + pageElement*i, nil
}

// cut gives key and value of the element at offset e; pos counts from there.
func cut(b []byte, n, e int, pos, ksize, vsize uint32) (key, val []byte, err error) {
	start := uint64(e) + uint64(pos)
	mid := start + uint64(ksize)
	end := mid + uint64(vsize)
	if start < uint64(pageHeader+pageElement*n) || end > uint64(len(b)) {
		return nil, nil, fmt.Errorf("element at %d: bytes %d to %d of %d", e, start, end, len(b))
	}
	return b[start:mid:mid], b[mid:end:end], nil
}

func inside(k, lo, hi []byte) error {
	if lo != nil && bytes.Compare(k, lo) < 0 || hi != nil && bytes.Compare(k, hi) >= 0 {
		return errors.New("key out of order")
	}
	return nil
}

type bitmap []uint64

func newBitmap(n uint64) bitmap { return make(bitmap, (n+63)/64) }

func (m bitmap) get(i uint64) bool { return m[i/64]>>(i%64)&1 == 1 }

// set marks i and reports whether it was unmarked.
func (m bitmap) set(i uint64) bool {
	was := m.get(i)
	m[i/64] |= 1 << (i % 64)
	return !was
}
