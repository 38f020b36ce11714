package router

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"kdht/store"
)

const (
	cacheBytes = 4 << 20
	cacheTTL   = 30 * time.Second
	// cacheImmutable is how long an immutable item is served, which cannot change.
	cacheImmutable = 2 * time.Hour
	// cacheBound is how long what was put elsewhere is known: longer than lookups usually take.
	cacheBound = time.Minute
	// cacheOverhead is what an item costs beside its value and salt, about.
	cacheOverhead = 400
)

// itemCache keeps fetched items: those least recently asked for give way. Safe for concurrent use.
type itemCache struct {
	limit int64
	ttl   time.Duration

	mu    sync.Mutex
	hot   *hot                 // is told of them; nil: nobody
	of    map[ID]*list.Element // of cachedItem
	order *list.List           // the latest first
	bytes int64
}

type cachedItem struct {
	item    *Item
	expires time.Time // it is served until then; the zero time: never
	// known is how long it tells lookups that were under way when it came what is too old.
	known time.Time
}

func (c *cachedItem) cost() int64 { return int64(len(c.item.V) + len(c.item.Salt) + cacheOverhead) }

func newItemCache(limit int64, ttl time.Duration) *itemCache {
	return &itemCache{limit: limit, ttl: ttl, of: make(map[ID]*list.Element), order: list.New()}
}

// get returns an item, which nobody changes any more; nil if there is none.
func (c *itemCache) get(target ID, now time.Time) *Item {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.of[target]
	if e == nil {
		return nil
	}
	x := e.Value.(*cachedItem)
	if !now.Before(x.known) {
		c.remove(e)
		return nil
	}
	if !now.Before(x.expires) {
		return nil
	}
	c.order.MoveToFront(e)
	return x.item
}

// offer returns an item that may be answered from, and until when, as [hot.offer] takes it; the zero offer if there is none.
func (c *itemCache) offer(target ID, now time.Time) offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.of[target]; e != nil {
		if x := e.Value.(*cachedItem); now.Before(x.expires) {
			return offer{item: x.item, expires: x.expires}
		}
	}
	return offer{}
}

// add keeps an item and returns the newest version of it that is known here, which may be another one: that in the cache or
// the one stored, which stored returns. Either may have come after the item was found. Those who were given an older one until now are not
// told: see [Node.keepFetched].
func (c *itemCache) add(it *Item, stored func(ID) *Item, now time.Time) *Item {
	c.mu.Lock()
	defer c.mu.Unlock()
	if it.Mutable {
		if s := stored(it.Target); s != nil && s.Mutable && s.Seq > it.Seq {
			it = s // one that is stored from now on supersedes
		}
	}
	return c.put(it, now)
}

// keepsOlder reports whether an older version of a mutable item is kept.
func (c *itemCache) keepsOlder(it *Item) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.of[it.Target]
	return e != nil && it.Mutable && e.Value.(*cachedItem).item.Seq < it.Seq
}

// newest returns the newest version of an item that is known here, as add does, and keeps nothing.
func (c *itemCache) newest(it *Item, stored func(ID) *Item) *Item {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !it.Mutable {
		return it
	}
	if s := stored(it.Target); s != nil && s.Mutable && s.Seq > it.Seq {
		it = s
	}
	if e := c.of[it.Target]; e != nil && e.Value.(*cachedItem).item.Seq > it.Seq {
		it = e.Value.(*cachedItem).item
	}
	return it
}

// outdate ends that older versions of a mutable item are kept, which was put elsewhere. Those who ask from now on get what there
// is then.
func (c *itemCache) outdate(it Item, now time.Time) {
	it.V, it.Salt = slices.Clone(it.V), slices.Clone(it.Salt)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.of[it.Target]; e != nil {
		if e.Value.(*cachedItem).item.Seq >= it.Seq {
			return
		}
		c.remove(e)
	}
	c.keep(&cachedItem{item: &it, known: now.Add(cacheBound)})
}

// supersede replaces an item that is kept by the version that was just stored, whose memory is somebody else's.
func (c *itemCache) supersede(it *store.Item, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[it.Target] == nil || !it.Mutable {
		return
	}
	own := itemOf(it)
	own.V, own.Salt = slices.Clone(it.V), slices.Clone(it.Salt)
	c.put(own, now)
}

// forget drops an item, because a newer version was put elsewhere.
func (c *itemCache) forget(target ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.of[target]; e != nil {
		c.remove(e)
	}
}

// put keeps an item or the newer version of it that is there, and returns it.
func (c *itemCache) put(it *Item, now time.Time) *Item {
	x := &cachedItem{item: it, expires: now.Add(cacheImmutable)}
	x.known = x.expires
	if it.Mutable {
		x.expires = now.Add(c.ttl)
		x.known = now.Add(max(c.ttl, cacheBound))
	}
	if e := c.of[it.Target]; e != nil {
		if old := e.Value.(*cachedItem); it.Mutable && old.item.Seq > it.Seq {
			return old.item // even if it is to be looked up again
		}
		c.remove(e)
	}
	c.keep(x)
	if c.hot != nil {
		c.hot.offer(it.Target, offer{item: it, expires: x.expires})
	}
	return it
}

func (c *itemCache) keep(x *cachedItem) {
	c.of[x.item.Target] = c.order.PushFront(x)
	c.bytes += x.cost()
	for c.bytes > c.limit && c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
}

func (c *itemCache) remove(e *list.Element) {
	x := c.order.Remove(e).(*cachedItem)
	delete(c.of, x.item.Target)
	c.bytes -= x.cost()
}

func (c *itemCache) size() (items int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len(), c.bytes
}
