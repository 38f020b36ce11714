package boot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk/disktest"
	"kdht/appliance/status"
	"kdht/bpf/testenv"
	"kdht/image/pack"
	"kdht/image/vm"
	"kdht/router/krpc"
)

// metaPages is the size of those of a database in bytes, with which it begins.
const metaPages = 8 << 10

// TestPerm has /perm grow at the first boot, and then suffer: what can be mended, what cannot, a damaged store, no room. The
// box serves each time, and says what happened. Its first boot is with a configuration that has a mistake.
func TestPerm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size int64
		run  func(ctx context.Context, b *box)
	}{
		"2GiB":  {2 << 30, mended},
		"16GiB": {16 << 30, setAside},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.NeedTool(t, "e2fsck")
			ctx, cancel := context.WithTimeout(t.Context(), tooLong)
			defer cancel()
			test.run(ctx, newBox(t, vm.BIOS(), test.size))
		})
	}
}

// mended loses the superblock and the store, then runs out of room.
func mended(ctx context.Context, b *box) {
	b.card().put("kdht.hujson", "{\n\t// attic\n\t\"network\": \"privat\",\n}\n")
	r := b.on(ctx)
	b.says(ctx, `kdht\.hujson:3:13: network: "privat" is not one of`, `The persistent partition grew from \d+ MiB to \d{3,4} MiB`)
	if r.Network != "public" || r.Host.Name != "kdht-000001" || r.Store.Path != "/perm/kdht/kdht.db" {
		b.t.Errorf("network %q, name %q, store %s: want the defaults", r.Network, r.Host.Name, r.Store.Path)
	}
	b.keeps("before")
	b.off()

	b.perm(func(dir string) error {
		return errors.Join(b.fills(dir), overwrite(filepath.Join(dir, "kdht", "kdht.db"), 0, metaPages))
	})
	must(b.t, zero(b.disk, pack.PermOffset+1024, 1024))
	b.on(ctx)
	b.says(ctx, `The superblock was lost .* restored from the copy in block group`, `The database could not be used .* kept as /perm/kdht/kdht\.db\.damaged-`)
	if m := b.get(targetOf([]byte("before"))); m.V != nil {
		b.t.Errorf("%q is in the new store", m.V)
	}
	after := b.keeps("after")
	b.off()

	b.perm(func(dir string) error { return fill(filepath.Join(dir, "filler")) })
	b.on(ctx)
	b.holds(after, []byte("after"))
	b.refuses(ctx)
	b.says(ctx, `Nothing can be stored since .*no space left`)
	b.holds(after, []byte("after"))
}

// setAside loses the beginning of the file system, then runs out of room and loses the store at once.
func setAside(ctx context.Context, b *box) {
	b.on(ctx)
	b.says(ctx, `The persistent partition grew from \d+ MiB to 14 GiB`)
	b.keeps("before")
	b.off()

	b.perm(b.fills)
	must(b.t, garble(b.disk, pack.PermOffset, 8<<20))
	r := b.on(ctx)
	b.says(ctx, `The file system of the persistent partition is beyond repair .* set aside`)
	if r.Store.Path != "/perm/kdht/kdht.db" {
		b.t.Errorf("the store is %s", r.Store.Path)
	}
	b.keeps("after")
	b.off()

	b.perm(func(dir string) error {
		return errors.Join(b.fills(dir), overwrite(filepath.Join(dir, "kdht", "kdht.db"), 0, metaPages), fill(filepath.Join(dir, "filler")))
	})
	b.on(ctx)
	b.says(ctx, `cannot be used .* the damaged one being kept as /perm/kdht/kdht\.db\.damaged-.*no space left on device.*everything is kept in memory`)
	b.keeps("in memory")
}

// off cuts the power: what the box has not made durable is lost.
func (b *box) off() {
	b.t.Helper()
	must(b.t, b.PowerCut(vm.LoseAll()))
}

// says waits until the status page shows problems that match, and the console has shown them.
func (b *box) says(ctx context.Context, patterns ...string) {
	b.t.Helper()
	for _, p := range patterns {
		b.wait(ctx, func(r status.Report) bool { return slices.ContainsFunc(r.Problems, regexp.MustCompile(p).MatchString) })
		line, err := b.Console.Wait(ctx, "kdht: (.*"+p+".*)")
		must(b.t, err)
		b.t.Log(line[1])
	}
}

// card is the box's disk in another computer.
func (b *box) card() *card { return &card{t: b.t, path: filepath.Join(b.dir, "disk.img")} }

// perm mounts /perm on this machine, whose kernel replays the journal, and leaves a file system without errors.
func (b *box) perm(f func(dir string) error) {
	b.t.Helper()
	dir := b.t.TempDir()
	path := b.card().path
	must(b.t, mounted(b.t, path, pack.PermOffset, dir, f))
	if out, err := exec.Command("e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", path, int64(pack.PermOffset))).CombinedOutput(); err != nil {
		b.t.Errorf("%v\n%s", err, out)
	}
}

// fills checks that a mounted /perm has the rest of the disk.
func (b *box) fills(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	have, want := int64(st.Blocks)*st.Bsize, (b.disk.Size()-pack.PermOffset)*95/100 // the rest is metadata
	if have < want {
		b.t.Errorf("/perm has %d MiB, want %d", have>>20, want>>20)
	}
	return nil
}

// keeps has the box store an item, and checks that it has it.
func (b *box) keeps(value string) (target string) {
	b.t.Helper()
	target = b.put([]byte(value))
	b.holds(target, []byte(value))
	return target
}

// refuses stores items until one is refused.
func (b *box) refuses(ctx context.Context) {
	b.t.Helper()
	for n := 0; ; n++ {
		must(b.t, ctx.Err())
		if m := b.tryPut(fmt.Appendf(nil, "%0990d", n)); m.Type == krpc.TypeError {
			b.t.Logf("put %d: %d %s", n, m.Err.Code, m.Err.Text)
			return
		}
	}
}

// errNotMounted says that the kernel of this machine does not mount a file system as it is.
var errNotMounted = errors.New("cannot be mounted")

// mounted mounts the file system at an offset of a file for f alone: f must not leave what uses it to other goroutines.
func mounted(t *testing.T, file string, offset int64, dir string, f func(dir string) error) (err error) {
	t.Helper()
	disktest.OwnMounts(t, func() error {
		out, errMount := exec.Command("mount", "-t", "ext4", "-o", fmt.Sprintf("loop,offset=%d", offset), file, dir).CombinedOutput()
		if errMount != nil {
			err = fmt.Errorf("%s %w: %w: %s", file, errNotMounted, errMount, out)
			return nil
		}
		err = errors.Join(f(dir), unix.Unmount(dir, 0))
		return nil
	})
	return err
}

// fill takes all the room that there is in a file system, for a file.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	at := int64(0)
	for step := int64(1 << 30); step >= 4<<10; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, step); err {
		case nil:
			at += step
		case unix.ENOSPC:
			step /= 2
		default:
			return err
		}
	}
	return f.Sync()
}

type writerAt interface {
	WriteAt(p []byte, off int64) (int, error)
}

// zero and garble overwrite size bytes, with zeros or with what looks like chance.
func zero(w writerAt, at, size int64) error {
	_, err := w.WriteAt(make([]byte, size), at)
	return err
}

func garble(w writerAt, at, size int64) error {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // it never fails
	_, err := w.WriteAt(b, at)
	return err
}

// overwrite garbles a part of a file.
func overwrite(path string, at, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := garble(f, at, size); err != nil {
		return err
	}
	return f.Sync()
}
