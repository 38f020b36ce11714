package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance/kernel"
	"kdht/appliance/link"
	"kdht/appliance/status"
	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/config"
	"kdht/router"
)

// fake stands for the program, the node and the interfaces, and writes down what is done to them.
type fake struct {
	mu      sync.Mutex
	journal []string
	refuse  map[string]error // "attach 2 native": error
	kernel  router.Kernel    // what the node was given

	sightings chan bpf.Sighting
	links     chan []link.Link
	ready     chan struct{}
	refreshes int
	packets   uint64
	held      bpf.Held
	groups    []netip.AddrPort // of many, last told
	takes     int              // of the missing keys, whenever they are tried
	loads     []bpf.Config
	loadErr   map[string]error // by PinDir
	log       bytes.Buffer
	rec       recursive
}

func newFake() *fake {
	return &fake{
		refuse: map[string]error{}, sightings: make(chan bpf.Sighting), links: make(chan []link.Link), ready: make(chan struct{}),
		loadErr: map[string]error{}, packets: 7,
	}
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := fmt.Sprintf(format, args...)
	f.journal = append(f.journal, s)
	return f.refuse[s]
}

// took returns what was done since the last call, without the renewals.
func (f *fake) took() string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	var done []string
	for _, s := range f.journal {
		if !strings.HasPrefix(s, "renew") {
			done = append(done, s)
		}
	}
	f.journal = nil
	return strings.Join(done, "; ")
}

func (f *fake) Publish(s *bpf.Snapshot) error { return f.note("publish %d", s.Secret[0]) }
func (f *fake) Hold(key [20]byte) error       { return f.note("hold %d", key[0]) }
func (f *fake) Release(key [20]byte) error    { return f.note("release %d", key[0]) }
func (f *fake) SetHotItem(key [20]byte, _ *bpf.HotItem, _ time.Duration) error {
	return f.note("hot %d", key[0])
}
func (f *fake) SetHotPeers(key [20]byte, _ *bpf.HotPeers, _ time.Duration) error {
	return f.note("hot peers %d", key[0])
}
func (f *fake) Cool(key [20]byte) error              { return f.note("cool %d", key[0]) }
func (f *fake) HotHits(func([20]byte, uint64)) error { return nil }
func (f *fake) Hot() bpf.Hot {
	return bpf.Hot{Keys: 5, Small: 3, Room: 4, Large: 2, LargeRoom: 9, Bytes: 7}
}
func (f *fake) Pace(limit.Pace) (*limit.Destinations, error) { return nil, nil }
func (f *fake) SetLimits(c limit.Config) error               { return f.note("limits %v", c.Rate) }
func (f *fake) Prove(a netip.Addr) error                     { return f.note("prove %v", a) }
func (f *fake) Expect(a netip.Addr) error                    { return f.note("expect %v", a) }
func (f *fake) SetEndpoints(as []netip.AddrPort, many ...netip.AddrPort) error {
	f.groups = many
	return f.note("endpoints %v", as)
}
func (f *fake) Renew(d time.Duration) error   { return f.note("renew %v", d) }
func (f *fake) Detach(index int) error        { return f.note("detach %d", index) }
func (f *fake) Attachments() []bpf.Attachment { return f.rec.attachments }
func (f *fake) Close(detach bool) error       { return f.note("close %v", detach) }
func (f *fake) Attach(index int, m bpf.Mode) (bpf.Mode, error) {
	return m, f.note("attach %d %v", index, m)
}

func (f *fake) HoldAll(keys iter.Seq[[20]byte]) error {
	n := 0
	for range keys {
		n++
	}
	return f.note("hold all %d", n)
}

func (f *fake) HoldMissing() error {
	err := f.note("hold missing")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held.Missing = max(0, f.held.Missing-f.takes)
	return err
}

func (f *fake) Held() bpf.Held {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

func (f *fake) Counters() ([]bpf.Counter, error) {
	return []bpf.Counter{{Reason: "answered", Query: "ping", Packets: f.packets}, {Reason: "not_ours"}}, nil
}

func (f *fake) Events() ([]bpf.EventCounter, error) {
	return []bpf.EventCounter{{Event: "sighting", Count: 3}}, nil
}

func (f *fake) Jited() (bool, error) { return false, nil }

func (f *fake) Sightings(ctx context.Context, see func(bpf.Sighting)) error {
	for {
		select {
		case s := <-f.sightings:
			if !s.Addr.IsValid() {
				return errors.New("ring buffer is gone")
			}
			see(s)
		case <-ctx.Done():
			return nil
		}
	}
}

// node and interfaces are separate types because methods have the same names.
type node struct{ *fake }

func (n node) SetKernel(k router.Kernel) error {
	n.kernel = k
	return n.note("set kernel %v", k != nil)
}
func (n node) Sighting(c router.Contact, _ bool) { _ = n.note("sighting %v", c.Addr) }
func (n node) Ready() <-chan struct{}            { return n.ready }

type interfaces struct{ *fake }

func (i interfaces) Run(ctx context.Context, f func([]link.Link)) error {
	for {
		select {
		case ls := <-i.links:
			if ls == nil {
				return errors.New("netlink is gone")
			}
			f(ls)
		case <-ctx.Done():
			return nil
		}
	}
}
func (i interfaces) Refresh()     { i.mu.Lock(); i.refreshes++; i.mu.Unlock() }
func (i interfaces) Close() error { return nil }

const pins = "/pins/x"

// start runs a half with fakes. end stops it and returns what Run returned.
func (f *fake) start(t *testing.T, change func(*kernel.Config)) (h *kernel.Half, end func() error) {
	t.Helper()
	c := kernel.Config{
		XDP:    config.XDP{Mode: config.XDPAuto, Lease: time.Minute},
		Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6881")},
		Node:   node{f},
		Keys:   func() iter.Seq[[20]byte] { return slices.Values([][20]byte{{1}, {2}}) },
		Log:    slog.New(slog.NewTextHandler(&f.log, nil)),
		Load: func(c bpf.Config) (kernel.Program, error) {
			f.loads = append(f.loads, c)
			return f, f.loadErr[c.PinDir]
		},
		Watch:  func() (kernel.Links, error) { return interfaces{f}, nil },
		PinDir: func(string) (string, error) { return pins, nil },
	}
	if change != nil {
		change(&c)
	}
	h = kernel.New(c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	return h, func() error {
		cancel()
		return <-ended
	}
}

// nic makes a suitable interface.
func eth(index int, change func(*link.Link)) link.Link {
	l := link.Link{
		Index: index, Name: fmt.Sprintf("eth%d", index), Driver: "igb", Type: 1, MAC: [6]byte{2, 0, 0, 0, 0, byte(index)}, MTU: 1500,
		Up: true, Carrier: true, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, byte(index)})},
	}
	if change != nil {
		change(&l)
	}
	return l
}

// attached is the interface as the kernel shows it with our program.
func attached(index int) link.Link {
	return eth(index, func(l *link.Link) { l.XDPMode, l.XDPProgID = "native", 99 })
}

func only(t *testing.T, h *kernel.Half) status.NIC {
	t.Helper()
	n := h.Report().NICs
	if len(n) != 1 {
		t.Fatalf("NICs are %+v, want one", n)
	}
	return n[0]
}

func expect(t *testing.T, f *fake, what, want string) {
	t.Helper()
	if got := f.took(); got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

const begin = "limits 0; hold all 2; set kernel true"

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		h, end := f.start(t, nil)
		expect(t, f, "start", begin)
		select {
		case <-h.Ready():
			t.Error("ready before it is attached")
		default:
		}
		f.links <- []link.Link{eth(2, nil)}
		expect(t, f, "first interface", "endpoints [198.18.0.2:6881]; attach 2 native")
		<-h.Ready()
		if f.refreshes != 1 {
			t.Error("the outcome was not read back from the kernel")
		}
		f.links <- []link.Link{attached(2)}
		expect(t, f, "nothing new", "")
		if n := only(t, h); n.Mode != "native" || n.Reason != "" || n.ProgramID != 99 || n.Wanted != "auto" {
			t.Errorf("NIC is %+v", n)
		}
		r := h.Report()
		if !r.Active || !r.Pinned || r.Execution != "interpreter" || r.PinDir != pins || r.TakenOver || r.Lease != 60 || len(r.Counters) != 2 || r.Counters[0].Packets != 7 || r.Events[0].Count != 3 {
			t.Errorf("report is %+v", r)
		}
		f.links <- []link.Link{attached(2), eth(3, nil)}
		expect(t, f, "second interface", "endpoints [198.18.0.2:6881 198.18.0.3:6881]; attach 3 native")
		f.links <- []link.Link{eth(3, nil)}
		expect(t, f, "first one gone", "detach 2; endpoints [198.18.0.3:6881]")

		f.sightings <- bpf.Sighting{Addr: netip.MustParseAddrPort("198.18.7.7:1")}
		expect(t, f, "sighting", "sighting 198.18.7.7:1")
		f.sightings <- bpf.Sighting{} // the reader fails, and is started again
		time.Sleep(2 * time.Second)
		f.sightings <- bpf.Sighting{Addr: netip.MustParseAddrPort("198.18.7.8:1")}
		expect(t, f, "sighting after a failure", "sighting 198.18.7.8:1")

		if err := end(); err != nil {
			t.Error(err)
		}
		expect(t, f, "stop", "close true; set kernel false")
		if r := h.Report(); r.Active || r.Reason == "" {
			t.Errorf("after the stop the report is %+v", r)
		}
	})
}

func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, end := f.start(t, nil)
		f.links <- nil2()
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		f.mu.Lock()
		renewals := 0
		for _, s := range f.journal {
			if s == "renew 1m0s" {
				renewals++
			}
		}
		f.mu.Unlock()
		if renewals != 31 {
			t.Errorf("%d renewals in ten minutes with a lease of one, want 31", renewals)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// nil2 is no interfaces, where nil is a failure.
func nil2() []link.Link { return []link.Link{} }

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, end := f.start(t, func(c *kernel.Config) { c.XDP.Linger = 10 * time.Second })
		f.links <- nil2()
		f.took()
		if err := end(); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if got := strings.Join(f.journal, "; "); got != "set kernel false; renew 10s; close false" {
			t.Errorf("stop: %s", got)
		}
	})
}

// TestTakeOver finds pins, and keeps the predecessor's tables until the node is ready.
func TestTakeOver(t *testing.T) {
	for name, late := range map[string]bool{"ready": false, "never ready": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "maps"), 0o700); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				h, end := f.start(t, func(c *kernel.Config) { c.PinDir = func(string) (string, error) { return dir, nil } })
				synctest.Wait()
				f.mu.Lock()
				if f.journal[0] != "renew 1m0s" {
					t.Errorf("first of all: %s, want the lease renewed", f.journal[0])
				}
				f.mu.Unlock()
				expect(t, f, "start", begin)
				for i := range 2 {
					if err := f.kernel.Publish(&bpf.Snapshot{Secret: [16]byte{byte(i)}}); err != nil {
						t.Error(err)
					}
				}
				if err := f.kernel.Hold([20]byte{9}); err != nil {
					t.Error(err)
				}
				expect(t, f, "before the node is ready", "hold 9")
				// An interface that is not wanted any more, with a program that only a predecessor can have left.
				f.links <- []link.Link{eth(2, func(l *link.Link) { l.XDPMode, l.Kind = "native", "bridge" })}
				expect(t, f, "unwanted interface", "endpoints [198.18.0.2:6881]; attach 2 auto; detach 2")
				if late {
					time.Sleep(31 * time.Second)
				} else {
					close(f.ready)
				}
				expect(t, f, "ready", "publish 1")
				if err := f.kernel.Publish(&bpf.Snapshot{Secret: [16]byte{5}}); err != nil {
					t.Error(err)
				}
				expect(t, f, "afterwards", "publish 5")
				if !h.Report().TakenOver {
					t.Error("the report does not say so")
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestChangesOfAnInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		h, end := f.start(t, nil)
		defer end() //nolint:errcheck // not the subject
		f.links <- []link.Link{eth(2, nil)}
		f.links <- []link.Link{attached(2)}
		f.took()
		step := func(what, want string, change func(*link.Link)) {
			t.Helper()
			l := attached(2)
			if change != nil {
				change(&l)
			}
			f.links <- []link.Link{l}
			expect(t, f, what, want)
		}
		step("renamed", "", func(l *link.Link) { l.Name = "wan" })
		if n := only(t, h); n.Name != "wan" || n.Mode != "native" {
			t.Errorf("NIC is %+v", n)
		}
		step("down", "", func(l *link.Link) { l.Up = false })
		step("up again", "", nil)
		step("lost notifications, same program", "", func(l *link.Link) { l.Generation = 1 << 32 })
		step("back", "", nil)
		step("another interface of that index", "detach 2; attach 2 native", func(l *link.Link) {
			l.Generation, l.XDPMode, l.XDPProgID = 7, "", 0
		})
		step("read back", "", func(l *link.Link) { l.Generation = 7 })
		step("detached by somebody", "detach 2; attach 2 native", func(l *link.Link) { l.Generation, l.XDPMode, l.XDPProgID = 7, "", 0 })
		step("several programs", "", func(l *link.Link) { l.Generation, l.XDPMode, l.XDPProgID = 7, "several", 0 })
		step("port of a bond", "detach 2", func(l *link.Link) { l.Generation, l.Master, l.PortKind = 7, 5, "bond" })
		if n := only(t, h); n.Wanted != "none" || n.Mode != "none" || !strings.Contains(n.Reason, "bond") {
			t.Errorf("NIC is %+v", n)
		}
		step("no port any more", "attach 2 native", func(l *link.Link) { l.Generation, l.XDPMode, l.XDPProgID = 7, "", 0 })
	})
}

func TestModes(t *testing.T) {
	broken := fmt.Errorf("attach: %w: MTU is too large", bpf.ErrNotSupported)
	busy := fmt.Errorf("attach: %w", bpf.ErrBusy)
	veth := func(l *link.Link) { l.Kind = "veth" }
	for name, c := range map[string]struct {
		mode   config.XDPMode
		change func(*link.Link)
		refuse map[string]error
		did    string
		got    string
		reason string
		logged string
	}{
		"auto":             {config.XDPAuto, nil, nil, "attach 2 native", "native", "", "INFO"},
		"auto, fallback":   {config.XDPAuto, nil, map[string]error{"attach 2 native": broken}, "attach 2 native; attach 2 generic", "generic", "native: attach: XDP is not supported: MTU is too large", "WARN"},
		"auto, neither":    {config.XDPAuto, nil, map[string]error{"attach 2 native": broken, "attach 2 generic": broken}, "attach 2 native; attach 2 generic", "none", "generic: ", "WARN"},
		"auto, busy":       {config.XDPAuto, nil, map[string]error{"attach 2 native": busy}, "attach 2 native", "none", "native: attach: another", "WARN"},
		"auto on veth":     {config.XDPAuto, veth, nil, "attach 2 generic", "generic", "--xdp native forces it", "INFO"},
		"native on veth":   {config.XDPNative, veth, nil, "attach 2 native", "native", "", "INFO"},
		"native, refused":  {config.XDPNative, nil, map[string]error{"attach 2 native": broken}, "attach 2 native", "none", "native: attach", "WARN"},
		"generic":          {config.XDPGeneric, nil, nil, "attach 2 generic", "generic", "", "INFO"},
		"generic, refused": {config.XDPGeneric, nil, map[string]error{"attach 2 generic": broken}, "attach 2 generic", "none", "generic: attach", "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				if c.refuse != nil {
					f.refuse = c.refuse
				}
				h, end := f.start(t, func(k *kernel.Config) { k.XDP.Mode = c.mode })
				defer end() //nolint:errcheck // not the subject
				f.took()
				f.links <- []link.Link{eth(2, c.change)}
				expect(t, f, "attach", "endpoints [198.18.0.2:6881]; "+c.did)
				n := only(t, h)
				if n.Mode != c.got || n.Wanted != string(c.mode) || !strings.Contains(n.Reason, c.reason) || c.reason == "" && n.Reason != "" {
					t.Errorf("NIC is %+v, want mode %s because of %q", n, c.got, c.reason)
				}
				if r := h.Report(); r.Active != (c.got != "none") || (r.Reason == "") != r.Active {
					t.Errorf("active %v, reason %q", r.Active, r.Reason)
				}
				if log := f.log.String(); strings.Count(log, "interface=eth2") != 1 || !strings.Contains(log, "level="+c.logged) {
					t.Errorf("log is %q, want one line of level %s", log, c.logged)
				}
				if c.got != "none" {
					return
				}
				f.links <- []link.Link{eth(2, func(l *link.Link) { l.Name = "new" })}
				expect(t, f, "nothing that could help", "")
				f.links <- []link.Link{eth(2, func(l *link.Link) { l.MTU = 1400 })}
				expect(t, f, "something that could help", c.did)
				if log := f.log.String(); strings.Count(log, "XDP not attached") != 1 {
					t.Errorf("the same refusal is logged again: %q", log)
				}
			})
		})
	}
}

// TestVLAN leaves out the address of a VLAN whose tags are lost on the way to the program.
func TestVLAN(t *testing.T) {
	const both, one = "[198.18.0.2:6881 198.18.0.9:6881]", "[198.18.0.2:6881]"
	for name, c := range map[string]struct {
		strips bool
		mode   config.XDPMode
		refuse bool
		want   string
	}{
		"tags stay":           {false, config.XDPAuto, false, both},
		"tags are taken off":  {true, config.XDPAuto, false, one},
		"fallback to generic": {true, config.XDPAuto, true, both},
		"generic mode":        {true, config.XDPGeneric, false, both},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				if c.refuse {
					f.refuse["attach 2 native"] = bpf.ErrNotSupported
				}
				h, end := f.start(t, func(k *kernel.Config) { k.XDP.Mode = c.mode })
				vlan := eth(9, func(l *link.Link) { l.Kind, l.Parent = "vlan", 2 })
				for _, prog := range []uint32{0, 99} { // the second state is what is read back
					f.links <- []link.Link{eth(2, func(l *link.Link) { l.StripsTags, l.XDPProgID = c.strips, prog }), vlan}
				}
				synctest.Wait()
				if got := fmt.Sprint(h.Report().Endpoints); got != c.want {
					t.Errorf("endpoints are %s, want %s", got, c.want)
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestNewVersion finds pins whose maps were not taken over, so that the tables must be published at once.
func TestNewVersion(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "maps"), 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.packets = 0
		_, end := f.start(t, func(c *kernel.Config) { c.PinDir = func(string) (string, error) { return dir, nil } })
		synctest.Wait()
		if err := f.kernel.Publish(&bpf.Snapshot{Secret: [16]byte{3}}); err != nil {
			t.Error(err)
		}
		expect(t, f, "start", begin+"; publish 3")
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

func TestWithout(t *testing.T) {
	denied := fmt.Errorf("load: %w", bpf.ErrPermission)
	for name, c := range map[string]struct {
		mode   config.XDPMode
		loads  int
		reason string
		lines  int
	}{
		"off":           {config.XDPOff, 0, "it is off by configuration", 0},
		"no permission": {config.XDPAuto, 2, "CAP_BPF", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.loadErr = map[string]error{pins: denied, "": denied}
				h, end := f.start(t, func(k *kernel.Config) { k.XDP.Mode = c.mode })
				<-h.Ready()
				synctest.Wait()
				r := h.Report()
				if r.Active || !strings.Contains(r.Reason, c.reason) || len(f.loads) != c.loads || f.took() != "" {
					t.Errorf("report is %+v after %d loads, want %q after %d", r, len(f.loads), c.reason, c.loads)
				}
				if n := strings.Count(f.log.String(), "\n"); n != c.lines {
					t.Errorf("%d lines in the log, want %d", n, c.lines)
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestNotPinned(t *testing.T) {
	for name, change := range map[string]func(*fake, *kernel.Config){
		"no file system": func(_ *fake, c *kernel.Config) {
			c.PinDir = func(string) (string, error) { return "", errors.New("out of order") }
		},
		"pins refused": func(f *fake, _ *kernel.Config) { f.loadErr = map[string]error{pins: errors.New("out of order")} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				h, end := f.start(t, func(c *kernel.Config) {
					c.XDP.Linger = time.Second
					change(f, c)
				})
				f.links <- []link.Link{eth(2, nil)}
				f.took()
				if r := h.Report(); !r.Active || r.Pinned || r.PinReason != "out of order" || r.PinDir != "" {
					t.Errorf("report is %+v", r)
				}
				if n := strings.Count(f.log.String(), "out of order"); n != 1 {
					t.Errorf("logged %d times, want once", n)
				}
				if err := end(); err != nil {
					t.Error(err)
				}
				expect(t, f, "there is nothing to linger", "close true; set kernel false")
			})
		})
	}
}

// TestFailure loses netlink: the program stays attached for the next run, and is told all the while what is held here.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		h, end := f.start(t, nil)
		f.links <- []link.Link{eth(2, nil)}
		f.took()
		f.links <- nil
		expect(t, f, "failure", "")
		if err := end(); err == nil || !strings.Contains(err.Error(), "netlink is gone") {
			t.Errorf("Run = %v, want the failure", err)
		}
		<-h.Ready() // and stays closed in the next run
		if r := h.Report(); r.Active || !strings.Contains(r.Reason, "netlink is gone") {
			t.Errorf("report is %+v, want the failure", r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		f.links <- []link.Link{eth(2, nil)}
		expect(t, f, "next run", "endpoints [198.18.0.2:6881]; attach 2 native")
		f.links <- nil
		if err := <-ended; err == nil {
			t.Error("the next run did not fail")
		}
		cancel()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		expect(t, f, "the end after a failure", "close true; set kernel false")
	})
}

// TestSettled makes sure that the node waits, with storing anything, for whatever could deny it, and for nothing else.
func TestSettled(t *testing.T) {
	broken := errors.New("out of order")
	for name, c := range map[string]struct {
		left    bool  // by a predecessor
		load    error // with pins
		packets uint64
		refuse  string
		before  string // what is done before
		waits   bool   // for the first interfaces
		fails   bool
	}{
		"nothing was left": {before: ""},
		"same version":     {left: true, packets: 7, before: begin},
		"another version":  {left: true, before: begin, waits: true},
		"pins are refused": {left: true, load: broken, before: ""},
		"keys are refused": {left: true, packets: 7, refuse: "hold all 2", before: "limits 0; hold all 2; set kernel false; close true", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "pins")
			if c.left {
				if err := os.MkdirAll(filepath.Join(dir, "maps"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.packets = c.packets
				f.loadErr[dir] = c.load
				if c.refuse != "" {
					f.refuse[c.refuse] = broken
				}
				loading := make(chan struct{})
				h, end := f.start(t, func(k *kernel.Config) {
					k.PinDir = func(string) (string, error) { return dir, nil }
					load := k.Load
					k.Load = func(b bpf.Config) (kernel.Program, error) {
						if b.PinDir == "" || !c.left {
							<-loading
						}
						return load(b)
					}
				})
				synctest.Wait()
				select {
				case <-h.Settled():
					if c.waits {
						t.Error("settled while a program of another version is attached")
					}
				default:
					if !c.waits {
						t.Error("not settled")
					}
				}
				expect(t, f, "before", c.before)
				close(loading)
				if !c.fails {
					f.links <- nil2()
				}
				<-h.Settled()
				if _, err := os.Stat(dir); c.load != nil && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("pins that are of no use: %v, want them gone", err)
				}
				if err := end(); (err != nil) != c.fails {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func TestEndpoints(t *testing.T) {
	addrs := func(ss ...string) (as []netip.Addr) {
		for _, s := range ss {
			as = append(as, netip.MustParseAddr(s))
		}
		return as
	}
	links := []link.Link{
		{Loopback: true, Addrs: addrs("127.0.0.1", "198.18.9.9", "::1")},
		{Addrs: addrs("198.18.0.1", "2001:db8::1", "fe80::1")},
		{Addrs: addrs("198.18.0.1", "198.18.0.2", "fe80::1")},
	}
	for _, c := range []struct {
		listen   string
		loopback bool
		want     string
	}{
		{"0.0.0.0:6881", false, "198.18.0.1:6881 198.18.0.2:6881 198.18.9.9:6881"},
		{"[::]:6881", false, "[2001:db8::1]:6881 [fe80::1]:6881"},
		{"0.0.0.0:6881", true, "127.0.0.1:6881 198.18.0.1:6881 198.18.0.2:6881 198.18.9.9:6881"},
		{"127.0.0.1:6881", false, ""},
		{"198.18.0.2:6881 198.18.0.2:7000", false, "198.18.0.2:6881 198.18.0.2:7000"},
		{"198.18.0.2:6881 0.0.0.0:6881", false, "198.18.0.1:6881 198.18.0.2:6881 198.18.9.9:6881"},
		{"[fe80::1%eth0]:6881", false, "[fe80::1]:6881"},
		{"[2001:db8::1]:1 198.18.0.1:2", false, "198.18.0.1:2 [2001:db8::1]:1"},
	} {
		var listen []netip.AddrPort
		for _, s := range strings.Fields(c.listen) {
			listen = append(listen, netip.MustParseAddrPort(s))
		}
		got := strings.Trim(fmt.Sprint(kernel.Endpoints(listen, links, c.loopback)), "[]")
		if want := strings.Trim(c.want, "[]"); got != want {
			t.Errorf("%s, loopback %v: %s, want %s", c.listen, c.loopback, got, want)
		}
	}
}

// TestGroups tells the kernel half where the node hears what is for many, and tells it again when a network comes.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, end := f.start(t, func(k *kernel.Config) {
			k.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6881"), netip.MustParseAddrPort("[::]:6882"), netip.MustParseAddrPort("198.18.0.2:7000")}
		})
		in := func(prefixes ...string) func(*link.Link) {
			return func(l *link.Link) {
				for _, p := range prefixes {
					l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
				}
			}
		}
		for _, c := range []struct {
			links []link.Link
			want  string
		}{
			{[]link.Link{eth(2, in("198.18.0.2/15", "2001:db8::1/64"))}, "[0.0.0.0:6881 198.19.255.255:6881 [::]:6882]"},
			{[]link.Link{eth(2, in("198.18.0.2/15", "198.18.0.2/32", "10.0.0.4/31", "192.168.1.130/26"))}, "[0.0.0.0:6881 192.168.1.191:6881 198.19.255.255:6881 [::]:6882]"},
			{[]link.Link{eth(2, in())}, "[0.0.0.0:6881 [::]:6882]"},
		} {
			f.links <- c.links
			synctest.Wait()
			if got := fmt.Sprint(f.groups); got != c.want {
				t.Errorf("%v: groups are %s, want %s", c.links[0].Prefixes, got, c.want)
			}
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
