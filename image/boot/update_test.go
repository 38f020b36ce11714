package boot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"kdht/appliance/update"
	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
	"kdht/image/pack"
	"kdht/image/vm"
)

// TestUpdate updates boxes: with the stock gok, with what must be refused, with what is no good, and through power cuts.
func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(context.Context, *testing.T)
	}{{"cuts", testCuts}, {"firmware", testFirmware}, {"program", testBadProgram}, {"machine", testBadMachine}, {"signed", testSigned}, {"gok", testGok}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if end, ok := t.Deadline(); ok { // before all is killed, the machines with it
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, end.Add(-20*time.Second))
				defer cancel()
			}
			c.test(ctx, t)
		})
	}
}

// testGok updates an arm64 machine with UEFI, which runs from another kernel than that of the update, with the stock gok, whose output
// does not tell the password, and cuts the power: what was committed stays, with its kernel. Then it goes back, to the kernel of before. At last an update is
// no good.
func testGok(ctx context.Context, t *testing.T) {
	b := newBox(t, vm.ARM64(), 2<<30)
	otherKernelOn(t, b.disk)
	u := newUpdatedBox(ctx, b, `"trial": "4m"`)
	u.runsKernel(ctx, 0, otherMaker)
	before := u.runs(ctx, bootdisk.Slot2)
	src, err := pack.OpenSource(ctx, ".")
	must(t, err)
	n := u.Console.Len()
	var said bytes.Buffer
	must(t, pack.Update(ctx, src, "arm64", u.forward(), updatePassword, pack.Options{Version: "v2"}, io.MultiWriter(logFile(t, "gok"), &said)))
	for _, secret := range []string{updatePassword, url.PathEscape(updatePassword), url.QueryEscape(updatePassword)} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("gok's output tells the password:\n%s", &said)
		}
	}
	u.runsKernel(ctx, n, maker)
	u.says(ctx, n, "slot 3 is on trial")
	u.refuses(ctx, http.MethodPut, "/update/root", []byte("another one"), http.StatusConflict, "on trial")
	s := u.runs(ctx, bootdisk.Slot3)
	u.ended(s, "committed", "")
	if s.Version != "v2" || before.Version == "v2" {
		t.Errorf("version %q after the update, %q before", s.Version, before.Version)
	}
	must(t, u.PowerCut(vm.LoseAll()))
	u.on(ctx)
	if s := u.runs(ctx, bootdisk.Slot3); s.Version != "v2" {
		t.Errorf("version %q after the power cut", s.Version)
	}
	u.runsKernel(ctx, 0, maker)

	u.must(ctx, http.MethodPost, "/update/rollback", nil)
	n = u.restart(ctx)
	if s := u.runs(ctx, bootdisk.Slot2); s.Version != before.Version {
		t.Errorf("version %q after going back, %q at first", s.Version, before.Version)
	}
	u.runsKernel(ctx, n, otherMaker)

	u.send(ctx, release{root: file(t, image(t, "arm64").Root)})
	_, err = u.disk.WriteAt(noise(1<<20), pack.RootOffset+pack.RootSize) // after all checks
	must(t, err)
	u.takesBack(ctx, "a root file system that has become garbage", "Kernel panic", "a crash, or the power")
}

// otherKernelOn gives a new disk another kernel.
func otherKernelOn(t *testing.T, disk *vm.Disk) {
	t.Helper()
	boot := make([]byte, 96<<20) // its kernel is at the beginning
	_, err := disk.ReadAt(boot, pack.BootOffset)
	must(t, err)
	_, err = disk.WriteAt(bytes.ReplaceAll(boot, []byte(maker), []byte(otherMaker)), pack.BootOffset)
	must(t, err)
}

// runsKernel waits until a kernel has started behind the first n lines of the console, and checks who made it.
func (u *updated) runsKernel(ctx context.Context, n int, by string) {
	u.t.Helper()
	line, err := u.Console.WaitAfter(ctx, n, `Linux version \S+ \((\S+)\)`)
	must(u.t, err)
	if line[1] != by {
		u.t.Errorf("the kernel is %q, want one by %s", line[0], by)
	}
}

// testFirmware updates a machine of which the firmware alone starts kernels, as the Raspberry Pi's does; here it is played by
// package vm. The first trial is by the flag of gokrazy's init, the next one of another kernel, which the firmware is asked
// to start once, the last of a slot in which init finds no file system: after that the kernel of the same release would stay.
func testFirmware(ctx context.Context, t *testing.T) {
	b := newBox(t, vm.Pi(), 2<<30)
	b.stayOff = true // so that the firmware reads the disk anew
	u := newUpdatedBox(ctx, b, `"trial": "4m"`)
	r := releaseOf(t, image(t, "rpi"))

	u.send(ctx, release{root: r.root})
	u.leaves(ctx)
	u.says(ctx, 0, "switching to inactive root partition")
	u.says(ctx, 0, "slot 3 is on trial")
	must(t, u.Wait(ctx)) // the old root file system is in use until it restarts
	u.on(ctx)
	u.ended(u.runs(ctx, bootdisk.Slot3), "committed", "")

	u.runsKernel(ctx, 0, maker)
	r.boot = otherKernel(t, r.boot)
	u.send(ctx, r)
	u.leaves(ctx)
	u.runsKernel(ctx, 0, otherMaker)
	u.says(ctx, 0, "slot 2 is on trial")
	u.ended(u.runs(ctx, bootdisk.Slot2), "committed", "")
	must(t, u.PowerCut(vm.LoseAll()))
	u.on(ctx)
	u.runs(ctx, bootdisk.Slot2)
	u.runsKernel(ctx, 0, otherMaker)

	u.send(ctx, release{root: r.root})
	_, err := u.disk.WriteAt(noise(1<<20), pack.RootOffset+pack.RootSize) // after all checks
	must(t, err)
	u.leaves(ctx)
	u.says(ctx, 0, "mount inactive root")
	u.ended(u.runs(ctx, bootdisk.Slot2), "reverted", "a crash, or the power")
}

// leaves has a box restart that stays off when it does, and switches it on again.
func (u *updated) leaves(ctx context.Context) {
	u.t.Helper()
	u.must(ctx, http.MethodPost, "/reboot", nil)
	must(u.t, u.Wait(ctx))
	u.on(ctx)
}

// testSigned sends to a box with a release key what is not signed as it should be, what must not even be tried, and what is
// signed and no good; and it takes a release that is good from where it lies, and goes back.
func testSigned(ctx context.Context, t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	_, other, err := ed25519.GenerateKey(nil)
	must(t, err)
	u := newUpdatedBox(ctx, newBox(t, vm.BIOS(), 2<<30).spoils("xdp"), `"trial": "2m", "key": "`+hex.EncodeToString(public)+`", `+pulling())
	good := releaseOf(t, image(t, "amd64"))
	serial := u.runs(ctx, bootdisk.Slot2).Serial + 1

	u.disk.CutAt(func(w vm.Write) bool { // nothing is cut: it watches
		if w.Offset >= pack.RootOffset && w.Offset < pack.PermOffset || !w.Flush && w.Offset < pack.RootOffset {
			t.Errorf("a write of %d bytes at %d", w.Length, w.Offset)
		}
		return false
	})
	u.refuses(ctx, http.MethodPut, "/update/root", good.root[:4096], http.StatusForbidden, "signed")
	u.refuses(ctx, http.MethodPut, "/update/manifest", sign(t, good, serial, other), http.StatusForbidden, "sign")
	forged := bytes.Replace(sign(t, good, serial, private), []byte(`"amd64"`), []byte(`"arm64"`), 1)
	u.refuses(ctx, http.MethodPut, "/update/manifest", forged, http.StatusForbidden, "wrong signature")
	u.refuses(ctx, http.MethodPut, "/update/root", good.root[:4096], http.StatusForbidden, "signed")
	u.disk.CutAt(nil)
	u.ended(u.runs(ctx, bootdisk.Slot2), "refused", "signed")

	for name, c := range map[string]struct {
		root func() []byte
		code int
		says string
	}{
		"garbage":            {func() []byte { return noise(len(good.root)) }, http.StatusUnprocessableEntity, "no squashfs"},
		"truncated":          {func() []byte { return good.root[:len(good.root)/2] }, http.StatusUnprocessableEntity, "complete"},
		"wrong architecture": {func() []byte { return file(t, image(t, "arm64").Root) }, http.StatusUnprocessableEntity, "EM_AARCH64"},
	} {
		bad := release{c.root(), good.boot, good.mbr}
		serial++
		u.must(ctx, http.MethodPut, "/update/manifest", sign(t, bad, serial, private))
		u.refuses(ctx, http.MethodPut, "/update/root", bad.root, c.code, c.says)
		u.refuses(ctx, http.MethodPost, "/update/switch", nil, http.StatusForbidden, "")
		t.Logf("%s: refused", name)
	}
	serial++
	u.must(ctx, http.MethodPut, "/update/manifest", sign(t, good, serial, private))
	u.refuses(ctx, http.MethodPut, "/update/root", good.root[:len(good.root)-1], http.StatusUnprocessableEntity, "manifest")
	serial++
	u.must(ctx, http.MethodPut, "/update/manifest", sign(t, good, serial, private))
	if _, _, err := u.do(ctx, http.MethodPut, "/update/root", io.MultiReader(bytes.NewReader(good.root[:len(good.root)/2]), iotest.ErrReader(errUpload))); err == nil {
		t.Error("an upload that breaks off is answered")
	}
	u.status(ctx, "the end of the upload", func(s update.Status) bool {
		last := s.History[len(s.History)-1]
		return last.Result == "refused" && strings.Contains(last.Reason, "broke off")
	})
	u.runs(ctx, bootdisk.Slot2)

	serial++
	u.publish(sign(t, good, serial, private), image(t, "amd64"))
	u.pulls(ctx)

	// One that is signed, and has no kernel half where there was one before.
	r := spoilt(t)
	serial++
	u.must(ctx, http.MethodPut, "/update/manifest", sign(t, r, serial, private))
	u.send(ctx, r)
	u.takesBack(ctx, "xdp", "spoiler: xdp", "kernel half is not attached")
}

var errUpload = errors.New("the cable is out")

// testBadProgram has the program of the update fail.
func testBadProgram(ctx context.Context, t *testing.T) {
	ways := []string{"crash", "hang", "port"}
	u := newUpdatedBox(ctx, newBox(t, vm.BIOS(), 2<<30).spoils(ways...), `"trial": "1m"`)
	for _, way := range ways {
		reason := "does not run"
		if way == "port" {
			reason = ""
		}
		u.send(ctx, release{root: spoilt(t).root})
		u.takesBack(ctx, way, "spoiler: "+way, reason)
	}
}

// testBadMachine has the update fail before its program runs, or without /perm.
func testBadMachine(ctx context.Context, t *testing.T) {
	u := newUpdatedBox(ctx, newBox(t, vm.BIOS().Watched(), 2<<30), `"trial": "1m"`)
	u.says(ctx, 0, "found hardware watchdog") // it ends what hangs, and no other box has one: a busy host must not be taken for that
	good := releaseOf(t, image(t, "amd64"))
	const silent = "a crash, or the power"

	u.send(ctx, release{good.root, brokenKernel(t, good.boot, illegal), good.mbr})
	u.takesBack(ctx, "a kernel that resets the machine", "", silent)

	u.send(ctx, release{good.root, brokenKernel(t, good.boot, forever), good.mbr})
	u.takesBack(ctx, "a kernel that hangs", "", silent)

	u.send(ctx, release{root: good.root})
	_, err := u.disk.WriteAt(noise(1<<20), pack.RootOffset+pack.RootSize) // after all checks
	must(t, err)
	u.takesBack(ctx, "a root file system that has become garbage", "Kernel panic", silent)

	u.testNoPerm(ctx, release{root: good.root})
}

// testNoPerm tears the superblock of /perm between its sectors when a trial begins, as a power cut may: no kernel mounts that. The
// new version does not mend what belongs to the old one, and is taken back for it; the old one does, and has lost nothing.
func (u *updated) testNoPerm(ctx context.Context, r release) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, tooLong)
	defer cancel()
	flashed := make([]byte, 512) // the second sector, as it was before /perm grew
	img, err := os.Open(image(u.t, "amd64").Path)
	must(u.t, err)
	defer img.Close()
	_, err = img.ReadAt(flashed, pack.PermOffset+1536)
	must(u.t, err)

	u.send(ctx, r)
	n := u.Console.Len()
	u.must(ctx, http.MethodPost, "/reboot", nil)
	u.says(ctx, n, "Starting new kernel")
	_, err = u.disk.WriteAt(flashed, pack.PermOffset+1536)
	must(u.t, err)
	u.says(ctx, n, "slot 3 is on trial: .* within \\d+s")
	u.says(ctx, n, "not well: .*store: the state is in memory, and was not before")
	u.says(ctx, n, "the time is up, going back: .*store: the state is in memory")
	u.says(ctx, n, "The superblock was lost .*wrong checksum.* restored from the copy in block group 1")
	u.ended(u.runs(ctx, bootdisk.Slot2), "reverted", "a crash, or the power") // a guard without /perm cannot write why
	u.t.Log("a trial without /perm: taken back, and /perm mended")
}

// takesBack restarts the box for a trial that is no good, which says something on the console, and waits until the version
// before runs and has written the reason to the history.
func (u *updated) takesBack(ctx context.Context, what, says, reason string) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, tooLong)
	defer cancel()
	start, n := time.Now(), u.Console.Len()
	u.must(ctx, http.MethodPost, "/reboot", nil)
	u.says(ctx, n, "Starting new kernel")
	if says != "" {
		u.says(ctx, n, says)
	}
	u.says(ctx, n, "kdht: addresses") // of the version before, or of one that then is not well
	u.ended(u.runs(ctx, bootdisk.Slot2), "reverted", reason)
	u.t.Logf("%s: taken back %.0f s after the restart", what, time.Since(start).Seconds())
}

// release1 is what signed releases are called.
const release1 = "v1.0.0"

// sign makes the signed manifest of a release.
func sign(t *testing.T, r release, serial uint64, key ed25519.PrivateKey) []byte {
	t.Helper()
	describe := func(name string, b []byte) manifest.File {
		sum := sha256.Sum256(b)
		return manifest.File{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
	}
	doc, err := manifest.Sign(&manifest.Manifest{
		Product: manifest.Product, Version: release1, Serial: serial, Created: time.Unix(1700000000, 0),
		Images: []manifest.Image{{
			Instance: "amd64", Arch: "amd64", Kernel: "v0", Root: describe("root", r.root), Boot: describe("boot", r.boot), MBR: describe("mbr", r.mbr),
		}},
	}, key)
	must(t, err)
	return doc
}

// noise is n bytes by chance, the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // it does not fail
	return b
}
