package update_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gokrazy/updater"

	"kdht/appliance/status"
	"kdht/appliance/update"
	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/testdisk"
	"kdht/appliance/update/trial"
	"kdht/bpf/testenv"
	"kdht/config"
	"kdht/store"
)

// bench is a box on a loop device: everything is real but the last calls and gokrazy's init.
type bench struct {
	t      *testing.T
	device string
	place  bootdisk.Place
	state  string
	cfg    config.Config
	store  *store.Store
	report status.Report

	m   *update.Manager
	url string // with user and password

	mu       sync.Mutex
	calls    []string // of the machine
	kernel   []byte
	line     string
	loadErr  error
	once     bool // the firmware can try a kernel
	platform bootdisk.Platform
	cmdline  string
	gokrazy  []string // requests that came to gokrazy's socket
	left     chan struct{}
	memory   bool // the state is there
	link     bool // what the network has
	address  bool
	uptime   time.Duration
	// linkAddress is of clients on a link; nil: there are none.
	linkAddress func(netip.Addr) (mac [6]byte, ok bool)
	stopping    func() // called while the node stops
}

const password = "open sesame"

func newBench(t *testing.T, change ...func(*bench)) *bench {
	t.Helper()
	b := &bench{t: t, state: t.TempDir(), platform: bootdisk.UEFI, link: true, address: true, left: make(chan struct{}, 10)}
	var root string
	b.device, root = testdisk.Loop(t)
	cfg, err := config.Parse("test", []byte(`{"state": "/nowhere"}`))
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = cfg
	b.report = status.Report{Version: "built by hand", XDP: status.XDP{Active: true}, Families: []status.Family{{Good: 3}}, Tailnet: &status.Tailnet{State: "connected"}}
	if b.place, err = bootdisk.Find(root); err != nil {
		t.Fatal(err)
	}
	if b.store, err = store.Open(filepath.Join(b.state, "db"), store.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.store.Close() })
	if err := os.WriteFile(filepath.Join(b.state, "gokr-pw.txt"), []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(b)
	}
	b.start(root)
	return b
}

// start makes a Manager, as a start of the machine does, and serves it.
func (b *bench) start(root string) {
	t := b.t
	t.Helper()
	socket := filepath.Join(b.state, "gokrazy.sock")
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	gokrazy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.gokrazy = append(b.gokrazy, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		b.mu.Unlock()
		switch r.URL.Path {
		case "/":
			_, _ = io.WriteString(w, `{"BuildTimestamp": "2026-11-25T12:00:00Z"}`)
		case "/update/features":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"features": "partuuid,updatehash,gpt,", "EEPROM": {"PieepromSHA256": "", "VL805SHA256": ""}}`)
		case "/uploadtemp/x":
			_, _ = io.Copy(io.Discard, r.Body)
		default:
			http.Error(w, "not to be called", http.StatusTeapot)
		}
	})}
	go func() { _ = gokrazy.Serve(l) }()
	t.Cleanup(func() { _ = gokrazy.Close() })
	b.m, err = update.New(update.Options{
		Root: root, State: filepath.Join(b.state, "update"), Platform: b.platform, CommandLine: b.cmdline, Gokrazy: socket,
		Passwords: []string{filepath.Join(b.state, "none"), filepath.Join(b.state, "gokr-pw.txt")},
		Config:    b.cfg, Log: slog.New(slog.DiscardHandler), History: b.store, Machine: b,
		Version: "built by hand",
		Report: func() status.Report { // as the process makes it
			r := b.report
			if b.m != nil {
				r.Sections = append(r.Sections, b.m.Section())
				r.Problems = append(r.Problems, b.m.Problems()...)
			}
			return r
		},
		Stop: func(last func()) {
			if b.stopping != nil {
				b.stopping()
			}
			last()
			b.left <- struct{}{}
		},
		Memory: b.memory,
		Ask:    func() error { return nil }, Network: func() (bool, bool) { return b.link, b.address },
		Uptime: func() time.Duration { return b.uptime }, LinkAddress: b.linkAddress,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(b.m.Handler())
	t.Cleanup(s.Close)
	b.url = strings.Replace(s.URL, "http://", "http://gokrazy:"+strings.ReplaceAll(password, " ", "%20")+"@", 1) + "/"
}

func (b *bench) called(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, what)
}

// LoadKernel and the others are the last calls.
func (b *bench) LoadKernel(k *os.File, line string) (err error) {
	b.called("load")
	if b.loadErr != nil {
		return b.loadErr
	}
	b.line = line
	b.kernel, err = io.ReadAll(k)
	return err
}
func (b *bench) Kexec() error  { b.called("kexec"); return errors.New("kexec") }
func (b *bench) CanOnce() bool { return b.once }
func (b *bench) RestartOnce() error {
	b.called("restart once")
	return errors.New("restart once")
}
func (b *bench) Restart() error  { b.called("restart"); return errors.New("restart") }
func (b *bench) PowerOff() error { b.called("power off"); return errors.New("power off") }

// disk opens the boot disk.
func (b *bench) disk(do func(*bootdisk.Disk) error) {
	b.t.Helper()
	d, done, err := b.place.Open(b.platform)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(do(d), done()); err != nil {
		b.t.Fatal(err)
	}
}

// selected is what the disk boots.
func (b *bench) selected() (s bootdisk.Selection) {
	b.t.Helper()
	b.disk(func(d *bootdisk.Disk) (err error) { s, err = d.Selected(); return err })
	return s
}

// last is the newest entry of the history.
func (b *bench) last() store.Update {
	b.t.Helper()
	all, err := b.store.Updates()
	if err != nil || len(all) == 0 {
		b.t.Fatalf("history %v, %v", all, err)
	}
	return all[len(all)-1]
}

// target connects as gok does.
func (b *bench) target() *updater.Target {
	b.t.Helper()
	target, err := updater.NewTarget(b.t.Context(), b.url, http.DefaultClient)
	if err != nil {
		b.t.Fatal(err)
	}
	return target
}

// gok updates as "gok update" does, up to a step that fails.
func (b *bench) gok(root, boot, mbr []byte) error {
	target := b.target()
	if !target.Supports("gpt") || !target.Supports("updatehash") {
		b.t.Errorf("features are lost")
	}
	if err := target.StreamTo(b.t.Context(), "root", bytes.NewReader(root)); err != nil {
		return err
	}
	if err := target.StreamTo(b.t.Context(), "boot", bytes.NewReader(boot)); err != nil {
		return err
	}
	if err := target.StreamTo(b.t.Context(), "mbr", bytes.NewReader(mbr)); err != nil {
		return err
	}
	if err := target.Switch(b.t.Context()); err != nil {
		return err
	}
	if err := target.Reboot(b.t.Context()); err != nil {
		return err
	}
	<-b.left
	return nil
}

// request sends any request and gives status and body.
func (b *bench) request(method, path string, body io.Reader) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if l, ok := body.(*io.LimitedReader); ok {
		req.ContentLength = l.N
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestStockClient updates root and kernel with gokrazy's own client, up to the restart into the trial.
func TestStockClient(t *testing.T) {
	b := newBench(t)
	before := b.selected()
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat"), testdisk.File(t, "v2.mbr")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.calls, " "); !strings.HasPrefix(got, "load kexec") {
		t.Errorf("calls: %s", got)
	}
	if !bytes.Equal(b.kernel, testdisk.Kernel(t, "v2.fat")) {
		t.Error("another kernel was loaded")
	}
	target, ok := bootdisk.FindMarker(b.line)
	if !ok || target.From != bootdisk.Slot2 || target.To != bootdisk.Slot3 || target.Boot == 0 {
		t.Errorf("command line %q", b.line)
	}
	if slot, err := bootdisk.RootSlot(b.line); err != nil || slot != bootdisk.Slot3 || !strings.Contains(b.line, "-798dd0360001/") || !strings.Contains(b.line, " quiet") {
		t.Errorf("command line %q, %v", b.line, err)
	}
	if after := b.selected(); after != before {
		t.Errorf("the disk boots %+v, and should boot %+v until the commit", after, before)
	}
	for _, r := range b.gokrazy {
		if r != "GET /update/features " {
			t.Errorf("gokrazy got %q", r)
		}
	}
	if want := testdisk.File(t, "v2.squashfs"); !bytes.Equal(begin(t, b.place.Parts[3], len(want)), want) {
		t.Error("the root file system is not in slot 3")
	}

	// The guard commits, and the machine starts from slot 3.
	b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
	three := b.mount(bootdisk.Slot3)
	b.start(three)
	u := b.last()
	if u.Result != "committed" || u.From != "v1 (slot 2)" || u.To != "v2 (slot 3)" || !strings.HasPrefix(u.By, "gokrazy client from 127.0.0.1") {
		t.Errorf("history: %+v", u)
	}
	s := b.m.Status()
	if s.Version != "v2" || s.Slot != bootdisk.Slot3 || s.Trial || s.Serial != 2 || s.Slots[0].Version != "v1" {
		t.Errorf("%+v", s)
	}
	if got := b.m.BuildTimestamp(); got != "2026-11-25T12:00:00Z" {
		t.Errorf("build timestamp %q", got)
	}
}

// trialOfV2 updates the box to the root file system of v2, with the kernel of v1 or v2, and starts the trial.
func (b *bench) trialOfV2(kernel string) {
	t := b.t
	t.Helper()
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, kernel+".fat"), testdisk.File(t, kernel+".mbr")); err != nil {
		t.Fatal(err)
	}
	if b.cmdline = b.line; b.line == "" { // the flag is in the file that the firmware reads
		text := begin(t, b.place.Parts[1], 32<<20)
		text = text[bytes.LastIndexByte(text[:bytes.Index(text, []byte(bootdisk.TryFlag))], 0)+1:]
		b.cmdline = string(bytes.TrimSpace(text[:bytes.IndexByte(text, 0)]))
	}
	testdisk.Unmount(t, b.place.Parts[2])
	b.start(b.mount(bootdisk.Slot3))
}

// mount mounts a slot as the root file system of the next start.
func (b *bench) mount(s bootdisk.Slot) string {
	b.t.Helper()
	dir := b.t.TempDir()
	testdisk.Mount(b.t, b.place.Parts[int(s)], dir)
	var err error
	if b.place, err = bootdisk.Find(dir); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// TestNothingAfterTheRestart takes nothing any more once the machine is to restart, so that what was checked is tried.
func TestNothingAfterTheRestart(t *testing.T) {
	b := newBench(t)
	b.stopping = func() {
		for path, method := range map[string]string{"update/root": "PUT", "update/boot": "PUT", "update/switch": "POST", "update/rollback": "POST"} {
			if code, text := b.request(method, path, strings.NewReader("garbage")); code != http.StatusConflict || !strings.Contains(text, "restarting") {
				t.Errorf("%s: %d %s", path, code, text)
			}
		}
	}
	root := testdisk.File(t, "v2.squashfs")
	if err := b.gok(root, testdisk.File(t, "v1.fat"), testdisk.File(t, "v1.mbr")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.calls, " "); !strings.HasPrefix(got, "load kexec") {
		t.Errorf("calls: %s", got)
	}
	if !bytes.Equal(begin(t, b.place.Parts[3], len(root)), root) {
		t.Error("the slot was written to")
	}
}

// TestTrialGivenUp uploads once more instead of restarting: that is no trial that failed.
func TestTrialGivenUp(t *testing.T) {
	b := newBench(t)
	if code, text := b.request(http.MethodPut, "update/root", bytes.NewReader(testdisk.File(t, "v2.squashfs"))); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := b.request(http.MethodPost, "update/switch", nil); code != http.StatusOK || b.m.Status().Armed == "" {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := b.request(http.MethodPut, "update/root", strings.NewReader("garbage")); code != 422 || b.m.Status().Armed != "" {
		t.Fatalf("%d %s", code, text)
	}
	b.start(b.mount(bootdisk.Slot2))
	if u := b.last(); u.Result != "refused" || b.m.Status().Problem != "" {
		t.Errorf("%+v, %q", u, b.m.Status().Problem)
	}
}

// TestNewRootOldKernel does not try the kernel of an attempt that was given up with the root file system of the next one.
func TestNewRootOldKernel(t *testing.T) {
	b := newBench(t)
	root := testdisk.File(t, "v2.squashfs")
	for _, step := range []struct {
		path string
		body []byte
	}{{"update/root", root}, {"update/boot", testdisk.File(t, "v2.fat")}, {"update/root", root}} {
		if code, text := b.request(http.MethodPut, step.path, bytes.NewReader(step.body)); code != http.StatusOK {
			t.Fatalf("%s: %d %s", step.path, code, text)
		}
	}
	if code, text := b.request(http.MethodPost, "update/switch", nil); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if target, ok := bootdisk.FindMarker(b.line); !ok || target.Boot != 0 || !bytes.Equal(b.kernel, testdisk.Kernel(t, "v1.fat")) {
		t.Errorf("command line %q", b.line)
	}
}

// TestUnchangedBoot leaves the boot file system alone when nothing in it is new.
func TestUnchangedBoot(t *testing.T) {
	b := newBench(t)
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v1.fat"), testdisk.File(t, "v1.mbr")); err != nil {
		t.Fatal(err)
	}
	if target, ok := bootdisk.FindMarker(b.line); !ok || target.Boot != 0 {
		t.Errorf("command line %q", b.line)
	}
	if !bytes.Equal(b.kernel, testdisk.Kernel(t, "v1.fat")) {
		t.Error("another kernel was loaded")
	}
}

// TestBadRoots refuses what cannot be a root file system, before any trial, with a sentence, and goes on.
func TestBadRoots(t *testing.T) {
	b := newBench(t)
	good := testdisk.File(t, "v2.squashfs")
	broken := bytes.Clone(good)
	for i := 96; i < len(broken); i++ {
		broken[i] = 0xa5
	}
	before := b.selected()
	used := binary.LittleEndian.Uint64(good[40:])
	for _, c := range []struct {
		name, want string
		image      io.Reader
		status     int
	}{
		{"garbage", "it is no squashfs", bytes.NewReader(bytes.Repeat([]byte("garbage!"), 1000)), 422},
		{"empty", "", bytes.NewReader(nil), 422},
		{"truncated", "are there", bytes.NewReader(good[:used-1]), 422},
		{"garbage behind the superblock", "cannot be mounted", bytes.NewReader(broken), 422},
		{"another architecture", "EM_AARCH64", bytes.NewReader(testdisk.File(t, "arm64.squashfs")), 422},
		{"nothing that would end the trial", "no user/guard in it: no such file", bytes.NewReader(testdisk.File(t, "noguard.squashfs")), 422},
		{"too large", "larger than the root partition", io.LimitReader(zeros{}, testdisk.RootSize+1), 413},
	} {
		code, text := b.request(http.MethodPut, "update/root", c.image)
		if code != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", c.name, code, text)
		}
		if code, text := b.request(http.MethodPost, "update/switch", nil); code != http.StatusConflict {
			t.Errorf("%s: switch: %d %s", c.name, code, text)
		}
		if u := b.last(); u.Result != "refused" || !strings.Contains(u.Reason, c.want) {
			t.Errorf("%s: history %+v", c.name, u)
		}
	}
	// A client that goes away in the middle.
	conn, err := net.Dial("tcp", strings.Split(strings.TrimSuffix(b.url, "/"), "@")[1])
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "PUT /update/root HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Length: %d\r\n\r\n%s", basic(), len(good), good[:1000])
	_ = conn.Close()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(b.last().Reason, "broke off"); {
		if time.Now().After(deadline) {
			t.Fatalf("history %+v", b.last())
		}
		time.Sleep(10 * time.Millisecond) // until the server has noticed
	}
	if after := b.selected(); after != before || len(b.calls) != 0 {
		t.Errorf("%+v, %q", after, b.calls)
	}
	if err := b.gok(good, testdisk.File(t, "v1.fat"), testdisk.File(t, "v1.mbr")); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestKernelThatCannotBeLoaded refuses a kernel at the switch; where there is no kexec at all, the root is tried by flag.
func TestKernelThatCannotBeLoaded(t *testing.T) {
	b := newBench(t, func(b *bench) { b.loadErr = errors.New("exec format error") })
	err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat"), testdisk.File(t, "v2.mbr"))
	if err == nil || !strings.Contains(err.Error(), "the new kernel cannot be loaded: exec format error") {
		t.Fatal(err)
	}
	if u := b.last(); u.Result != "refused" {
		t.Errorf("history %+v", u)
	}
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v1.fat"), testdisk.File(t, "v1.mbr")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.calls, " "); got != "load load restart" {
		t.Errorf("calls: %s", got)
	}
	flagged(t, b)
}

// flagged checks that gokrazy's init will try the other slot.
func flagged(t *testing.T, b *bench) {
	t.Helper()
	if n := bytes.Count(begin(t, b.place.Parts[1], 32<<20), []byte(" "+bootdisk.TryFlag)); n != 1 {
		t.Errorf("%d flags", n)
	}
	if s := b.selected(); s.Slot != bootdisk.Slot2 {
		t.Errorf("the disk boots %+v", s)
	}
}

// TestFirmware tries by flag, and keeps the kernel.
func TestFirmware(t *testing.T) {
	b := newBench(t, func(b *bench) { b.platform = bootdisk.Firmware })
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat"), testdisk.File(t, "v2.mbr")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.calls, " "); got != "restart" {
		t.Errorf("calls: %s", got)
	}
	flagged(t, b)
	// The trial crashes; the machine starts from slot 2 again.
	b.start(b.mount(bootdisk.Slot2))
	u := b.last()
	if u.Result != "reverted" || !strings.Contains(u.Reason, "a crash, or the power") {
		t.Errorf("history %+v", u)
	}
	if bytes.Contains(begin(t, b.place.Parts[1], 32<<20), []byte(bootdisk.TryFlag)) {
		t.Error("the flag is still there")
	}
}

// TestNoRoom sends a boot file system that does not fit beside the one in force: the root file system alone is tried, and it is said
// why.
func TestNoRoom(t *testing.T) {
	b := newBench(t)
	if err := b.gok(testdisk.File(t, "v2.squashfs"), large(t, testdisk.File(t, "v2.fat")), testdisk.File(t, "v2.mbr")); err != nil {
		t.Fatal(err)
	}
	var record trial.Trial
	if ok, err := trial.Read(filepath.Join(b.state, "update"), trial.TrialFile, &record); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if record.Target.Boot != 0 || !strings.Contains(record.Note, "the kernel stays: no room for a second boot file system") {
		t.Errorf("%+v", record)
	}
	if !bytes.Equal(b.kernel, testdisk.Kernel(t, "v1.fat")) {
		t.Error("another kernel was loaded")
	}
}

// large makes a boot file system with the files of another one and 86 MiB more, by mtools.
func large(t *testing.T, boot []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	from, image, filler := dir+"/from", dir+"/image", dir+"/filler"
	const sectors = 97 << 20 / 512
	for path, size := range map[string]int64{image: sectors * 512, filler: 86 << 20} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(from, boot, 0o600), os.Mkdir(dir+"/files", 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mcopy", "-s", "-i", from, "::*", dir + "/files"},
		{"mformat", "-i", image, "-T", fmt.Sprint(sectors), "-h", "4", "-s", "32", "-c", "4", "-d", "1", "-R", "4", "::"},
		{"mcopy", "-s", "-i", image, dir + "/files/vmlinuz", dir + "/files/cmdline.txt", dir + "/files/config.txt", dir + "/files/loader", filler, "::"},
	} {
		if out, err := exec.Command(testenv.NeedTool(t, args[0]), args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args[0], err, out)
		}
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFirmwareOnce has the firmware try another kernel.
func TestFirmwareOnce(t *testing.T) {
	b := newBench(t, func(b *bench) {
		b.platform, b.once = bootdisk.Firmware, true
		b.disk(func(d *bootdisk.Disk) error { return d.Flash(bytes.NewReader(testdisk.File(t, "v1.fat"))) })
	})
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat"), testdisk.File(t, "v2.mbr")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.calls, " "); got != "restart once restart" { // the first one has failed
		t.Errorf("calls: %s", got)
	}
	list := func() string {
		out, err := exec.Command(testenv.NeedTool(t, "mdir"), "-/", "-b", "-i", b.place.Parts[1], "::").CombinedOutput()
		if err != nil {
			t.Fatalf("mdir: %v: %s", err, out)
		}
		return strings.ToLower(string(out))
	}
	for _, path := range []string{"::/tryboot.txt", "::/try/vmlinuz", "::/try/cmdline.txt"} {
		if all := list(); !strings.Contains(all, path+"\n") {
			t.Errorf("%s is not there:\n%s", path, all)
		}
	}
	b.start(b.mount(bootdisk.Slot2))
	if u := b.last(); u.Result != "reverted" {
		t.Errorf("history %+v", u)
	}
	if all := list(); strings.Contains(all, "::/try") {
		t.Errorf("it is still there:\n%s", all)
	}
}

// TestRevert tells why a trial ended.
func TestRevert(t *testing.T) {
	b := newBench(t)
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v1.fat"), testdisk.File(t, "v1.mbr")); err != nil {
		t.Fatal(err)
	}
	if err := trial.Write(filepath.Join(b.state, "update"), trial.OutcomeFile, trial.Outcome{Reason: "kernel: not attached"}); err != nil {
		t.Fatal(err)
	}
	var record trial.Trial
	if _, err := trial.Read(filepath.Join(b.state, "update"), trial.TrialFile, &record); err != nil {
		t.Fatal(err)
	}
	record.Armed = time.Now().Add(time.Hour) // this start knows no time yet
	if err := trial.Write(filepath.Join(b.state, "update"), trial.TrialFile, record); err != nil {
		t.Fatal(err)
	}
	b.start(b.mount(bootdisk.Slot2))
	if u := b.last(); u.Result != "reverted" || u.Reason != "kernel: not attached" || u.Time.Before(record.Armed) {
		t.Errorf("history %+v", u)
	}
	if p := strings.Join(b.m.Problems(), " "); !strings.Contains(p, "taken back: kernel: not attached") {
		t.Errorf("problems %q", p)
	}
	if code, text := b.request(http.MethodPost, "update/rollback", nil); code != http.StatusConflict || !strings.Contains(text, "was tried and taken back") {
		t.Errorf("rollback to it: %d %s", code, text)
	}
}

// TestRollback goes back to the version before, with its kernel, by a trial.
func TestRollback(t *testing.T) {
	b := newBench(t)
	if err := b.gok(testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat"), testdisk.File(t, "v2.mbr")); err != nil {
		t.Fatal(err)
	}
	target, _ := bootdisk.FindMarker(b.line)
	b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
	testdisk.Unmount(t, b.place.Parts[2])
	b.start(b.mount(bootdisk.Slot3))
	if code, text := b.request(http.MethodPost, "update/rollback", nil); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := b.request(http.MethodPost, "reboot", nil); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	<-b.left
	target, ok := bootdisk.FindMarker(b.line)
	if !ok || target.To != bootdisk.Slot2 || target.Boot == 0 || !bytes.Equal(b.kernel, testdisk.Kernel(t, "v1.fat")) {
		t.Errorf("command line %q", b.line)
	}
	b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
	testdisk.Unmount(t, b.place.Parts[3])
	b.start(b.mount(bootdisk.Slot2))
	if u := b.last(); u.Result != "committed" || u.To != "v1 (slot 2)" || u.Reason != "rollback" {
		t.Errorf("history %+v", u)
	}
	// A slot that was written over cannot be gone back to.
	if code, _ := b.request(http.MethodPut, "update/root", strings.NewReader("garbage")); code != 422 {
		t.Errorf("garbage: %d", code)
	}
	if code, text := b.request(http.MethodPost, "update/rollback", nil); code != http.StatusConflict || !strings.Contains(text, "no version to go back to") {
		t.Errorf("%d %s", code, text)
	}
}

// TestPassword lets nobody do anything without the password.
func TestPassword(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ method, path string }{
		{"PUT", "update/root"}, {"PUT", "update/boot"}, {"PUT", "update/mbr"}, {"POST", "update/switch"}, {"POST", "update/testboot"}, {"POST", "reboot"}, {"POST", "poweroff"},
		{"GET", "update/features"}, {"GET", "update/status"}, {"PUT", "uploadtemp/x"}, {"POST", "divert"}, {"PUT", "update/manifest"}, {"POST", "update/rollback"}, {"POST", "update/apply"},
	} {
		users := []string{""}
		if c.path == "update/root" { // a wrong password costs time
			users = append(users, "gokrazy:wrong@")
		}
		for _, user := range users {
			_, host, _ := strings.Cut(b.url, "@")
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+user+host+c.path, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s as %q: %s", c.method, c.path, user, resp.Status)
			}
		}
	}
	// A page of somebody else that a browser shows, which knows the password.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"reboot", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "http://evil.example")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusForbidden {
		t.Errorf("cross origin: %s", resp.Status)
	}
	if err := os.Remove(filepath.Join(b.state, "gokr-pw.txt")); err != nil {
		t.Fatal(err)
	}
	if code, text := b.request(http.MethodPut, "update/root", strings.NewReader("x")); code != http.StatusForbidden || !strings.Contains(text, "gokr-pw.txt") {
		t.Errorf("no password: %d %s", code, text)
	}
	if len(b.calls) != 0 || len(b.gokrazy) != 0 {
		t.Errorf("%q, %q", b.calls, b.gokrazy)
	}
	// Who has shown elsewhere that he may, as over the tailnet, needs none, even where there is none; that he came that way is
	// nothing that a request can say of itself.
	for name, ctx := range map[string]context.Context{"alice@example.org": update.WithAuthority(t.Context(), "alice@example.org"), "": t.Context()} {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/update/status", nil)
		req.Header.Set("X-Authorized", "alice@example.org")
		w := httptest.NewRecorder()
		b.m.Handler().ServeHTTP(w, req)
		if want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[name != ""]; w.Code != want {
			t.Errorf("as %q: %d %s, want %d", name, w.Code, w.Body, want)
		}
	}
}

// TestOwner shows by the password of the box, and by nothing else, that it is one's own.
func TestOwner(t *testing.T) {
	b := newBench(t)
	ask := func(password string) (ok, answered bool, code int, who string) {
		req := httptest.NewRequest(http.MethodGet, "/bundle", nil)
		if password != "" {
			req.SetBasicAuth("gokrazy", password)
		}
		w := httptest.NewRecorder()
		who, ok, answered = b.m.Owner(w, req)
		return ok, answered, w.Code, who
	}
	password, err := os.ReadFile(filepath.Join(b.state, "gokr-pw.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, answered, code, _ := ask(""); ok || !answered || code != http.StatusUnauthorized {
		t.Errorf("without a password: %v, answered %v, %d", ok, answered, code)
	}
	if ok, answered, code, who := ask(strings.TrimSpace(string(password))); !ok || answered || code != http.StatusOK || who != "gokrazy client from 192.0.2.1" {
		t.Errorf("with the password: %v, answered %v, %d, %s", ok, answered, code, who)
	}
	if ok, answered, code, _ := ask("wrong"); ok || !answered || code != http.StatusUnauthorized {
		t.Errorf("with a wrong password: %v, answered %v, %d", ok, answered, code)
	}
	if err := os.Remove(filepath.Join(b.state, "gokr-pw.txt")); err != nil {
		t.Fatal(err)
	}
	if ok, answered, _, _ := ask("wrong"); ok || answered {
		t.Errorf("a box without a password: %v, answered %v", ok, answered)
	}
}

// TestChangesAreInTheAuditLog: what somebody does with the password of the box is in the audit log, and what he tries in vain once a day; what
// comes over the tailnet is noted there.
func TestChangesAreInTheAuditLog(t *testing.T) {
	b := newBench(t)
	if code, text := b.request(http.MethodPut, "update/mbr", strings.NewReader("x")); code != http.StatusOK {
		t.Fatal(code, text)
	}
	for range 3 {
		if code, _ := b.request(http.MethodPost, "update/rollback", nil); code == http.StatusOK {
			t.Error("there is a version to go back to")
		}
	}
	if code, text := b.request(http.MethodPut, "uploadtemp/x", strings.NewReader("x")); code != http.StatusOK {
		t.Fatal(code, text)
	}
	for _, path := range []string{"uploadtemp/x", "divert"} { // a picture on some page, in a browser that knows the password
		if code, text := b.request(http.MethodGet, path, nil); code != http.StatusBadRequest {
			t.Error(code, text)
		}
	}
	req := httptest.NewRequestWithContext(update.WithAuthority(t.Context(), "alice@example.org"), http.MethodPut, "/update/mbr", strings.NewReader("x"))
	w := httptest.NewRecorder()
	if b.m.Handler().ServeHTTP(w, req); w.Code != http.StatusOK {
		t.Error(w.Code, w.Body)
	}
	if code, text := b.request(http.MethodPost, "reboot", nil); code != http.StatusOK {
		t.Fatal(code, text)
	}
	<-b.left
	all, err := b.store.Audit(10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		if a.Failed != strings.HasPrefix(a.Outcome, "failed: ") {
			t.Errorf("%+v", a)
		}
		got = append(got, a.Who+" "+a.What+" "+a.Outcome)
	}
	if want := []string{"gokrazy client from 127.0.0.1 update: POST /reboot done", "gokrazy client from 127.0.0.1 update: PUT /uploadtemp/x begun",
		"gokrazy client from 127.0.0.1 update: POST /update/rollback failed: there is no version to go back to: not a complete root file system: it is no squashfs", "gokrazy client from 127.0.0.1 update: PUT /update/mbr done"}; !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
}

// TestNotThrough makes sure that gokrazy's own switch, test boot and writes are never called.
func TestNotThrough(t *testing.T) {
	b := newBench(t)
	for path, method := range map[string]string{"update/switch": "POST", "update/testboot": "POST", "update/bootonly": "PUT", "update/device-specific/u-boot.bin": "PUT", "update/mbr": "PUT", "update/root": "PUT", "update/boot": "PUT"} {
		code, text := b.request(method, path, strings.NewReader("x"))
		if (code == http.StatusOK) != (path == "update/mbr") {
			t.Errorf("%s: %d %s", path, code, text)
		}
		if code, _ := b.request("GET", path, nil); code != http.StatusBadRequest && code != http.StatusForbidden {
			t.Errorf("GET %s: %d", path, code)
		}
	}
	if code, _ := b.request("PUT", "uploadtemp/x", strings.NewReader("program")); code != http.StatusOK {
		t.Errorf("uploadtemp: %d", code)
	}
	if len(b.gokrazy) != 1 || b.gokrazy[0] != "PUT /uploadtemp/x " {
		t.Errorf("%q", b.gokrazy)
	}
	if !bytes.Equal(begin(t, b.device, 512), testdisk.File(t, "gpt.head")[:512]) {
		t.Error("the master boot record was changed")
	}
}

// begin reads the beginning of a device.
func begin(t *testing.T, device string, n int) []byte {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func basic() string { return "Z29rcmF6eTpvcGVuIHNlc2FtZQ==" }
