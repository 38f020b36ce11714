package boot

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"kdht/appliance/update"
	"kdht/appliance/update/bootdisk"
	"kdht/image/fat"
	"kdht/image/pack"
	"kdht/image/vm"
	"kdht/router/krpc"
	"kdht/store"
)

// cuts is how many power cuts testCuts replays; `make soak-image` sets it.
func cuts(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("KDHT_CUTS"), "60"))
	must(t, err)
	return n
}

// testCuts cuts the power of a box at points of an upload, of the trial's boot, and of the commit. A few cuts are made
// on the running machine, which then boots. Most are replayed: the commands that an update gave to the disk were recorded,
// and from them the disk is made that a cut at any of them would have left, with a part of what was not flushed; it is
// checked without booting whether a BIOS would find one of the two versions whole, and /perm its file system and the item.
// What leaves a /perm that this machine's kernel does not mount is booted: the box must mend it. When there are many, some of the
// others are booted, too.
func testCuts(ctx context.Context, t *testing.T) {
	u := newUpdated(ctx, t, `"trial": "4m"`)
	r := releaseOf(t, image(t, "amd64"))
	r.boot = otherKernel(t, r.boot)

	rec, err := u.disk.Record(filepath.Join(u.dir, "recording.img"))
	must(t, err)
	t.Cleanup(func() { must(t, rec.Close()) })
	u.send(ctx, r)
	lines := u.restart(ctx)
	u.says(ctx, lines, "slot 3 is on trial")
	trial := len(rec.Commands())
	u.runs(ctx, bootdisk.Slot3)
	u.disk.StopRecording()

	t.Run("replayed", func(t *testing.T) { u.replay(ctx, t, rec, trial, r, cuts(t)) })
	u.cutRunning(ctx, r)
}

// cutRunning cuts the power of the running box, which goes on with the version that it has.
func (u *updated) cutRunning(ctx context.Context, r release) {
	slot := u.status(ctx, "the slot", func(s update.Status) bool { return true }).Slot
	again := func(what string, loss vm.Loss) {
		u.t.Helper()
		must(u.t, u.PowerCut(loss))
		u.on(ctx)
		u.runs(ctx, slot)
		u.t.Logf("cut %s", what)
	}
	atWrite := func(n int, from, to int64) func(vm.Write) bool {
		return func(w vm.Write) bool {
			if !w.Flush && w.Offset >= from && w.Offset < to {
				n--
			}
			return n < 0
		}
	}
	for _, n := range []int{1, 20} {
		u.disk.CutAt(atWrite(n, pack.RootOffset, pack.PermOffset))
		_, _, err := u.do(u.whilePowered(ctx), http.MethodPut, "/update/root", bytes.NewReader(r.root))
		if err == nil {
			u.t.Fatal("the upload did not end with the power")
		}
		u.cut(ctx)
		again(fmt.Sprintf("at write %d of the upload", n), vm.LoseSome(uint64(n)))
	}
	root := release{root: r.root} // the kernel is there already

	u.send(ctx, root)
	u.says(ctx, u.restart(ctx), "is on trial")
	again("during the trial", vm.LoseSome(3))

	u.send(ctx, root)
	u.says(ctx, u.restart(ctx), "is on trial")
	u.disk.CutAt(atWrite(0, 0, pack.RootOffset))
	u.cut(ctx)
	again("at the first write of the commit", vm.LoseAll())
}

// whilePowered is a context that ends when the disk cuts the power: nobody is left then to say that a connection is gone.
func (u *updated) whilePowered(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cut := u.disk.Cut()
	go func() {
		defer cancel()
		select {
		case <-cut:
		case <-ctx.Done():
		}
	}()
	return ctx
}

// cut waits until the disk has cut the power.
func (u *updated) cut(ctx context.Context) {
	u.t.Helper()
	select {
	case <-u.disk.Cut():
	case <-ctx.Done():
		u.t.Fatalf("the command at which to cut the power has not come: %v", ctx.Err())
	}
}

// replay checks what n cuts of a recorded update would have left: half of them from the beginning of the commit on.
func (u *updated) replay(ctx context.Context, t *testing.T, rec *vm.Recording, trial int, r release, n int) {
	commands := rec.Commands()
	commit := slices.IndexFunc(commands[trial:], func(w vm.Write) bool { return !w.Flush && w.Offset < pack.RootOffset })
	if commit < 0 {
		t.Fatal("the recording has no commit")
	}
	commit += trial
	committed := len(commands)
	for i, w := range slices.Backward(commands) {
		if w.Flush {
			committed = i
		} else if w.Offset < pack.RootOffset {
			break
		}
	}
	random := rand.New(rand.NewPCG(1, uint64(n)))
	var points []int
	for i := range n / 2 {
		points = append(points, commit+i%(len(commands)-commit))
	}
	for len(points) < n {
		points = append(points, random.IntN(commit))
	}
	path := filepath.Join(u.dir, "replay.img")
	at, booted, mended := make(map[bootdisk.Slot]int), 0, 0
	for i, point := range points {
		must(t, ctx.Err())
		loss := vm.LoseAll()
		if i%4 != 0 {
			loss = vm.LoseSome(uint64(i))
		}
		must(t, rec.Cut(point, loss, path))
		slot, err := u.intact(t, path, r)
		torn := errors.Is(err, errNotMounted)
		if torn {
			t.Logf("cut %d of %d, at command %d: %v", i, n, point, err)
			err = nil
			mended++
		}
		if err == nil && slot == bootdisk.Slot3 && point < commit {
			err = errors.New("it boots what is not committed")
		}
		if err == nil && slot == bootdisk.Slot2 && point > committed {
			err = errors.New("it does not boot what is committed")
		}
		if err != nil {
			t.Errorf("cut %d of %d, at command %d of %d (the commit is %d to %d), %+v: %v", i, n, point, len(commands), commit, committed, commands[point], err)
			continue
		}
		at[slot]++
		if torn || n > 100 && i%25 == 0 {
			u.bootReplay(ctx, t, path, slot)
			booted++
		}
	}
	if booted > 0 {
		u.on(ctx)
	}
	t.Logf("%d commands, the commit is %d to %d; %d cuts, %d booted, %d of them to be mended: the old version %d times, the new one %d times", len(commands), commit, committed, n, booted, mended, at[bootdisk.Slot2], at[bootdisk.Slot3])
	if at[bootdisk.Slot2] == 0 || at[bootdisk.Slot3] == 0 {
		t.Error("the cuts were not on both sides of the commit")
	}
}

// intact checks a disk: what a BIOS would boot from it is one of the two versions, as a whole, and the item is there. It
// returns the slot.
func (u *updated) intact(t *testing.T, path string, r release) (bootdisk.Slot, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	d := diskOf(f, bootdisk.BIOS)
	s, err := d.Selected()
	if err != nil {
		return 0, err
	}
	kernel, err := d.Kernel(s.Boot)
	if errors.Is(err, bootdisk.ErrNoCard) { // as it was flashed
		kernel, err = d.Kernel(0)
	}
	if err != nil {
		return s.Slot, err
	}
	content, err := io.ReadAll(kernel)
	if err != nil {
		return s.Slot, err
	}
	files, err := fat.FS(r.boot).Files()
	if err != nil {
		return s.Slot, err
	}
	want := files["vmlinuz"]
	if s.Slot == bootdisk.Slot2 {
		want = mark(want)
	}
	if !bytes.Equal(content, want) {
		return s.Slot, fmt.Errorf("slot %d would be started with a kernel of %x", s.Slot, sha256.Sum256(content))
	}
	root := make([]byte, len(r.root))
	if _, err := f.ReadAt(root, pack.RootOffset+int64(s.Slot-bootdisk.Slot2)*pack.RootSize); err != nil {
		return s.Slot, err
	}
	if !bytes.Equal(root, r.root) {
		return s.Slot, fmt.Errorf("the root file system of slot %d is damaged", s.Slot)
	}
	return s.Slot, u.permIntact(t, path)
}

// permIntact mounts /perm, which replays its journal as the box would, checks it, and looks for the item.
//
// Nobody else may get the mount: tests beside this one start processes with mount namespaces of their own, and a copy of the mount in one
// of them keeps the file system in use after it was unmounted here. Its last user would then write it over the next cut.
func (u *updated) permIntact(t *testing.T, path string) error {
	dir, db := filepath.Join(u.dir, "perm"), filepath.Join(u.dir, "replay.db")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := mounted(t, path, pack.PermOffset, dir, func(dir string) error { return copyFile(db, filepath.Join(dir, "kdht", "kdht.db")) }); err != nil {
		return err
	}
	return u.holdsItem(db)
}

// copyFile makes dst a copy of src, which must be there.
func copyFile(dst, src string) error {
	b, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, b, 0o600)
}

// holdsItem opens a store, which must be sound, and looks for the item.
func (u *updated) holdsItem(path string) error {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	if aside, why := s.SetAside(); aside != "" {
		return errors.Join(fmt.Errorf("the store is set aside: %s", why), s.Close())
	}
	id, err := krpc.ParseID(u.item)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	item, err := s.Item(id)
	if err == nil && !bytes.Equal(item.V, bencode(u.value)) {
		err = fmt.Errorf("the item is %q", item.V)
	}
	return errors.Join(err, s.Check(), s.Close())
}

// bootReplay boots from a disk that was made of a recording: the box must run the version of the slot, know how the update ended if it
// began, and have lost nothing. After it, nothing runs.
func (u *updated) bootReplay(ctx context.Context, t *testing.T, path string, slot bootdisk.Slot) {
	must(t, u.PowerCut(vm.LoseAll()))
	disk, err := vm.OpenDisk(path)
	must(t, err)
	mine := u.disk
	u.disk = disk
	u.on(ctx)
	s := u.runs(ctx, slot)
	if slot == bootdisk.Slot3 {
		u.ended(s, "committed", "")
	} else if len(s.History) > 0 {
		u.ended(s, "reverted", "")
	}
	must(t, u.PowerCut(vm.LoseAll()))
	must(t, disk.Close())
	u.disk = mine
}
