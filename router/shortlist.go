package router

import (
	"net/netip"
	"slices"
	"time"

	"kdht/router/krpc"
)

const (
	// alpha is how many queries of a lookup may be without answer, slow ones not counted (BEP 5 leaves it open; 3 is
	// Kademlia's).
	alpha = 3
	// lookupSeeds is how many contacts of the table a lookup begins with in one family.
	lookupSeeds = 2 * bucketSize
	// maxCandidates bounds what a lookup remembers in one family.
	maxCandidates = 256
	// maxQueries bounds what a lookup sends in one family, and so what nodes that refer to ever closer, but silent
	// ones can make it do. An ordinary lookup needs 15 to 40.
	maxQueries = 128
	// maxReferrals bounds how many contacts are taken from one answer. 8 are usual, some send 20.
	maxReferrals = 20
	// maxLies is after how many referrals that did not answer, without one that did, the others of the same
	// node are put last.
	maxLies = 4
	// slowGrace is for how long a lookup that is otherwise complete waits for a node close to the target, and so many times
	// the time after which a node counts as slow, within bounds, if it is in a hurry: enough for the query to be sent once
	// more and be answered.
	slowGrace   = 2500 * time.Millisecond
	graceRounds = 3
	minGrace    = 300 * time.Millisecond
	// heldPatience is for how long a lookup in a hurry for which enough have answered waits until a closer candidate may be asked, and
	// heldPause when it looks again.
	heldPatience = 1500 * time.Millisecond
	heldPause    = 50 * time.Millisecond
	// manyHeld candidates whose turn has not come tell that turns are short: then one query at a time is enough.
	manyHeld = 4

	// A lookup is complete when candidates of this weight in all, from the closest on, have answered: 8 whose
	// IDs follow BEP 42. Others may have chosen their ID for the sake of this very target, and count a third; those
	// whose answers lead nowhere do not count.
	fullWindow     = bucketSize * secureWeight
	secureWeight   = 3
	insecureWeight = 1
)

// progress of one candidate.
const (
	stateFresh = iota
	stateAsked
	stateSlow // asked a while ago
	stateAnswered
	stateFailed
)

// candidate is a node that a lookup has heard of.
type candidate struct {
	Contact
	dist     words
	unknown  bool // the ID is not known: a bootstrap node
	secure   bool // the ID follows BEP 42, or need not
	useful   bool // its answer referred to others, or had what is looked for
	state    uint8
	asked    time.Time
	held     time.Time // since when it was not its turn, see limiter; zero: it was not tried
	hops     int
	token    []byte
	referrer *candidate
	// How the nodes fared that this one referred to.
	lies, truths int
	endorsed     bool // others referred to it too
	blamed       bool // it counts as a lie of its referrer
}

// weight returns what a candidate that has answered, or is being asked, counts towards a full window.
func (c *candidate) weight() int {
	switch {
	case c.unknown, c.state == stateAnswered && (!c.useful || c.lying()):
		return 0
	case c.secure:
		return secureWeight
	}
	return insecureWeight
}

// lying reports whether the referrals of a candidate are worth nothing.
func (c *candidate) lying() bool { return c.lies >= maxLies && c.truths == 0 }

// distrusted reports whether a candidate is known only from a node whose referrals are worth nothing.
func (c *candidate) distrusted() bool {
	return c.referrer != nil && !c.endorsed && c.referrer.lying()
}

// responded takes the response of a candidate that has answered: whether it was of use, and the contacts that it refers to,
// which go to add.
func (c *candidate) responded(r *krpc.Message, add func(Contact, *candidate)) {
	c.useful = r.V != nil || r.Values != nil
	n := 0
	take := func(id ID, addr netip.AddrPort) bool {
		add(Contact{ID: id, Addr: addr}, c)
		n++
		return n < maxReferrals
	}
	krpc.Nodes(r.Nodes)(take)
	n = 0
	krpc.Nodes6(r.Nodes6)(take)
}

// shortlist is the state of a lookup in one family: the candidates in order of distance to the target. There is one
// per address, or per IPv6 /64 in the public network, so that one host cannot fill it.
type shortlist struct {
	family  Family
	target  words
	table   *Table // empty: its rules on contacts are those of the candidates
	isSelf  func(netip.AddrPort) bool
	all     []*candidate
	byAddr  map[netip.Addr]*candidate
	queries int
	width   int           // alpha
	grace   time.Duration // for how long a lookup that is otherwise complete waits for a node close to the target
}

func newShortlist(f Family, target ID, c TableConfig, isSelf func(netip.AddrPort) bool, width int) *shortlist {
	return &shortlist{
		family: f, target: wordsOf(&target), table: &Table{config: c}, isSelf: isSelf, width: width, grace: slowGrace,
		byAddr: make(map[netip.Addr]*candidate),
	}
}

// add takes a contact that referrer named, or nobody if nil. The zero ID stands for one that is not known, but not in
// what others say: they would get their contacts asked first.
func (l *shortlist) add(c Contact, referrer *candidate) {
	unknown := c.ID.IsZero() && referrer == nil
	if !unknown && !l.table.acceptable(c) || unknown && !Usable(c.Addr, l.table.config.Private) || l.isSelf(c.Addr) {
		return
	}
	key := l.table.key(c.Addr.Addr())
	if referrer != nil && l.table.key(referrer.Addr.Addr()) != key {
		referrer.useful = true
	}
	if old := l.byAddr[key]; old != nil {
		old.mentioned(c, referrer)
		return
	}
	n := &candidate{Contact: c, unknown: unknown, referrer: referrer}
	if !unknown {
		l.place(n)
	}
	if referrer != nil {
		n.hops = referrer.hops + 1
	}
	if !l.insert(n) {
		return
	}
	l.byAddr[key] = n
	if len(l.all) > maxCandidates {
		l.forgetFarthest()
	}
}

// mentioned judges what another node says about a candidate.
func (c *candidate) mentioned(as Contact, by *candidate) {
	switch {
	case by == nil || by == c || by == c.referrer:
	case c.Contact == as && c.state == stateAnswered:
		by.truths++
	case c.Contact == as:
		c.endorsed = true
	case c.Addr == as.Addr && c.state == stateAnswered:
		by.lies++
	}
}

// place sets what follows from a candidate's ID.
func (l *shortlist) place(c *candidate) {
	c.dist, c.unknown, c.secure = wordsOf(&c.ID).xor(l.target), false, l.table.secure(c.Contact)
}

func (l *shortlist) insert(c *candidate) bool {
	i, _ := slices.BinarySearchFunc(l.all, c, compareCandidates)
	if i >= maxCandidates {
		return false
	}
	l.all = slices.Insert(l.all, i, c)
	return true
}

// compareCandidates orders by distance; those with unknown IDs, which may lead anywhere, are first.
func compareCandidates(a, b *candidate) int {
	if a.unknown != b.unknown {
		if a.unknown {
			return -1
		}
		return 1
	}
	return int(b.dist.less(&a.dist)) - int(a.dist.less(&b.dist))
}

// forgetFarthest makes room: of those that are not worth asking the farthest is forgotten, else of those not asked yet.
func (l *shortlist) forgetFarthest() {
	forget := func(dispensable func(*candidate) bool) bool {
		for i := len(l.all) - 1; i >= 0; i-- {
			if c := l.all[i]; dispensable(c) {
				l.all = slices.Delete(l.all, i, i+1)
				delete(l.byAddr, l.table.key(c.Addr.Addr()))
				return true
			}
		}
		return false
	}
	if !forget(func(c *candidate) bool { return c.state == stateFresh && c.distrusted() }) {
		forget(func(c *candidate) bool { return c.state == stateFresh || c.state == stateFailed })
	}
}

// answered records that a candidate answered, under an ID that may be another than the one it was said to have. Then
// who said so is to blame, unless the new ID is one that the node has no right to.
func (l *shortlist) answered(c *candidate, id ID) bool {
	if c.ID == id {
		c.state = stateAnswered
		if c.referrer != nil {
			c.referrer.truths++
		}
		return true
	}
	c.blame()
	real := Contact{ID: id, Addr: c.Addr}
	if !l.table.acceptable(real) || !c.unknown && !l.table.secure(real) {
		l.failed(c)
		return false
	}
	if i := slices.Index(l.all, c); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
	}
	c.Contact, c.state = real, stateAnswered
	l.place(c)
	l.insert(c)
	return true
}

// refused records that a candidate answered with an error: it is of no use, but it exists.
func (l *shortlist) refused(c *candidate) {
	c.state = stateFailed
	if c.referrer != nil {
		c.referrer.truths++
	}
}

// failed records that a candidate did not answer, or not with a response.
func (l *shortlist) failed(c *candidate) {
	c.state = stateFailed
	c.blame()
}

// slow records that a candidate has not answered for long. Until it does, the referrer is to blame: to wait would
// mean to be held up by who refers to nodes that do not exist.
func (l *shortlist) slow(c *candidate) {
	if c.state == stateAsked {
		c.state = stateSlow
		c.blame()
	}
}

// blame counts a candidate as a lie of its referrer, once.
func (c *candidate) blame() {
	if c.referrer != nil && !c.blamed {
		c.blamed = true
		c.referrer.lies++
	}
}

// next returns the candidate to ask now; nil if none should be.
//
// Only the closest that may still answer, up to a full window, are worth asking. A slow one is passed over, but takes its place again
// when it answers. Distrusted ones are asked only if there is nobody else. One that must not be asked yet is passed over as well: may
// is called once for each that would be next, until it says true.
func (l *shortlist) next(may func(*candidate) bool) *candidate {
	active := 0
	for _, c := range l.all {
		if c.state == stateAsked {
			active++
		}
	}
	width := l.width
	if l.leftOut() >= manyHeld {
		width = 1
	}
	if active >= width || l.queries >= maxQueries {
		return nil
	}
	var last *candidate
	seen := 0
	for _, c := range l.all {
		switch {
		case seen >= fullWindow:
			return nil
		case c.unknown && c.state == stateFresh:
			if may(c) {
				return c
			}
		case c.state == stateFresh && c.distrusted():
			if last == nil {
				last = c
			}
		case c.state == stateFresh:
			if may(c) {
				return c
			}
		case c.state == stateAsked, c.state == stateAnswered:
			seen += c.weight()
		}
	}
	if last != nil && may(last) {
		return last
	}
	return nil
}

// done reports whether the lookup is complete in this family: a full window of the closest has answered and nothing closer is
// outstanding, but for nodes that have been silent for long. wait is when to look again, if it depends on time.
func (l *shortlist) done(now time.Time) (done bool, wait time.Duration) {
	if c := l.next(func(c *candidate) bool { return c.held.IsZero() || now.Sub(c.held) < heldPatience }); c != nil {
		if !c.held.IsZero() {
			wait = heldPause
		}
		return false, wait
	}
	seen := 0
	for _, c := range l.all {
		switch {
		case seen >= fullWindow:
			return wait == 0, wait
		case c.state == stateAnswered:
			seen += c.weight()
		case c.state == stateAsked:
			return false, 0
		case c.state == stateSlow:
			if left := c.asked.Add(l.grace).Sub(now); left > 0 {
				wait = max(wait, left)
			}
		}
	}
	if l.leftOut() > 0 { // too few have answered
		return false, heldPause
	}
	return wait == 0, wait
}

// leftOut counts the candidates worth asking whose turn to be asked has not come.
func (l *shortlist) leftOut() (n int) {
	seen := 0
	for _, c := range l.all {
		switch {
		case seen >= fullWindow:
			return n
		case c.state == stateFresh && !c.held.IsZero():
			n++
		case c.state == stateAsked, c.state == stateAnswered:
			seen += c.weight()
		}
	}
	return n
}

// closest returns the candidates that answered, closest first, at most n.
func (l *shortlist) closest(n int) (found []*candidate) {
	for _, c := range l.all {
		if len(found) == n {
			break
		}
		if c.state == stateAnswered {
			found = append(found, c)
		}
	}
	return found
}
