package disk_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk"
	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/ext4"
	"kdht/appliance/disk/table"
	"kdht/bpf/testenv"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// A box is a disk as gokrazy leaves it, in a file.
type box struct {
	t    *testing.T
	file *os.File
	size int64 // of the disk
	perm int64 // size of partition 4
}

// newBox gives a disk of size bytes with a partition 4 that fills it, and a file system in that.
func newBox(t *testing.T, size int64) *box {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(disktest.ImageSize); err != nil {
		t.Fatal(err)
	}
	disktest.WriteGPT(t, f)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	g, err := table.Grow(f, size, 4)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, file: f, size: size, perm: g.To}
	b.format(g.To)
	return b
}

func (b *box) format(size int64) {
	b.t.Helper()
	err := ext4.Format(b.file, ext4.Options{Offset: disktest.PermStart, Size: size, UUID: [16]byte{1, 2, 3},
		Label: "perm", Time: time.Unix(1_700_000_000, 0)})
	if err != nil {
		b.t.Fatal(err)
	}
}

// damage overwrites n bytes of the partition.
func (b *box) damage(off, n int64, with byte) {
	b.t.Helper()
	if _, err := b.file.WriteAt(bytes.Repeat([]byte{with}, int(n)), disktest.PermStart+off); err != nil {
		b.t.Fatal(err)
	}
}

// partition gives the file system alone, for e2fsck and the like.
func (b *box) partition() string {
	return fmt.Sprintf("%s?offset=%d", b.file.Name(), int64(disktest.PermStart))
}

// tool runs a program of e2fsprogs on the partition.
func (b *box) tool(name string, args ...string) string {
	b.t.Helper()
	out, err := exec.Command(testenv.NeedTool(b.t, name), append(args, b.partition())...).CombinedOutput()
	if err != nil {
		b.t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// run attaches the disk, gives fn the place in a mount namespace of its own, and
// detaches it.
func (b *box) run(fn func(p disk.Place) error) {
	b.t.Helper()
	b.t.Run("attached", func(t *testing.T) {
		device := disktest.Loop(t, b.file.Name())
		disktest.Partition(t, device, disktest.PermStart, b.perm)
		dir := filepath.Join(t.TempDir(), "perm")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		disktest.OwnMounts(t, func() error {
			defer func() { _ = unix.Unmount(dir, 0) }() // the device is busy until then
			return fn(disk.Place{Disk: device, Partition: device + "p4", Number: 4, Mountpoint: dir})
		})
	})
}

// prepareInUse is what a boot does while somebody has a file of the mounted partition open.
func (b *box) prepareInUse() (r disk.Report) {
	b.t.Helper()
	b.run(func(p disk.Place) error {
		if err := p.Mount(); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(p.Mountpoint, "empty"))
		if err != nil {
			return err
		}
		defer f.Close()
		r, err = p.Prepare(b.t.Context(), slog.New(slog.NewTextHandler(b.t.Output(), nil)))
		return err
	})
	return r
}

// put mounts the partition as gokrazy's init does and writes the files of a node.
func (b *box) put() {
	b.t.Helper()
	b.run(func(p disk.Place) error {
		if err := p.Mount(); err != nil {
			return err
		}
		return writeFiles(p.Mountpoint)
	})
}

func nodeFiles() map[string][]byte {
	database := make([]byte, 20*mib)
	for n := range 1000 {
		database[n*20_000] = byte(n)
	}
	return map[string][]byte{
		"kdht/kdht.db": database, "kdht/kdht.hujson": []byte(`{"network": "private"}`),
		"kdht/identity": []byte("an identity"), "tailscale/state": bytes.Repeat([]byte("state"), 3000), "empty": nil,
	}
}

func writeFiles(root string) error {
	for name, b := range nodeFiles() {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(root, name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// missing lists the files of a node that are not below root as they were.
func missing(root string) (list []string) {
	for name, want := range nodeFiles() {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(got, want) {
			list = append(list, name)
		}
	}
	return list
}

// prepare calls Prepare as the box does, checks that the files are there, that a new
// file can be written, and gives the report. e2fsck has the last word.
func (b *box) prepare(mountFirst bool, lost ...string) (r disk.Report) {
	b.t.Helper()
	b.run(func(p disk.Place) error {
		if mountFirst {
			if err := p.Mount(); err != nil {
				return err
			}
		}
		var err error
		if r, err = p.Prepare(b.t.Context(), slog.New(slog.NewTextHandler(b.t.Output(), nil))); err != nil {
			return err
		}
		if got := missing(p.Mountpoint); fmt.Sprint(got) != fmt.Sprint(lost) {
			b.t.Errorf("files missing: %v, want %v", got, lost)
		}
		if err := os.WriteFile(filepath.Join(p.Mountpoint, "new"), []byte("new"), 0o600); err != nil {
			return err
		}
		if !r.Mounted || r.Kind != "ext4" || r.Device != p.Partition {
			b.t.Errorf("%+v", r)
		}
		return nil
	})
	b.tool("e2fsck", "-fn")
	return r
}

// without drops the sentence about growing, which needs a right that test machines may lack.
func without(r disk.Report) (list []string) {
	for _, s := range r.Sentences {
		if !strings.Contains(s, "grow: operation not permitted") && !strings.Contains(s, "grow the file system: operation not permitted") {
			list = append(list, s)
		}
	}
	return list
}

func hash(r io.Reader) [32]byte {
	h := sha256.New()
	_, _ = io.Copy(h, r)
	return [32]byte(h.Sum(nil))
}

func parse(s string) (n int64, err error) {
	_, err = fmt.Sscan(s, &n)
	return n, err
}
