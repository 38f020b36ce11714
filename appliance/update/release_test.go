package update_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"kdht/appliance/status"
	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
	"kdht/appliance/update/testdisk"
	"kdht/appliance/update/trial"
)

var releaseKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func publicKey() string { return hex.EncodeToString(releaseKey.Public().(ed25519.PublicKey)) }

// release makes a release folder of v2.
func release(t *testing.T, serial uint64, key ed25519.PrivateKey) (dir string, doc []byte) {
	t.Helper()
	return releaseWithFloor(t, serial, 0, key)
}

func releaseWithFloor(t *testing.T, serial, floor uint64, key ed25519.PrivateKey) (dir string, doc []byte) {
	t.Helper()
	dir = t.TempDir()
	image := manifest.Image{Instance: runtime.GOARCH, Arch: runtime.GOARCH}
	for f, name := range map[*manifest.File]string{&image.Root: "v2.squashfs", &image.Boot: "v2.fat", &image.MBR: "v2.mbr"} {
		b := testdisk.File(t, name)
		sum := sha256.Sum256(b)
		*f = manifest.File{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := manifest.Manifest{Product: manifest.Product, Version: fmt.Sprintf("v2.%d", serial), Serial: serial, Floor: floor, Images: []manifest.Image{image}}
	doc, err := manifest.Sign(&m, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifest.Name), doc, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, doc
}

// TestSigned refuses everything that no signed manifest describes, before any write.
func TestSigned(t *testing.T) {
	b := newBench(t, func(b *bench) { b.cfg.Update.Key = publicKey() })
	_, good := release(t, 5, releaseKey)
	_, foreign := release(t, 5, ed25519.NewKeyFromSeed(make([]byte, 32)))
	_, old := release(t, 1, releaseKey) // v1, which runs, has serial 1
	root := testdisk.File(t, "v2.squashfs")
	for _, c := range []struct {
		name, path string
		body       []byte
		code       int
		want       string
	}{
		{"plain gok", "update/root", root, 403, "signed releases only"},
		{"plain boot", "update/boot", testdisk.File(t, "v2.fat"), 403, "signed releases only"},
		{"plain mbr", "update/mbr", testdisk.File(t, "v2.mbr"), 403, "signed releases only"},
		{"foreign key", "update/manifest", foreign, 403, "not signed with the release key"},
		{"changed", "update/manifest", bytes.Replace(good, []byte("v2.5"), []byte("v2.6"), 1), 403, "wrong signature"},
		{"old", "update/manifest", old, 403, "not newer"},
		{"garbage", "update/manifest", []byte("garbage"), 422, "invalid manifest"},
		{"uploadtemp", "uploadtemp/x", []byte("program"), 403, "signed releases only"},
		{"root after all that", "update/root", root, 403, "signed releases only"},
	} {
		code, text := b.request(http.MethodPut, c.path, bytes.NewReader(c.body))
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", c.name, code, text)
		}
		if !bytes.Equal(begin(t, b.place.Parts[3], 1<<20), make([]byte, 1<<20)) {
			t.Fatalf("%s: something was written", c.name)
		}
	}
	if code, text := b.request(http.MethodPost, "update/switch", nil); code != http.StatusForbidden {
		t.Errorf("switch: %d %s", code, text)
	}
	if code, text := b.request(http.MethodPut, "update/manifest", bytes.NewReader(good)); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := b.request(http.MethodPut, "update/root", bytes.NewReader(testdisk.File(t, "v1.squashfs"))); code != 422 || !strings.Contains(text, "not the file that the manifest describes") {
		t.Errorf("another root: %d %s", code, text)
	}
	// It is in the slot, but no way leads to it.
	if code, text := b.request(http.MethodPost, "update/rollback", nil); code != http.StatusConflict || !strings.Contains(text, "nothing vouches for") {
		t.Errorf("rollback to another root: %d %s", code, text)
	}
	if !bytes.Equal(begin(t, b.place.Parts[3], 512), make([]byte, 512)) {
		t.Error("what was refused could be mounted")
	}
	// With the manifest first, the stock client's requests are taken.
	if code, text := b.request(http.MethodPut, "update/manifest", bytes.NewReader(good)); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if log, err := b.store.Audit(1); err != nil || len(log) != 1 || log[0].What != "update: PUT /update/manifest" || log[0].Outcome != "done" {
		t.Errorf("the audit log has %+v, %v", log, err)
	}
	if err := b.gok(root, testdisk.File(t, "v2.fat"), testdisk.File(t, "v2.mbr")); err != nil {
		t.Fatal(err)
	}
	if _, ok := bootdisk.FindMarker(b.line); !ok {
		t.Errorf("command line %q", b.line)
	}
}

// TestDowngrade takes an old release only for whoever names its version, and the history tells.
func TestDowngrade(t *testing.T) {
	b := newBench(t, func(b *bench) { b.cfg.Update.Key = publicKey() })
	_, old := release(t, 1, releaseKey) // v1, which runs, has serial 1
	for _, c := range []struct {
		query, want string
		code        int
	}{
		{"", "not newer", 403},
		{"?force=1", "not newer", 403},
		{"?downgrade=v1", `it is "v2.1", and not "v1"`, 409},
		{"?downgrade=v2.1", "", 200},
	} {
		if code, text := b.request(http.MethodPut, "update/manifest"+c.query, bytes.NewReader(old)); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", c.query, code, text)
		}
	}
	b.trialOfV2("v2")
	target, _ := bootdisk.FindMarker(b.line)
	b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
	b.start(b.mount(bootdisk.Slot3))
	if u := b.last(); u.Result != "committed" || u.Reason != "downgrade: serial 1 after 1" {
		t.Errorf("%+v", u)
	}
}

// TestFloor commits a release that forbids what is older: from then on it is taken neither by its name nor as the version before. Until
// it was committed, and from a manifest that nobody vouches for, a floor forbids nothing.
func TestFloor(t *testing.T) {
	for name, key := range map[string]string{"signed": publicKey(), "without a key": ""} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(b *bench) { b.cfg.Update.Key = key })
			announce := func(serial, floor uint64, query string) (int, string) {
				_, doc := releaseWithFloor(t, serial, floor, releaseKey)
				return b.request(http.MethodPut, "update/manifest"+query, bytes.NewReader(doc))
			}
			if code, text := announce(9, 5, ""); code != http.StatusOK {
				t.Fatalf("%d %s", code, text)
			}
			if code, text := announce(4, 0, ""); code != http.StatusOK { // the one before was not committed
				t.Fatalf("%d %s", code, text)
			}
			if code, text := announce(9, 5, ""); code != http.StatusOK {
				t.Fatalf("%d %s", code, text)
			}
			b.trialOfV2("v2")
			target, _ := bootdisk.FindMarker(b.line)
			b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
			for range 2 { // it is kept
				b.start(b.mount(bootdisk.Slot3))
			}
			back, text := b.request(http.MethodPost, "update/rollback", nil)
			if key == "" {
				if back != http.StatusOK {
					t.Errorf("rollback: %d %s", back, text)
				}
				if code, text := announce(4, 0, "?downgrade=v2.4"); code != http.StatusOK {
					t.Errorf("%d %s", code, text)
				}
				return
			}
			if back != http.StatusConflict || !strings.Contains(text, "has serial 1, and a release that this box has had forbids what is below 5") {
				t.Errorf("rollback: %d %s", back, text)
			}
			if code, text := announce(4, 0, "?downgrade=v2.4"); code != http.StatusForbidden || !strings.Contains(text, "too old") {
				t.Errorf("%d %s", code, text)
			}
			if code, text := announce(5, 0, "?downgrade=v2.5"); code != http.StatusOK {
				t.Errorf("at the floor: %d %s", code, text)
			}
		})
	}
}

// TestRollbackFails goes back to the version before a release, which does not come up: that says nothing about a release, and the next one
// that is offered is taken as ever.
func TestRollbackFails(t *testing.T) {
	dir, doc := release(t, 5, releaseKey)
	b := newBench(t, func(b *bench) { b.cfg.Update.Key, b.cfg.Update.URL = publicKey(), dir })
	if code, text := b.request(http.MethodPut, "update/manifest", bytes.NewReader(doc)); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	b.trialOfV2("v2")
	target, _ := bootdisk.FindMarker(b.line)
	b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
	b.start(b.mount(bootdisk.Slot3))
	for range 2 {
		for _, path := range []string{"update/rollback", "reboot"} {
			if code, text := b.request(http.MethodPost, path, nil); code != http.StatusOK {
				t.Fatalf("%s: %d %s", path, code, text)
			}
		}
		<-b.left
		b.start(b.mount(bootdisk.Slot3)) // it was not committed
		if u := b.last(); u.Result != "reverted" || u.Reason != "rollback; the machine restarted before a commit: a crash, or the power" {
			t.Errorf("%+v", u)
		}
	}
	newer, _ := release(t, 6, releaseKey)
	if err := os.Rename(filepath.Join(newer, manifest.Name), filepath.Join(dir, manifest.Name)); err != nil {
		t.Fatal(err)
	}
	if why := b.held(); why != "" {
		t.Errorf("the next one is not taken: %s", why)
	}
}

// flaky serves a folder, and breaks every connection after some bytes.
func flaky(dir string, each int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := filepath.Join(dir, filepath.Base(r.URL.Path))
		if filepath.Base(path) == manifest.Name {
			http.ServeFile(w, r, path)
			return
		}
		w.Header().Set("ETag", `"`+filepath.Base(path)+`"`)
		http.ServeFile(&breaking{ResponseWriter: w, left: each}, r, path)
	})
}

type breaking struct {
	http.ResponseWriter
	left int64
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

// TestPull takes a release by itself from a server that breaks connections, and tries it; not again after it was reverted twice without a word.
func TestPull(t *testing.T) {
	dir, _ := release(t, 5, releaseKey)
	server := httptest.NewServer(flaky(dir, 6<<20))
	defer server.Close()
	b := newBench(t, func(b *bench) {
		b.cfg.Update.Key, b.cfg.Update.URL = publicKey(), server.URL+"/kdht?token=told-to-nobody"
	})
	if v, err := b.m.Check(t.Context()); v != "v2.5" || err != nil {
		t.Fatalf("%q, %v", v, err)
	}
	if code, text := b.request(http.MethodPost, "update/check", nil); code != http.StatusOK || text != "v2.5\n" {
		t.Errorf("check: %d %q", code, text)
	}
	if code, text := b.request(http.MethodPost, "update/apply", nil); code != http.StatusAccepted {
		t.Fatalf("apply: %d %s", code, text)
	}
	if log, err := b.store.Audit(1); err != nil || len(log) != 1 || log[0].What != "update: POST /update/apply" || log[0].Outcome != "begun" {
		t.Errorf("the audit log has %+v, %v", log, err)
	}
	select {
	case <-b.left:
	case <-time.After(time.Minute):
		t.Fatalf("%+v", b.m.Status())
	}
	target, ok := bootdisk.FindMarker(b.line)
	if !ok || target.Boot == 0 || !bytes.Equal(b.kernel, testdisk.Kernel(t, "v2.fat")) {
		t.Errorf("command line %q", b.line)
	}
	b.start(b.mount(bootdisk.Slot2)) // it crashed, or the power went
	if u := b.last(); u.Result != "reverted" || u.To != "v2.5 (slot 3)" {
		t.Errorf("%+v", u)
	}
	if u := b.last(); !strings.HasSuffix(u.Reason, "that may have been the power, so it is tried once more") {
		t.Errorf("%+v", u)
	}
	if held := b.held(); held != "" {
		t.Errorf("held: %s", held)
	}
	if code, text := b.request(http.MethodPost, "update/apply", nil); code != http.StatusAccepted {
		t.Fatalf("apply: %d %s", code, text)
	}
	select {
	case <-b.left:
	case <-time.After(time.Minute):
		t.Fatalf("%+v", b.m.Status())
	}
	b.start(b.mount(bootdisk.Slot2))                                 // again
	if v, err := b.m.Check(t.Context()); v != "v2.5" || err != nil { // offered, for whoever insists
		t.Errorf("%q, %v", v, err)
	}
	if held := b.held(); held != "it did not prove well in a trial" || !strings.HasSuffix(b.last().Reason, "after 2 such trials it is not tried again by itself") {
		t.Errorf("held: %s, %+v", held, b.last())
	}
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.m.Check(t.Context()); err == nil || strings.Contains(err.Error(), "told-to-nobody") {
		t.Errorf("without a manifest: %v", err)
	}
	server.Close()
	if _, err := b.m.Check(t.Context()); err == nil || b.m.Status().CheckError == "" || strings.Contains(b.m.Status().CheckError, "told-to-nobody") {
		t.Errorf("%v, %+v", err, b.m.Status())
	}
}

// checkState checks that a version that loses /perm is not well, although it finds no record there either, and that one
// on a box which had none before, or a full one, is.
func checkState(t *testing.T, b *bench) {
	t.Helper()
	record := filepath.Join(b.state, "update", trial.TrialFile)
	kept, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	was, limit, ok := trial.FindBefore(b.line)
	if !ok || limit != trial.DefaultDeadline || !was.Kernel || was.Good == 0 || was.Memory || was.Failing {
		t.Errorf("before: %+v, of %q", was, b.line)
	}
	good, line := b.report, b.cmdline
	for _, c := range []struct {
		before  trial.Before
		memory  bool
		failure string
		aside   string
		store   bool
	}{
		{before: was, store: true},
		{before: was, memory: true},
		{before: was, aside: "kdht.db.damaged"},
		{before: was, failure: "no space left on device"},
		{before: trial.Before{Memory: true}, memory: true, store: true},
		{before: trial.Before{Failing: true}, failure: "no space left on device", store: true},
	} {
		b.cmdline = strings.ReplaceAll(line, word(was), word(c.before))
		b.memory, b.report.Store.Failure, b.report.Store.SetAside = c.memory, c.failure, c.aside
		b.start(b.mount(bootdisk.Slot3))
		for _, x := range b.m.Health().Checks {
			if x.Name == "store" && x.OK != c.store {
				t.Errorf("%+v: %+v", c, x)
			}
		}
	}
	b.report, b.cmdline, b.memory = good, line, false
	if err := os.WriteFile(record, kept, 0o600); err != nil {
		t.Fatal(err)
	}
}

// word is what the kernel's command line says of what was before.
func word(b trial.Before) string { return (&trial.Trial{Before: b}).Word() }

// held looks for a release, and gives why that is not pulled.
func (b *bench) held() string {
	b.t.Helper()
	if v, err := b.m.Check(b.t.Context()); v == "" || err != nil {
		b.t.Fatalf("%q, %v", v, err)
	}
	return b.m.Status().Held
}

// TestDuringTrial answers 409 to whatever would change something, and checks health against what was before.
func TestDuringTrial(t *testing.T) {
	b := newBench(t)
	b.trialOfV2("v1")
	target, _ := bootdisk.FindMarker(b.line)
	if s := b.m.Status(); !s.Trial || s.Version != "v2" {
		t.Fatalf("%+v", s)
	}
	for path, method := range map[string]string{
		"update/root": "PUT", "update/boot": "PUT", "update/mbr": "PUT", "update/manifest": "PUT", "update/switch": "POST", "update/testboot": "POST", "update/rollback": "POST", "update/apply": "POST",
		"uploadtemp/x": "PUT", "divert": "POST",
	} {
		if code, text := b.request(method, path, strings.NewReader("x")); code != http.StatusConflict || !strings.Contains(text, "on trial") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	good := b.report
	for name, change := range map[string]func(*status.Report){
		"":         func(*status.Report) {},
		"kernel":   func(r *status.Report) { r.XDP.Active, r.XDP.Reason = false, "no permission" },
		"answered": func(r *status.Report) { r.Families = []status.Family{{Good: 0}} },
		"store":    func(r *status.Report) { r.Store.Failure = "no space left on device" },
		"link":     func(*status.Report) { b.link = false },
		"address":  func(*status.Report) { b.address = false },
		"tailnet":  func(r *status.Report) { r.Tailnet = &status.Tailnet{State: "needs login"} },
		"tasks":    func(r *status.Report) { r.Tasks = []status.Task{{Name: "status page", Error: "address in use"}} },
	} {
		b.report, b.link, b.address = good, true, true
		change(&b.report)
		h := b.m.Health()
		for _, c := range h.Checks {
			if c.OK != (c.Name != name) {
				t.Errorf("without %s: %+v", strconv.Quote(name), c)
			}
		}
		if len(h.Checks) != len(trial.Required) {
			t.Errorf("%+v", h)
		}
	}
	b.report, b.link, b.address = good, true, true
	checkState(t, b)
	// The same start again, after the guard has committed.
	b.disk(func(d *bootdisk.Disk) error { return d.Commit(target) })
	b.start(b.mount(bootdisk.Slot3))
	if s := b.m.Status(); s.Trial || b.last().Result != "committed" {
		t.Errorf("%+v", s)
	}
}
