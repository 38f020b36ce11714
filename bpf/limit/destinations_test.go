package limit_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kdht/bpf/limit"
)

// public is the pace in the public network: 36 datagrams within 10 s, where 50 are too many.
var public = limit.Pace{Rate: 20. / 7, Burst: 8}

func addrOf(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// TestPaceIsKept sends to one destination as often as it may, at random moments and by several at once: never more than 36 times
// within 10 s, and not much less.
func TestPaceIsKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	d := limit.NewDestinations(public, r.Uint64(), new(limit.Table))
	var sent []limit.Time
	now := limit.Time(1 << 50)
	for end := now + limit.Time(5*time.Minute); now < end; now += limit.Time(r.Int64N(int64(50 * time.Millisecond))) {
		patience := time.Duration(r.Int64N(2)) * time.Second
		before := d.Wait(addrOf(1), now)
		wait, ok := d.Reserve(addrOf(1), now, patience)
		if ok != (before <= patience) || ok && wait != before {
			t.Fatalf("a wait of %v was announced: %v, %v", before, wait, ok)
		}
		if ok {
			sent = append(sent, now+limit.Time(wait))
		}
	}
	for i, first := 0, 0; i < len(sent); i++ {
		for sent[i]-sent[first] >= limit.Time(10*time.Second) {
			first++
		}
		if n := i - first + 1; n > 37 { // both ends of 10 s
			t.Fatalf("%d within 10 s", n)
		}
	}
	if least := int(300*public.Rate) - 5; len(sent) < least {
		t.Errorf("%d in 5 min, want at least %d", len(sent), least)
	}
}

// TestTokensAreTakenOnce has many take tokens of the same destinations at once.
func TestTokensAreTakenOnce(t *testing.T) {
	d := limit.NewDestinations(public, 5, new(limit.Table))
	const destinations, takers = 1000, 8
	var taken [destinations]atomic.Int32
	var all sync.WaitGroup
	for range takers {
		all.Go(func() {
			for range 3 {
				for i := range taken {
					if _, ok := d.Reserve(addrOf(uint32(i)), 1<<50, 0); ok {
						taken[i].Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	for i := range taken {
		if n := taken[i].Load(); n > 8+1 { // two may find two places for a new one
			t.Errorf("destination %d: %d tokens", i, n)
		}
	}
}

// TestDestinationsKeepTheirPlace asks ever others: those whose bucket is not full are not forgotten for them, and when there are too
// many, the others have to wait.
func TestDestinationsKeepTheirPlace(t *testing.T) {
	const now = limit.Time(1 << 50)
	d := limit.NewDestinations(public, 6, new(limit.Table))
	spend := func(a netip.Addr) (n int) {
		for {
			if _, ok := d.Reserve(a, now, 0); !ok {
				return n
			}
			n++
		}
	}
	refused, known := 0, []netip.Addr{}
	for i := range uint32(4 * limit.Sets * limit.Ways) {
		switch n := spend(addrOf(i)); n {
		case 0:
			refused++
		case 8:
			known = append(known, addrOf(i))
		default:
			t.Fatalf("destination %d: %d tokens", i, n)
		}
	}
	for _, a := range known {
		if d.Wait(a, now) == 0 {
			t.Fatalf("%v was forgotten", a)
		}
	}
	if len(known) > limit.Sets*limit.Ways || len(known) < limit.Sets*limit.Ways*9/10 {
		t.Errorf("%d destinations have places, %d not", len(known), refused)
	}
	if later := now + limit.Time(3*time.Second); d.Wait(addrOf(1<<30), later) != 0 {
		t.Error("no place when all buckets are full again")
	}
}
