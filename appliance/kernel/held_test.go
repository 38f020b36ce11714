package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"kdht/appliance/kernel"
	"kdht/appliance/link"
	"kdht/bpf"
	"kdht/bpf/testenv"
	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// TestRoom makes sure that a program is made for all that may be held.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		keys int64
		want uint32
	}{{0, 1 << 10}, {1 << 10, 1 << 10}, {1<<10 + 1, 1 << 11}, {120_000, 1 << 17}, {1 << 26, 1 << 26}, {1 << 27, 1 << 27}, {1 << 40, 1 << 27}, {-1, 1 << 27}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.loadErr[pins] = errors.New("out of order")
			_, end := f.start(t, func(k *kernel.Config) { k.MaxKeys = c.keys })
			synctest.Wait()
			if len(f.loads) != 2 || f.loads[0].MaxHeld != c.want || f.loads[1].MaxHeld != c.want {
				t.Errorf("%d keys: loaded with %+v, want room for %d", c.keys, f.loads, c.want)
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoldMissing makes sure that keys that were not taken in are tried again: soon, then ever more rarely while that is
// in vain, and soon again once it is not.
func TestHoldMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		h, end := f.start(t, nil)
		f.links <- nil2()
		f.took()
		step := func(what string, d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			got := f.took()
			if n := strings.Count(got, "hold missing"); n != want {
				t.Errorf("%s: tried %d times, want %d: %s", what, n, want, got)
			}
		}
		says := func(level string, times int) {
			t.Helper()
			if n := strings.Count(f.log.String(), "level="+level); n != times {
				t.Errorf("%d lines of level %s, want %d:\n%s", n, level, times, f.log.String())
			}
		}
		set := func(missing, takes int) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.held.Missing, f.takes = missing, takes
		}
		step("nothing is missing", 10*time.Second, 0)
		set(3, 0)
		f.refuse["hold missing"] = errors.New("no memory")
		for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			step("not yet", pause*time.Second-time.Millisecond, 0)
			step(fmt.Sprintf("after %d s", pause), time.Millisecond, 1)
		}
		says("WARN", 1)
		if got := h.Report().Held; got.Missing != 3 {
			t.Errorf("the report says %+v, want 3 missing", got)
		}
		set(3, 1)
		step("one is taken in", time.Minute, 1)
		step("and the others soon", 2*time.Second, 2)
		step("then all is well", time.Minute, 0)
		says("WARN", 1)
		if n := strings.Count(f.log.String(), "knows all keys"); n != 1 {
			t.Errorf("the end is logged %d times, want once", n)
		}
		set(1, 1)
		step("it happens again", time.Minute, 1)
		says("WARN", 2)
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

var (
	asked = netip.MustParseAddrPort("198.18.0.1:6881")
	asker = netip.MustParseAddrPort("198.18.0.9:51413")
)

// TestHeldOverflow stores more than the kernel half has room for, through a node with a real store, whose items then
// expire. From when a put is acknowledged until then, no get for its item may be answered by the kernel half.
func TestHeldOverflow(t *testing.T) {
	const room, ttl = 8, 2 * time.Hour
	testenv.NeedXDP(t)
	var ahead atomic.Int64 // of the store's clock
	s, err := store.Open(filepath.Join(t.TempDir(), "kdht.db"), store.Options{
		ItemTTL: ttl,
		Now:     func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	must(t, err)
	defer s.Close() //nolint:errcheck // not the subject
	conns, err := router.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	must(t, err)
	n, err := router.New(router.Config{Conns: conns, Store: s, Private: true})
	must(t, err)

	f := newFake()
	var program *bpf.Program
	h, endHalf := f.start(t, func(c *kernel.Config) {
		c.Listen, c.Node, c.Keys = []netip.AddrPort{asked}, n, s.Keys
		c.PinDir = func(string) (string, error) { return "", errors.New("not wanted") }
		c.Load = func(c bpf.Config) (kernel.Program, error) {
			c.MaxHeld = room
			program, err = bpf.Load(c)
			return program, err
		}
	})
	f.links <- []link.Link{} // it is attached nowhere, but told its endpoint
	<-h.Ready()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- n.Run(ctx) }()
	defer func() {
		cancel()
		must(t, errors.Join(<-ran, endHalf()))
	}()

	var stored []krpc.ID
	free := krpc.ImmutableTarget([]byte("4:free"))
	expect := func(what string, known, missing int) {
		t.Helper()
		held := h.Report().Held
		if held.Known != known || held.Missing != missing || held.Room != room || (held.Since == nil) != (missing == 0) || held.Overflows != 1 && missing > 0 {
			t.Errorf("%s: the report says %+v, want %d known and %d missing", what, held, known, missing)
		}
		for _, k := range stored {
			if v := verdict(t, program, k); v != xdpPass {
				t.Errorf("%s: a get for %x, which is held here: verdict %d", what, k, v)
			}
		}
		want := xdpPass
		if missing == 0 {
			want = xdpTX
		}
		if v := verdict(t, program, free); v != want {
			t.Errorf("%s: a get for what is not held here: verdict %d, want %d", what, v, want)
		}
	}
	c, err := net.Dial("udp", conns[0].LocalAddr().String())
	must(t, err)
	defer c.Close()
	token := exchange(t, c, krpc.Message{Method: krpc.MethodGet, Target: free, HasTarget: true}).Token
	put := func(from, to int) {
		for i := from; i < to; i++ {
			v := fmt.Appendf(nil, "i%de", i)
			exchange(t, c, krpc.Message{Method: krpc.MethodPut, Token: token, V: v})
			stored = append(stored, krpc.ImmutableTarget(v))
			expect(fmt.Sprintf("%d items", i+1), min(i+1, room), max(0, i+1-room))
		}
	}
	put(0, 5)
	ahead.Add(int64(ttl / 2))
	put(5, 10)
	for _, step := range []struct{ expired, known, missing int }{{5, 5, 0}, {10, 0, 0}} {
		ahead.Add(int64(ttl/2 + time.Minute))
		_, err := s.Expire(time.Now().Add(time.Duration(ahead.Load())))
		must(t, err)
		stored = stored[5:]
		expect(fmt.Sprintf("%d have expired", step.expired), step.known, step.missing)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exchange sends a query and returns the response.
func exchange(t *testing.T, c net.Conn, q krpc.Message) (r krpc.Message) {
	t.Helper()
	q.Type, q.HasID, q.TID = krpc.TypeQuery, true, []byte("aa")
	b, err := q.Append(nil)
	must(t, err)
	_, err = c.Write(b)
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	for buf := make([]byte, 2048); ; {
		n, err := c.Read(buf)
		must(t, err)
		if must(t, krpc.Decode(buf[:n], &r)); r.Type == krpc.TypeQuery {
			continue // the node asks back
		}
		if r.Type != krpc.TypeResponse {
			t.Fatalf("%v: %q", q.Method, buf[:n])
		}
		return r
	}
}

// XDP verdicts.
const (
	xdpPass = 2
	xdpTX   = 3
)

// verdict runs the program on a get.
func verdict(t *testing.T, p *bpf.Program, target krpc.ID) int {
	t.Helper()
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodGet, TID: []byte("aa"), HasID: true, Target: target, HasTarget: true}
	q.ID = krpc.ID{1}
	payload, err := q.Append(nil)
	must(t, err)
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: asker.Addr().AsSlice(), DstIP: asked.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(asker.Port()), DstPort: layers.UDPPort(asked.Port())}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload)))
	v, _, err := p.Run(b.Bytes())
	must(t, err)
	return int(v)
}
