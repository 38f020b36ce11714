package box_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/box"
	"kdht/appliance/disk/disktest"
	"kdht/bpf/testenv"
	"kdht/config"
	"kdht/store"
)

// cutDir tells a process of these tests to boot the appliance in a directory.
const cutDir = "KDHT_BOX_CUT_DIR"

// bootThere boots and says on standard output when it begins and when it is done.
func bootThere(dir string) {
	fmt.Println("begin")
	box.Boot(context.Background(), cutLayout(dir), slog.New(slog.DiscardHandler))
	fmt.Println("done")
	select {}
}

// cutLayout is an appliance with its partitions mounted in a directory.
func cutLayout(dir string) box.Layout {
	return box.Layout{
		Perm:    filepath.Join(dir, "perm"),
		Memory:  filepath.Join(dir, "memory"),
		Boot:    &folder{dir: filepath.Join(dir, "boot")},
		NICs:    filepath.Join(dir, "net"),
		Console: filepath.Join(dir, "kmsg"),
	}
}

// TestPowerCuts cuts the power while everything at once is asked for on the boot partition: a factory reset, and a
// configuration and a key for afterwards. What the disk has by then is what was synced; the next start must make of it
// what the first one would have.
//
// A process that is killed is a machine without power if nothing of what it wrote but did not sync is seen afterwards:
// the partitions are on loop devices, and what is looked at is a copy of the files behind them.
func TestPowerCuts(t *testing.T) {
	testenv.NeedRoot(t)
	mkfs := testenv.NeedTool(t, "mkfs.ext4")
	dir := t.TempDir()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	const cuts = 30
	disktest.OwnMounts(t, func() error {
		m := &cutMachine{t: t, dir: dir, mkfs: mkfs}
		if err := m.prepare(); err != nil {
			return err
		}
		whole := time.Hour // how long it takes without a cut and without much else going on
		for range 3 {
			ran, err := m.run(-1)
			if err != nil {
				return err
			}
			whole = min(whole, ran)
		}
		early := 0
		for i := range cuts {
			after := time.Duration(random.Int64N(int64(whole)))
			if _, err := m.run(after); err != nil {
				return fmt.Errorf("seed %d, cut %d, %v of %v after the start: %w", seed, i, after, whole, err)
			}
			early += m.left
		}
		t.Logf("%d cuts within %v; after %d of them the next start found files to take", cuts, whole, early)
		if early == 0 {
			t.Error("every cut came too late to interrupt anything")
		}
		return nil
	})
}

// cutMachine is a machine whose power can be cut.
type cutMachine struct {
	t         *testing.T
	dir, mkfs string
	left      int // 1 if the next start had something to do
	id        [20]byte
}

func (m *cutMachine) path(names ...string) string {
	return filepath.Join(append([]string{m.dir}, names...)...)
}

// prepare makes both partitions and keeps their images.
func (m *cutMachine) prepare() error {
	for name, size := range map[string]int64{"perm": 4 << 20, "boot": 1 << 20} {
		f, err := os.Create(m.path(name + ".img"))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return err
		}
		if out, err := exec.Command(m.mkfs, "-q", m.path(name+".img")).CombinedOutput(); err != nil {
			return fmt.Errorf("mkfs: %w: %s", err, out)
		}
	}
	unmount, err := m.mount("perm.img", "boot.img")
	if err != nil {
		return err
	}
	r := &rig{t: m.t, layout: cutLayout(m.dir), boot: &folder{dir: m.path("boot")}}
	m.id = r.fill().ID
	r.put("factory-reset", "")
	r.put("kdht.hujson", `{"hostname": "cellar"}`)
	r.put("tailnet.key", "Other")
	unix.Sync()
	return unmount()
}

// mount mounts copies of two images at perm and boot.
func (m *cutMachine) mount(perm, boot string) (unmount func() error, err error) {
	var undo []func() error
	for name, image := range map[string]string{"perm": perm, "boot": boot} {
		dir := m.path(name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		options := "async"
		if name == "boot" {
			options = "sync,dirsync" // as box.FAT does
		}
		if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,"+options, m.path(image), dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mount %s: %w: %s", image, err, out)
		}
		undo = append(undo, func() error { return unix.Unmount(dir, 0) }) // the loop device goes by itself
	}
	return func() (err error) {
		for _, f := range undo {
			err = errors.Join(err, f())
		}
		return err
	}, nil
}

// copyImages copies both images. That of /perm comes first: what is on the boot partition may rely on it, not the other
// way round.
func (m *cutMachine) copyImages(from, to string) error {
	for _, name := range []string{"perm", "boot"} {
		b, err := os.ReadFile(m.path(name + from))
		if err != nil {
			return err
		}
		if err := os.WriteFile(m.path(name+to), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// run starts the machine, cuts its power after a time (negative: when it is done), starts it again and looks at the
// outcome. It returns for how long the machine ran.
func (m *cutMachine) run(after time.Duration) (ran time.Duration, err error) {
	if err := m.copyImages(".img", ".run"); err != nil {
		return 0, err
	}
	unmount, err := m.mount("perm.run", "boot.run")
	if err != nil {
		return 0, err
	}
	if ran, err = m.boot(after); err != nil {
		return 0, errors.Join(err, unmount())
	}
	if err := errors.Join(m.copyImages(".run", ".cut"), unmount()); err != nil {
		return 0, err
	}
	if unmount, err = m.mount("perm.cut", "boot.cut"); err != nil {
		return 0, err
	}
	return ran, errors.Join(m.look(), unmount())
}

// boot runs the process that is killed.
func (m *cutMachine) boot(after time.Duration) (ran time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), cutDir+"="+m.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	began := time.Now()
	if after < 0 {
		lines.Scan()
	} else {
		time.Sleep(after) // the moment of the cut, which may be any
	}
	ran = time.Since(began)
	err = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	return ran, err
}

// look starts the machine again and wants it to end up as without a cut.
func (m *cutMachine) look() error {
	r := &rig{t: m.t, layout: cutLayout(m.dir), boot: &folder{dir: m.path("boot")}}
	m.left = 0
	for _, name := range []string{"factory-reset", "tailnet.key"} {
		if _, err := os.Stat(m.path("boot", name)); err == nil {
			m.left = 1
		}
	}
	b := r.start()
	if p := b.Problems(); len(p) > 0 {
		return fmt.Errorf("problems: %q", p)
	}
	for _, name := range []string{"factory-reset", "tailnet.key"} {
		if _, err := os.Stat(m.path("boot", name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is still on the boot partition", name)
		}
	}
	if key, err := os.ReadFile(filepath.Join(b.State(), "tailnet.key")); err != nil || string(key) != "Other\n" {
		return fmt.Errorf("the key is %q, %w", key, err)
	}
	if c, err := config.Parse(b.Configuration()); err != nil || c.Hostname != "cellar" {
		return fmt.Errorf("the configuration is %+v, %w", c, err)
	}
	return r.lookReset(store.Identity{ID: m.id}, true, "kdht.hujson", "tailnet.key")
}
