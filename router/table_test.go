package router_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kdht/router"
	"kdht/router/krpc"
)

// tableRig is a table with a clock and a supply of contacts.
type tableRig struct {
	*router.Table
	t       *testing.T
	r       *rand.Rand
	now     time.Time
	private bool
	nextIP  uint32
}

func newTableRig(t *testing.T, private bool) *tableRig { return newWideRig(t, private, 1) }

// newWideRig is newTableRig with b bits to a level.
func newWideRig(t *testing.T, private bool, b int) *tableRig {
	r := rand.New(rand.NewPCG(4, 1))
	return &tableRig{
		Table: router.NewTable(router.TableConfig{Self: randomID(r), Private: private, Bits: b}),
		t:     t, r: r, private: private,
		now:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		nextIP: 0xc6120001, // 198.18.0.1
	}
}

func (g *tableRig) addr() netip.AddrPort {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], g.nextIP)
	g.nextIP++
	return netip.AddrPortFrom(netip.AddrFrom4(a), 6881)
}

// contact returns a new contact for a bucket, whose ID follows BEP 42 if secure.
func (g *tableRig) contact(bucket int, secure bool) router.Contact {
	for {
		c := router.Contact{ID: sharing(g.r, g.Self(), bucket), Addr: g.addr()}
		if !secure && !krpc.ValidNodeID(c.ID, c.Addr.Addr()) {
			return c
		}
		for try := range byte(8) {
			id := krpc.NodeIDFor(c.Addr.Addr(), try, c.ID)
			if secure && router.PrefixLen(id, g.Self()) == bucket {
				c.ID = id
				return c
			}
		}
	}
}

// fill makes n new contacts answer, and again after ten seconds, one after another.
func (g *tableRig) fill(bucket, n int, secure bool) (all []router.Contact) {
	for range n {
		c := g.contact(bucket, secure)
		g.Responded(c, time.Millisecond, g.now)
		g.now = g.now.Add(10 * time.Second)
		g.Responded(c, time.Millisecond, g.now)
		all = append(all, c)
	}
	return all
}

func (g *tableRig) fail(c router.Contact, times int) (changed bool) {
	for range times {
		changed = g.Failed(c, g.now) || changed
	}
	return changed
}

func (g *tableRig) contacts(cached bool) (all []router.Contact) {
	for _, e := range g.Entries(g.now) {
		if e.Cached == cached {
			all = append(all, e.Contact)
		}
	}
	return all
}

var asSet = []cmp.Option{
	cmpopts.SortSlices(func(a, b router.Contact) bool { return a.Addr.Compare(b.Addr) < 0 }),
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b router.Contact) bool { return a == b }),
}

func (g *tableRig) wantContacts(when string, want []router.Contact) {
	g.t.Helper()
	if d := cmp.Diff(want, g.contacts(false), asSet...); d != "" {
		g.t.Errorf("%s: contacts differ (-want +got):\n%s", when, d)
	}
}

func (g *tableRig) wantCached(when string, want []router.Contact) {
	g.t.Helper()
	if d := cmp.Diff(want, g.contacts(true), asSet...); d != "" {
		g.t.Errorf("%s: cached contacts differ (-want +got):\n%s", when, d)
	}
}

func (g *tableRig) wantPublished(when string, want []router.Contact) {
	g.t.Helper()
	if d := cmp.Diff(want, g.Published(), asSet...); d != "" {
		g.t.Errorf("%s: published contacts differ (-want +got):\n%s", when, d)
	}
}

func (g *tableRig) wantOffer(why string, c, want router.Contact) {
	g.t.Helper()
	got, ok := g.Offer(c, g.now)
	if got != want || ok != (want != router.Contact{}) {
		g.t.Errorf("%s: Offer = %v, %v; want %v", why, got, ok, want)
	}
}

var nobody router.Contact

func TestOnlyAnswersAdmit(t *testing.T) {
	g := newTableRig(t, false)
	c := g.contact(3, false)
	g.wantOffer("a newcomer", c, c)
	g.Queried(c, g.now)
	if g.Failed(c, g.now) {
		t.Error("the failure of a stranger changed the table")
	}
	g.wantContacts("sighted only", nil)
	g.wantOffer("pinged a moment ago", c, nobody)
	g.now = g.now.Add(5 * time.Minute)
	g.wantOffer("pinged 5 minutes ago", c, c)
	if !g.Responded(c, time.Millisecond, g.now) {
		t.Error("admission is no change")
	}
	if g.Responded(c, time.Millisecond, g.now) {
		t.Error("a repeated answer is a change")
	}
	g.wantContacts("answered", []router.Contact{c})
	g.wantOffer("known and good", c, nobody)
}

func TestStatesOverTime(t *testing.T) {
	g := newTableRig(t, false)
	c := g.fill(0, 1, false)[0]
	state := func(when string, want router.State) {
		t.Helper()
		if got := g.Entries(g.now)[0].State; got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	state("after answering", router.Good)
	g.now = g.now.Add(16 * time.Minute)
	state("16 minutes later", router.Questionable)
	g.Queried(router.Contact{ID: c.ID, Addr: g.addr()}, g.now)
	state("a query from another address", router.Questionable)
	g.Queried(router.Contact{ID: randomID(g.r), Addr: c.Addr}, g.now)
	state("a query under another ID", router.Questionable)
	g.Queried(c, g.now)
	state("after its query", router.Good)
	for range 5 {
		g.now = g.now.Add(10 * time.Minute)
		g.Queried(c, g.now)
	}
	state("66 minutes of queries alone", router.Questionable)
	g.Responded(c, time.Millisecond, g.now)
	state("answered again", router.Good)
	g.fail(c, 1)
	state("one failure", router.Questionable)
	g.Queried(c, g.now)
	state("a query after a failure", router.Questionable)
	g.fail(c, 1)
	state("long-lived, two failures", router.Questionable)
	g.fail(c, 1)
	state("long-lived, three failures", router.Bad)
	g.Responded(c, time.Millisecond, g.now)
	state("answered after all", router.Good)

	young := newTableRig(t, false)
	young.fail(young.fill(0, 1, false)[0], 2)
	if got := young.Entries(young.now)[0].State; got != router.Bad {
		t.Errorf("young, two failures: %v, want bad", got)
	}
}

func TestBucketReplacement(t *testing.T) {
	g := newTableRig(t, false)
	members := g.fill(0, 8, false)
	other := g.fill(1, 1, false)
	spares := g.fill(0, 8, false)
	if g.Responded(g.contact(0, false), time.Millisecond, g.now) {
		t.Error("a newcomer to a full bucket changed the table")
	}
	g.wantContacts("full", slices.Concat(members, other))
	g.wantCached("full", spares)

	if !g.fail(members[2], 1) {
		t.Error("the first failure is no change")
	}
	g.wantPublished("one failed once", slices.Concat(members[:2], members[3:], other))
	g.wantContacts("one failed once", slices.Concat(members, other))
	if !g.fail(members[2], 1) {
		t.Error("replacement is no change")
	}
	want := slices.Concat(members[:2], members[3:], other, spares[7:])
	g.wantContacts("one failed twice", want)
	g.wantPublished("one failed twice", want)
	g.wantCached("one failed twice", spares[:7])

	g.now = g.now.Add(16 * time.Minute)
	g.fail(members[0], 2)
	g.wantContacts("spares too old to be promoted", want)
	c := g.contact(0, false)
	g.wantOffer("the place of a bad one", c, c)
	g.Responded(c, time.Millisecond, g.now)
	g.wantContacts("a bad one replaced by a newcomer", slices.Concat(want[1:], []router.Contact{c}))
}

func TestReplacementCacheKeepsWhoAnswers(t *testing.T) {
	g := newTableRig(t, false)
	g.fill(0, 8, false)
	spares := g.fill(0, 8, false)
	g.fill(0, 20, false)
	g.wantCached("newcomers to a fresh cache", spares)
	g.Failed(spares[3], g.now)
	g.wantCached("a spare failed", slices.Concat(spares[:3], spares[4:]))
	late := g.fill(0, 2, false)
	g.wantCached("a newcomer in its place", slices.Concat(spares[:3], spares[4:], late[:1]))
	g.now = g.now.Add(14 * time.Minute)
	g.Responded(spares[0], time.Millisecond, g.now)
	g.now = g.now.Add(2 * time.Minute)
	fresh := g.fill(0, 1, false)
	g.wantCached("the stalest makes room", slices.Concat(spares[:1], spares[2:3], spares[4:], late[:1], fresh))
}

func TestBadWithoutReplacementStays(t *testing.T) {
	g := newTableRig(t, false)
	cs := g.fill(0, 2, false)
	g.fail(cs[0], 100)
	g.wantContacts("others answer", cs[1:])

	g = newTableRig(t, false)
	cs = g.fill(0, 2, false)
	g.now = g.now.Add(16 * time.Minute) // nobody has answered since: our own line may be down
	for _, c := range cs {
		g.fail(c, 100)
	}
	g.wantContacts("nobody answers", cs)
	g.wantPublished("nobody answers", nil)
	if got := g.Closest(cs[0].ID, 8); len(got) != 2 || got[0] != cs[0] {
		t.Errorf("bad contacts are not there to start over from: %v", got)
	}
	if !g.Responded(cs[1], time.Millisecond, g.now) {
		t.Error("recovery is no change")
	}
	g.wantPublished("one recovered", cs[1:])
	if got := g.Closest(cs[0].ID, 8); len(got) != 2 || got[0] != cs[1] {
		t.Errorf("a bad contact comes before a good one: %v", got)
	}
}

func TestOneContactPerAddress(t *testing.T) {
	g := newTableRig(t, false)
	c := g.fill(2, 1, false)[0]
	port := router.Contact{ID: sharing(g.r, g.Self(), 3), Addr: netip.AddrPortFrom(c.Addr.Addr(), 7000)}
	g.wantOffer("another port of a good contact", port, nobody)
	if g.Responded(port, time.Millisecond, g.now) {
		t.Error("another port of a good contact was admitted")
	}
	g.now = g.now.Add(16 * time.Minute)
	g.wantOffer("another port of a questionable contact", port, c)
	g.wantOffer("again, while that ping is under way", port, nobody)
	g.fail(c, 1)
	g.Responded(port, time.Millisecond, g.now)
	g.wantContacts("the old failed once", []router.Contact{c})
	g.fail(c, 1)
	g.wantOffer("another port of a bad contact", port, port)
	if !g.Responded(port, time.Millisecond, g.now) {
		t.Error("another port of a bad contact was not admitted")
	}
	g.wantContacts("the old is bad", []router.Contact{port})
}

func TestIDChange(t *testing.T) {
	g := newTableRig(t, false)
	c := g.fill(2, 1, false)[0]
	as := func(id router.ID) router.Contact { return router.Contact{ID: id, Addr: c.Addr} }
	other, third := as(sharing(g.r, g.Self(), 5)), as(sharing(g.r, g.Self(), 6))

	g.wantOffer("hearsay about another ID", other, nobody)
	g.now = g.now.Add(time.Second)
	g.Queried(other, g.now)
	g.wantPublished("a query under another ID", []router.Contact{c})
	g.wantOffer("a query under another ID", other, c)
	g.wantOffer("a second one, while that ping is under way", other, nobody)
	g.now = g.now.Add(5 * time.Second)
	g.Responded(c, time.Millisecond, g.now)
	g.now = g.now.Add(time.Minute)
	g.wantOffer("the old ID has answered", other, nobody)
	if again, ok := g.Claimed(c.Addr); ok {
		t.Errorf("%v is to be pinged for a claim that nobody has made", again)
	}
	if !g.Responded(other, time.Millisecond, g.now) {
		t.Error("the first answer under another ID is no change")
	}
	if again, ok := g.Claimed(c.Addr); !ok || again != other {
		t.Errorf("after the first answer under another ID %v is to be pinged, want %v", again, other)
	}
	g.wantContacts("one answer under another ID", []router.Contact{c})
	g.wantPublished("one answer under another ID", nil)
	g.now = g.now.Add(time.Minute)
	if got := g.Questionable(g.now); len(got) != 1 || got[0] != c {
		t.Errorf("to be checked: %v, want %v", got, c)
	}
	g.Responded(c, time.Millisecond, g.now)
	g.wantPublished("the old ID after all", []router.Contact{c})

	g.Responded(other, time.Millisecond, g.now)
	g.Responded(other, time.Millisecond, g.now)
	g.wantContacts("two answers under another ID", []router.Contact{other})
	g.wantPublished("two answers under another ID", []router.Contact{other})

	for range 3 {
		g.Responded(c, time.Millisecond, g.now)
		g.Responded(third, time.Millisecond, g.now)
	}
	g.wantPublished("a different ID each time", nil)
}

func TestOneContactPerID(t *testing.T) {
	g := newTableRig(t, false)
	c := g.fill(2, 1, false)[0]
	thief := router.Contact{ID: c.ID, Addr: g.addr()}
	if g.Responded(thief, time.Millisecond, g.now) {
		t.Error("a second contact with the same ID was admitted")
	}
	g.wantOffer("the ID of a good contact", thief, nobody)
	g.fail(c, 2)
	g.Responded(thief, time.Millisecond, g.now)
	g.wantContacts("moved to another address", []router.Contact{thief})

	rightful := g.contact(0, true)
	thief = router.Contact{ID: rightful.ID, Addr: g.addr()}
	g = newTableRig(t, false)
	g.Responded(thief, time.Millisecond, g.now)
	g.Responded(rightful, time.Millisecond, g.now)
	g.wantContacts("the ID belongs to another address by BEP 42", []router.Contact{rightful})
}

func TestUniquenessOfIPv6(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		private bool
		addrs   []string
		want    int
	}{
		{false, []string{"2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::", "2001:db8:0:2::1"}, 2},
		{true, []string{"2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::", "2001:db8:0:2::1"}, 4},
	} {
		table := router.NewTable(router.TableConfig{Self: randomID(r), Family: router.IPv6, Private: c.private})
		for _, a := range c.addrs {
			table.Responded(router.Contact{ID: randomID(r), Addr: netip.AddrPortFrom(netip.MustParseAddr(a), 1)}, 0, now)
		}
		if table.Len() != c.want {
			t.Errorf("private %v: %d contacts, want %d", c.private, table.Len(), c.want)
		}
	}
}

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		addr            string
		public, private bool
	}{
		{"8.8.8.8:1", true, true},
		{"8.8.8.8:0", false, false},
		{"198.18.0.1:6881", true, true},
		{"192.0.2.1:6881", true, true},
		{"10.0.0.1:1", false, true},
		{"172.31.0.1:1", false, true},
		{"192.168.1.1:1", false, true},
		{"127.0.0.2:1", false, true},
		{"169.254.1.1:1", false, true},
		{"100.64.0.1:1", false, true},
		{"0.0.0.0:1", false, false},
		{"0.1.2.3:1", false, false},
		{"224.0.0.1:1", false, false},
		{"240.0.0.1:1", false, false},
		{"255.255.255.255:1", false, false},
		{"[2001:db8::1]:1", true, true},
		{"[2a00:1450::1]:1", true, true},
		{"[2a00:1450::1]:0", false, false},
		{"[fd00::1]:1", false, true},
		{"[::1]:1", false, true},
		{"[::]:1", false, false},
		{"[fe80::1]:1", false, false},
		{"[fe80::1%eth0]:1", false, false},
		{"[ff02::1]:1", false, false},
		{"[::ffff:8.8.8.8]:1", false, false},
		{"[64:ff9b::808:808]:1", false, true},
	} {
		a := netip.MustParseAddrPort(c.addr)
		if got := router.Usable(a, false); got != c.public {
			t.Errorf("Usable(%v, public) = %v", a, got)
		}
		if got := router.Usable(a, true); got != c.private {
			t.Errorf("Usable(%v, private) = %v", a, got)
		}
	}
	if router.Usable(netip.AddrPort{}, true) {
		t.Error("the zero address is usable")
	}
}

func TestTablesRefuseStrangers(t *testing.T) {
	g := newTableRig(t, false)
	for why, c := range map[string]router.Contact{
		"our own ID":      {ID: g.Self(), Addr: g.addr()},
		"the zero ID":     {Addr: g.addr()},
		"IPv6":            {ID: randomID(g.r), Addr: netip.MustParseAddrPort("[2001:db8::1]:1")},
		"IPv4-mapped":     {ID: randomID(g.r), Addr: netip.MustParseAddrPort("[::ffff:198.18.0.1]:1")},
		"private address": {ID: randomID(g.r), Addr: netip.MustParseAddrPort("10.0.0.1:1")},
	} {
		g.wantOffer(why, c, nobody)
		g.Queried(c, g.now)
		if g.Responded(c, 0, g.now) || g.Failed(c, g.now) || g.Len() != 0 {
			t.Errorf("%s: admitted", why)
		}
	}
	six := router.NewTable(router.TableConfig{Self: g.Self(), Family: router.IPv6, Private: true})
	for _, a := range []string{"198.18.0.1:1", "[::ffff:198.18.0.1]:1"} {
		if six.Responded(router.Contact{ID: randomID(g.r), Addr: netip.MustParseAddrPort(a)}, 0, g.now) {
			t.Errorf("the IPv6 table took %s", a)
		}
	}
}

func TestBEP42IsPreferred(t *testing.T) {
	g := newTableRig(t, false)
	insecure := g.fill(0, 8, false)
	waiting := g.contact(0, false)
	if g.Responded(waiting, time.Millisecond, g.now) {
		t.Error("one without a valid ID took the place of another")
	}
	secure := g.fill(0, 3, true)
	g.wantContacts("the youngest without a valid ID gave way", slices.Concat(insecure[:5], secure))
	g.wantCached("and waits for another place", append(insecure[5:], waiting))
	secure = append(secure, g.fill(0, 20, true)...)
	g.wantContacts("those with valid IDs stay", secure[:8])
	g.wantCached("the cache prefers valid IDs too", secure[8:16])

	g = newTableRig(t, false)
	secure = g.fill(0, 9, true)
	g.fill(0, 1, false)
	g.fail(secure[0], 2)
	g.wantContacts("a valid ID is promoted before a later answer", secure[1:])

	g = newTableRig(t, true)
	insecure = g.fill(0, 8, false)
	g.fill(0, 3, true)
	g.wantContacts("private network", insecure)
}

func TestStaleSpareGivesWay(t *testing.T) {
	g := newTableRig(t, false)
	g.fill(0, 8, false)
	spare := g.fill(0, 1, false)[0]
	port := router.Contact{ID: sharing(g.r, g.Self(), 0), Addr: netip.AddrPortFrom(spare.Addr.Addr(), 7000)}
	g.Responded(port, time.Millisecond, g.now)
	g.wantCached("another port of a fresh spare", []router.Contact{spare})
	g.now = g.now.Add(16 * time.Minute)
	g.Responded(port, time.Millisecond, g.now)
	g.wantCached("another port of a stale spare", []router.Contact{port})
}

func TestOfferToFullBucket(t *testing.T) {
	g := newTableRig(t, false)
	members := g.fill(0, 8, false)
	c := g.contact(0, false)
	g.wantOffer("to fill the cache", c, c)
	g.wantOffer("too many in a second", g.contact(0, false), nobody)
	g.now = g.now.Add(time.Second)
	g.fill(0, 8, false)
	g.wantOffer("the cache is full", g.contact(0, false), nobody)
	c = g.contact(0, true)
	g.wantOffer("an ID that follows BEP 42", c, c)
	g.now = g.now.Add(14*time.Minute + 50*time.Second) // members are questionable, spares are not yet
	g.wantOffer("the least recently heard of is checked first", g.contact(0, false), members[0])
	g.wantOffer("then the next", g.contact(0, false), members[1])

	g = newTableRig(t, false)
	g.fill(0, 8, false)
	g.now = g.now.Add(16 * time.Minute)
	c = g.contact(0, false)
	g.wantOffer("a spare is found before the old are checked", c, c)
}

// Who is new is asked again soon, and then not before a quarter of an hour is over.
func TestNewcomersAreConfirmed(t *testing.T) {
	g := newTableRig(t, false)
	g.fill(0, 7, false)
	c, spare := g.contact(0, false), g.contact(0, false)
	g.Responded(c, time.Millisecond, g.now)
	g.Responded(spare, time.Millisecond, g.now)
	g.wantCached("a ninth", []router.Contact{spare})
	if got := g.Questionable(g.now.Add(5 * time.Second)); len(got) != 0 {
		t.Errorf("at once, to be pinged: %v", got)
	}
	g.now = g.now.Add(15 * time.Second)
	if got, want := g.Questionable(g.now), []router.Contact{c, spare}; !slices.Equal(got, want) {
		t.Errorf("to be pinged: %v, want %v", got, want)
	}
	for _, x := range []router.Contact{c, spare} {
		g.Responded(x, time.Millisecond, g.now)
	}
	for range 12 {
		g.now = g.now.Add(time.Minute)
		if got := g.Questionable(g.now); len(got) != 0 {
			t.Errorf("to be pinged after a second answer: %v", got)
		}
	}
}

func TestQuestionable(t *testing.T) {
	g := newTableRig(t, false)
	cs := slices.Concat(g.fill(0, 8, false), g.fill(1, 3, false))
	if got := g.Questionable(g.now); len(got) != 0 {
		t.Errorf("all good, to be pinged: %v", got)
	}
	g.now = g.now.Add(15*time.Minute + time.Second)
	g.Responded(cs[4], time.Millisecond, g.now)
	want := slices.Delete(slices.Clone(cs), 4, 5)
	if got := g.Questionable(g.now); !slices.Equal(got, want) {
		t.Errorf("to be pinged: %v, want oldest first: %v", got, want)
	}
	if got := g.Questionable(g.now.Add(10 * time.Second)); len(got) != 0 {
		t.Errorf("while the pings are under way: %v", got)
	}
	g.Failed(cs[0], g.now)
	retries := 0
	for end := g.now.Add(time.Hour); g.now.Before(end); g.now = g.now.Add(time.Second) {
		for _, c := range g.Questionable(g.now) {
			if c == cs[0] {
				retries++
				g.Failed(c, g.now)
			} else {
				g.Responded(c, time.Millisecond, g.now)
			}
		}
	}
	if retries != 7 {
		t.Errorf("a silent contact was tried %d times more in an hour, want 7", retries)
	}
	if slices.Contains(g.contacts(false), cs[0]) {
		t.Error("a contact silent for an hour is still there, though others answer")
	}
}

func TestQuestionableFillsSlotsFromTheCache(t *testing.T) {
	g := newTableRig(t, false)
	members, spare := g.fill(0, 8, false), g.fill(0, 1, false)
	g.now = g.now.Add(14 * time.Minute)
	for _, c := range members {
		g.Responded(c, time.Millisecond, g.now)
	}
	g.now = g.now.Add(2 * time.Minute)
	if got := g.Questionable(g.now); len(got) != 0 {
		t.Errorf("no slot is free, to be pinged: %v", got)
	}
	g.fail(members[0], 2)
	if got := g.Questionable(g.now); !slices.Equal(got, spare) {
		t.Errorf("a slot is free, to be pinged: %v, want %v", got, spare)
	}
	g.Responded(spare[0], time.Millisecond, g.now)
	g.wantContacts("the spare answered", slices.Concat(members[1:], spare))
	g.wantCached("the spare answered", nil)
}

func TestRefreshTargets(t *testing.T) {
	g := newTableRig(t, false)
	if got := g.RefreshTargets(g.now); len(got) != 0 {
		t.Errorf("empty table: %v", got)
	}
	g.fill(0, 2, false)
	g.fill(4, 2, false)
	buckets := func() (n []int) {
		for _, id := range g.RefreshTargets(g.now) {
			n = append(n, router.PrefixLen(id, g.Self()))
		}
		return n
	}
	for _, c := range []struct {
		after time.Duration
		want  []int
	}{
		{0, []int{1}},
		{0, nil},
		{16 * time.Minute, []int{0, 1, 4}},
		{15 * time.Minute, nil},
		{time.Minute, []int{0, 1, 4}},
	} {
		g.now = g.now.Add(c.after)
		if got := buckets(); !slices.Equal(got, c.want) {
			t.Errorf("after %v: buckets %v, want %v", c.after, got, c.want)
		}
	}
	g.now = g.now.Add(10 * time.Minute)
	g.fill(2, 1, false)
	g.now = g.now.Add(6 * time.Minute)
	if got, want := buckets(), []int{0, 1, 4}; !slices.Equal(got, want) {
		t.Errorf("one answered lately: buckets %v, want %v", got, want)
	}
	g.fill(3, 4, false) // 6 closer than bucket 2
	g.now = g.now.Add(time.Hour)
	if got, want := buckets(), []int{0, 1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("few contacts: buckets %v, want %v", got, want)
	}
	g.fill(3, 2, false)
	g.fill(2, 7, false)
	g.fill(4, 6, false)
	g.now = g.now.Add(time.Hour)
	if got, want := buckets(), []int{0, 1, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("the 8th closest is in bucket 4: buckets %v, want %v", got, want)
	}
	g.Responded(router.Contact{ID: withBit(g.Self(), 159, !bit(g.Self(), 159)), Addr: g.addr()}, 0, g.now)
	g.now = g.now.Add(time.Hour)
	if got, want := buckets(), []int{0, 1, 2, 3, 4, 5, 159}; !slices.Equal(got, want) {
		t.Errorf("a contact next to us: buckets %v, want %v", got, want)
	}
}

func TestSetSelf(t *testing.T) {
	g := newTableRig(t, false)
	var all []router.Contact
	for bucket := range 6 {
		all = append(all, g.fill(bucket, 8, false)...)
	}
	oldest := all[:8] // of bucket 0
	g.fail(oldest[7], 1)
	g.SetSelf(g.Self())
	g.wantContacts("same ID", all)

	id := withBit(g.Self(), 0, !bit(g.Self(), 0))
	g.SetSelf(id)
	if g.Self() != id {
		t.Fatalf("Self = %v, want %v", g.Self(), id)
	}
	// Buckets 1 to 5 are one bucket now, bucket 0 is spread over several.
	if b := g.Levels(g.now)[0]; b.PrefixLen != 0 || b.Good != 8 || b.Replacement != 8 {
		t.Errorf("bucket 0: %+v, want 8 good contacts and 8 spares", b)
	}
	kept := g.contacts(false)
	for _, c := range slices.Concat(oldest, all[8:16]) {
		if !slices.Contains(kept, c) {
			t.Errorf("a contact known for long was not kept: %v", c)
		}
	}
	if got, want := len(g.Entries(g.now)), 24; got != want {
		t.Errorf("%d contacts and spares, want %d", got, want)
	}
	g.SetSelf(oldest[0].ID)
	if slices.Contains(g.Contacts(), oldest[0]) {
		t.Error("a contact with our new ID was kept")
	}
	// The one that is gone leaves no trace that would keep its address out.
	c := router.Contact{ID: randomID(g.r), Addr: oldest[0].Addr}
	g.wantOffer("its address under another ID", c, c)
}

func TestSetSelfKeepsSpares(t *testing.T) {
	g := newTableRig(t, false)
	members := g.fill(0, 8, false)
	var stale, fresh []router.Contact
	for _, bucket := range []int{2, 3} { // of the new ID
		for range 2 {
			id := withBit(sharing(g.r, g.Self(), 0), 0, !bit(g.Self(), 0))
			for i := 1; i < bucket; i++ {
				id = withBit(id, i, bit(g.Self(), i))
			}
			c := router.Contact{ID: withBit(id, bucket, !bit(g.Self(), bucket)), Addr: g.addr()}
			g.Responded(c, time.Millisecond, g.now)
			stale = append(stale, c)
		}
		g.now = g.now.Add(time.Second)
	}
	g.now = g.now.Add(16 * time.Minute)
	fresh = append(fresh, stale[1], stale[3])
	stale = []router.Contact{stale[0], stale[2]}
	for _, c := range slices.Concat(members, fresh) {
		g.Responded(c, time.Millisecond, g.now)
	}
	g.wantCached("before", slices.Concat(stale, fresh))
	g.SetSelf(withBit(g.Self(), 0, !bit(g.Self(), 0)))
	g.wantContacts("spares that answered lately take the slots there are", slices.Concat(members, fresh))
	g.wantCached("others wait", stale)
	if got := g.Questionable(g.now); !slices.Equal(got, stale) {
		t.Errorf("to be pinged: %v, want the spares %v", got, stale)
	}

	// Two buckets become one.
	g = newTableRig(t, false)
	late := g.fill(1, 8, false)
	g.now = g.now.Add(time.Minute)
	early := g.fill(2, 8, false)
	for _, c := range append(late, early[0]) {
		g.now = g.now.Add(time.Second)
		g.Responded(c, time.Millisecond, g.now)
	}
	g.fail(early[3], 1)
	g.SetSelf(withBit(g.Self(), 0, !bit(g.Self(), 0)))
	g.wantContacts("known for longest", late)
	g.wantCached("known for less, unless failing", slices.Concat(early[:3], early[4:]))
	g.fail(late[0], 2)
	g.wantContacts("the latest is promoted", append(late[1:], early[0]))
}

func TestSaveAndLoad(t *testing.T) {
	g := newTableRig(t, false)
	first := g.fill(3, 8, false)
	second := g.fill(0, 8, false)
	spares := g.fill(0, 8, false)
	g.fail(first[0], 1)
	saved := g.Contacts()
	if want := slices.Concat(first[1:], second, first[:1], spares); !slices.Equal(saved, want) {
		t.Errorf("saved %v\nwant best proven first: %v", saved, want)
	}
	loaded := router.NewTable(router.TableConfig{Self: g.Self()})
	for _, c := range saved {
		if ping, ok := loaded.Offer(c, g.now); !ok || ping != c {
			t.Errorf("saved contact %v is not worth a ping", c)
		}
	}
	if loaded.Len() != 0 {
		t.Error("saved contacts entered without answering")
	}
	for _, c := range saved {
		loaded.Responded(c, time.Millisecond, g.now)
	}
	if d := cmp.Diff(saved[:16], loaded.Published(), asSet...); d != "" {
		t.Errorf("the loaded table differs (-saved +loaded):\n%s", d)
	}
}

func TestSnapshotIsStable(t *testing.T) {
	g := newTableRig(t, false)
	var all []router.Contact
	for bucket := range 10 {
		all = append(all, g.fill(bucket, 8, false)...)
	}
	six := router.NewTable(router.TableConfig{Self: randomID(g.r), Family: router.IPv6})
	six.Responded(router.Contact{ID: randomID(g.r), Addr: asker6}, 0, g.now)
	before := router.NewSnapshot(g.Table, six, [16]byte{1})
	if before.ID4 != g.Self() || before.ID6 != six.Self() || len(before.Nodes6) != 1 || before.Secret != [16]byte{1} {
		t.Errorf("snapshot %+v", before)
	}
	for range 1000 {
		g.now = g.now.Add(time.Second)
		c := all[g.r.IntN(len(all))]
		g.Queried(c, g.now)
		if g.Responded(c, time.Millisecond, g.now) {
			t.Fatal("an answer from a known contact is a change")
		}
	}
	if d := cmp.Diff(before, router.NewSnapshot(g.Table, six, [16]byte{1})); d != "" {
		t.Errorf("the snapshot of an unchanged table differs:\n%s", d)
	}
	if s := router.NewSnapshot(nil, nil, [16]byte{}); len(s.Nodes4)+len(s.Nodes6) != 0 {
		t.Errorf("snapshot of no tables: %+v", s)
	}
}

func TestEntriesRTT(t *testing.T) {
	g := newTableRig(t, false)
	c := g.contact(0, false)
	for _, s := range []struct{ rtt, want time.Duration }{{80, 80}, {160, 90}, {10, 80}} {
		g.Responded(c, s.rtt*time.Millisecond, g.now)
		if got := g.Entries(g.now)[0].RTT; got != s.want*time.Millisecond {
			t.Errorf("after %v: smoothed %v, want %v", s.rtt, got, s.want)
		}
	}
	for s, want := range map[fmt.Stringer]string{
		router.Good: "good", router.Questionable: "questionable", router.Bad: "bad", router.IPv4: "IPv4", router.IPv6: "IPv6",
	} {
		if s.String() != want {
			t.Errorf("String = %q, want %q", s, want)
		}
	}
}
