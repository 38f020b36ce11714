package conformance_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"kdht/appliance/status"
	"kdht/router"
	"kdht/router/krpc"
)

const (
	// maxOwn is bytes of the process's own memory, with full tables and after load. What is resident besides are pages of its files, which the
	// kernel can take back. How many it maps depends on how they happen to lie in its cache: of the same program 31 to 36 MiB with full
	// tables, and 34 to 41 after load, with those of the store's file.
	maxOwn = 20 << 20
	// A bucket has room for so many contacts, and its replacement cache for as many. Levels of 8 buckets are full in a
	// network of 100 million nodes.
	bucketSize = 8
	levels     = 20
	levelBits  = 3
	buckets    = levels << levelBits
)

// TestMemory fills the routing tables of both families, with their replacement caches, puts load on both halves, and
// looks at the memory that the process has then.
func TestMemory(t *testing.T) {
	r := newRig(t)
	n := r.serve(t, "native", t.TempDir())
	var swarms []*swarm
	for _, f := range n.status(t).Families {
		to := node4
		if f.Family == "IPv6" {
			to = node6
		}
		swarms = append(swarms, r.newSwarm(t, get[krpc.ID](t)(krpc.ParseID(f.ID)), to, levels, levelBits, 2*bucketSize))
	}
	before := memory(t, n)
	// A node asks back only so many senders of one bucket in a second: one once the bucket is full, which its own lookups may
	// have made it.
	for i := range 2 * bucketSize {
		if i > 0 {
			<-time.After(time.Second + 50*time.Millisecond)
		}
		for _, s := range swarms {
			var nodes []router.Contact
			for b := range buckets {
				nodes = append(nodes, s.nodes[2*bucketSize*b+i])
			}
			s.join(t, n, nodes)
		}
	}
	full := n.until(t, "the tables are full", func(s status.Report) bool {
		for _, f := range s.Families {
			spare := 0
			for _, l := range f.Levels {
				spare += l.Replacement
			}
			if f.Good < bucketSize*buckets || spare < bucketSize*buckets {
				return false
			}
		}
		return true
	})
	for _, f := range full.Families {
		t.Logf("%s: %d contacts, and as many spare ones", f.Family, f.Good)
	}
	idle := memory(t, n)
	load(t, r)
	loaded := memory(t, n)
	c := n.counters(t)
	t.Logf("after %d answers from the kernel half, %d from user space and %d puts", c["xdp/answered"], c["query answered/find_node"], c["store/stored"])
	t.Logf("resident memory: %s at the start, %s with full tables, %s after load (most ever: %s)", before["VmRSS"], idle["VmRSS"], loaded["VmRSS"], loaded["VmHWM"])
	t.Logf("with full tables: %s of its own, %s of files; after load: %s, %s", idle["RssAnon"], idle["RssFile"], loaded["RssAnon"], loaded["RssFile"])
	for what, m := range map[string]map[string]mebibytes{"with full tables": idle, "after load": loaded} {
		if m["RssAnon"] >= maxOwn {
			t.Errorf("the process's own memory %s is %s, want less than %s", what, m["RssAnon"], mebibytes(maxOwn))
		}
	}
}

// load sends queries of all kinds from many clients.
func load(t *testing.T, r *rig) {
	var wg sync.WaitGroup
	for i := range 16 {
		to := node4
		if i%2 == 1 {
			to = node6
		}
		c := r.dial(t, netip.AddrPortFrom(swarmAddr(to.Addr().Is6(), 6000+i), 0), to)
		wg.Go(func() {
			var token []byte
			for j := range 1500 {
				id := fmt.Sprintf("%010d%010d", i, j)
				b := newQuery("find_node", "target", str(id)).bytes()
				switch j % 5 {
				case 1:
					b = newQuery("get", "target", str(id)).bytes()
				case 2:
					b = newQuery("put", "token", str(token), "v", str(id+strings.Repeat("v", 500))).bytes()
				case 3:
					b = mark(id) // for user space
				case 4:
					b = newQuery("get_peers", "info_hash", str(id), "want", "l"+str("n4")+str("n6")+"e").bytes()
				}
				_, m, err := c.answer(b)
				if err != nil || m.Type != krpc.TypeResponse {
					t.Errorf("%q: %s, %v", b, describe(m), err)
					return
				}
				if m.Token != nil {
					token = m.Token
				}
			}
		})
	}
	wg.Wait()
}

// mebibytes is a size in bytes.
type mebibytes int64

func (m mebibytes) String() string { return fmt.Sprintf("%.1f MiB", float64(m)/(1<<20)) }

// memory is what the kernel says of the memory of the process.
func memory(t *testing.T, n *node) map[string]mebibytes {
	t.Helper()
	m := map[string]mebibytes{}
	for line := range strings.Lines(string(get[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/status", n.status(t).PID))))) {
		var name string
		var kB int64
		if k, _ := fmt.Sscanf(strings.Replace(line, ":", " ", 1), "%s %d kB", &name, &kB); k == 2 {
			m[name] = mebibytes(kB << 10)
		}
	}
	return m
}
