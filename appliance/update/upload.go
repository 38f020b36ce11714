package update

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
	"kdht/appliance/update/trial"
)

// sums are the hashes of an upload that clients ask for.
type sums struct{ sha, crc hash.Hash }

func newSums() sums { return sums{sha256.New(), crc32.NewIEEE()} }

func (s sums) Write(p []byte) (int, error) {
	_, _ = s.sha.Write(p) // hashes do not fail
	return s.crc.Write(p)
}

func (s sums) hex() string { return hex.EncodeToString(s.sha.Sum(nil)) }

// counter counts what is read into the progress.
type counter struct {
	m *Manager
	r io.Reader
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.m.mu.Lock()
	c.m.progress.Done += int64(n)
	c.m.mu.Unlock()
	return n, err
}

// Announce takes the signed manifest of a release, which what is uploaded next must be of. Its serial may go back, or be
// the same, if downgrade is its version: a release that was good once is taken again when that is said, and never by mistake.
func (m *Manager) Announce(doc []byte, downgrade string, by client) error {
	end, err := m.begin("reading the manifest", int64(len(doc)), by)
	if err != nil {
		return err
	}
	defer end()
	man, err := manifest.Open(doc, m.key)
	if err != nil {
		return m.refuse(by, "unknown", err)
	}
	image, ok := man.For(instance())
	switch {
	case !ok:
		return m.refuse(by, man.Version, fmt.Errorf("%w: the release has nothing for %s", ErrMismatch, instance()))
	case man.Serial < m.floor():
		return m.refuse(by, man.Version, fmt.Errorf("%w (serial %d, and %d is the lowest)", ErrFloor, man.Serial, m.floor()))
	case downgrade != "" && downgrade != man.Version:
		return m.refuse(by, man.Version, fmt.Errorf("%w: it is %q, and not %q", ErrOther, man.Version, downgrade))
	case downgrade == "" && man.Serial <= m.serial():
		return m.refuse(by, man.Version, fmt.Errorf("%w (serial %d, and %d was committed)", ErrDowngrade, man.Serial, m.serial()))
	}
	s := staged{manifest: man, image: image}
	if had := m.serial(); man.Serial <= had {
		s.old = fmt.Sprintf("downgrade: serial %d after %d", man.Serial, had)
		m.o.Log.Warn("an old release is to be taken", "version", man.Version, "serial", man.Serial, "had", had, "by", by.name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.staged = s
	m.disarm()
	return nil
}

// serial is the highest serial that this box has had.
func (m *Manager) serial() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.slots.Serial, m.running.Serial)
}

// floor is the lowest serial that this box takes: of manifests that nobody vouched for, none counts.
func (m *Manager) floor() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.key == nil {
		return 0
	}
	return m.slots.Floor
}

// want gives the file of the manifest that an upload must be, nil if any may come.
func (m *Manager) want(pick func(manifest.Image) manifest.File) (*manifest.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.staged.manifest == nil {
		if m.key != nil {
			return nil, ErrUnsigned
		}
		return nil, nil
	}
	f := pick(m.staged.image)
	return &f, nil
}

// matches compares an upload with the manifest.
func matches(want *manifest.File, n int64, sum string) error {
	if want != nil && (n != want.Size || sum != want.SHA256) {
		return mismatch(*want, n, sum)
	}
	return nil
}

// Root takes a root file system for the slot that is not running. length is how many bytes there will be, -1 if that is
// not known. The sums are those of what the medium gives back.
func (m *Manager) Root(r io.Reader, length int64, by client) (sums, error) {
	end, err := m.begin("writing the root file system", max(0, length), by)
	if err != nil {
		return sums{}, err
	}
	defer end()
	back, err := m.root(r, length)
	if err != nil {
		name := m.stagedName()
		m.mu.Lock()
		m.staged = staged{}
		m.mu.Unlock()
		return sums{}, m.refuse(by, name, err)
	}
	return back, nil
}

func (m *Manager) root(r io.Reader, length int64) (sums, error) {
	want, err := m.want(func(i manifest.Image) manifest.File { return i.Root })
	if err != nil {
		return sums{}, err
	}
	to := m.place.Running.Other()
	slot, err := m.place.OpenSlot(to)
	if err != nil {
		return sums{}, err
	}
	if length > slot.Size() {
		return sums{}, errors.Join(fmt.Errorf("%w of %d bytes", bootdisk.ErrTooLarge, slot.Size()), slot.Close())
	}
	m.mu.Lock()
	m.disarm()
	m.staged.root = nil
	if m.staged.boot != 0 { // of an attempt that was given up, or too early
		m.staged.boot, m.staged.note = 0, "the kernel stays: it came before the root file system, and must come after it"
	}
	delete(m.slots.Slots, to) // what was there is gone
	err = trial.Write(m.dir, slotsFile, m.slots)
	m.mu.Unlock()
	if err != nil {
		m.o.Log.Warn("the record of the slots is not written", "err", err)
	}
	n, back, err := fill(slot, counter{m, r}, length, want)
	var release Release
	if err = errors.Join(err, slot.Close()); err == nil {
		release, err = inspect(m.place.Parts[int(to)])
	}
	if err != nil {
		return sums{}, errors.Join(err, m.erase(to))
	}
	record := &slotRecord{Version: release.Version, Serial: release.Serial, Size: n, SHA256: back.hex()}
	m.mu.Lock()
	defer m.mu.Unlock()
	if man := m.staged.manifest; man != nil {
		record.Version, record.Serial = man.Version, man.Serial
		if m.key != nil {
			record.Floor = man.Floor
		}
	}
	if record.Version == "" {
		record.Version = record.SHA256[:12]
	}
	m.staged.root, m.slots.Slots[to] = record, record
	if err := trial.Write(m.dir, slotsFile, m.slots); err != nil {
		m.o.Log.Warn("the record of the slots is not written", "err", err)
	}
	return back, nil
}

// fill writes a root file system to a slot, and checks what the medium gives back.
func fill(slot bootdisk.Device, r io.Reader, length int64, want *manifest.File) (n int64, back sums, err error) {
	n, sum, err := bootdisk.WriteRoot(slot, r)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && length >= 0 && n != length:
		return n, back, fmt.Errorf("%w after %d bytes", ErrTruncated, n)
	case err != nil:
		return n, back, err
	}
	if err := matches(want, n, hex.EncodeToString(sum[:])); err != nil {
		return n, back, err
	}
	back = newSums()
	if err := bootdisk.ReadRoot(slot, n, back); err != nil {
		return n, back, err
	}
	if !bytes.Equal(back.sha.Sum(nil), sum[:]) {
		return n, back, bootdisk.ErrReadBack
	}
	_, err = bootdisk.CheckRoot(slot, n)
	return n, back, err
}

// erase makes a slot with what was refused one that no rollback can try.
func (m *Manager) erase(s bootdisk.Slot) error {
	slot, err := m.place.OpenSlot(s)
	if err != nil {
		return err
	}
	return errors.Join(bootdisk.EraseRoot(slot), slot.Close())
}

// stagedName names what is being uploaded.
func (m *Manager) stagedName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.staged.manifest != nil:
		return m.staged.manifest.Version
	case m.staged.root != nil:
		return m.staged.root.Version
	}
	return "unknown"
}

// Boot takes a boot file system. Where there is no room for two, or no kernel can be tried, the one in force stays, and the
// note of the trial says so.
func (m *Manager) Boot(r io.Reader, length int64, by client) (sums, error) {
	end, err := m.begin("writing the boot file system", max(0, length), by)
	if err != nil {
		return sums{}, err
	}
	defer end()
	sent, err := m.boot(r, length)
	if err != nil {
		return sums{}, m.refuse(by, m.stagedName(), err)
	}
	return sent, nil
}

func (m *Manager) boot(r io.Reader, length int64) (sums, error) {
	want, err := m.want(func(i manifest.Image) manifest.File { return i.Boot })
	if err != nil {
		return sums{}, err
	}
	m.mu.Lock()
	m.disarm()
	m.staged.boot, m.staged.note = 0, ""
	m.mu.Unlock()
	sent := newSums()
	var n count
	in := &beginning{r: io.TeeReader(counter{m, r}, io.MultiWriter(sent, &n))}
	place, changed := 0, []string(nil)
	err = m.disk(func(d *bootdisk.Disk) (err error) {
		if place, err = d.Stage(in); err == nil {
			changed, err = d.Changed(place)
		}
		return err
	})
	note := ""
	if errors.Is(err, bootdisk.ErrNoRoom) {
		note = err.Error()
		changed, err = m.compare(io.MultiReader(bytes.NewReader(in.kept), in.r))
		place = 0
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && length >= 0 && int64(n) != length:
		return sums{}, fmt.Errorf("%w after %d bytes", ErrTruncated, n)
	case err != nil:
		return sums{}, err
	}
	if err := matches(want, int64(n), sent.hex()); err != nil {
		return sums{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(changed) == 0:
	case place != 0 && m.canTry():
		m.staged.boot = place
	case note != "":
		m.staged.note = "the kernel stays: " + note
	default:
		m.staged.note = "the kernel stays: this machine cannot try another one"
	}
	if m.staged.note != "" {
		m.o.Log.Warn("boot file system not taken", "changed", changed, "reason", m.staged.note)
	}
	return sent, nil
}

// compare tells which files of a boot image are new, by way of a temporary file.
func (m *Manager) compare(r io.Reader) (changed []string, err error) {
	f, err := os.CreateTemp("", "boot") // in memory: /perm may be full, and no update could help then
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := io.Copy(f, r); err != nil {
		return nil, err
	}
	err = m.disk(func(d *bootdisk.Disk) (err error) {
		changed, err = d.ChangedImage(f)
		return err
	})
	return changed, err
}

// beginning keeps the beginning of what is read: more than there is of a boot image before its files.
type beginning struct {
	r    io.Reader
	kept []byte
}

func (b *beginning) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	const most = 4 << 20
	b.kept = append(b.kept, p[:min(n, most-len(b.kept))]...)
	return n, err
}

type count int64

func (c *count) Write(p []byte) (int, error) {
	*c += count(len(p))
	return len(p), nil
}

// BootCode reads boot code and answers for it; it is not written.
func (m *Manager) BootCode(r io.Reader, by client) (sums, error) {
	end, err := m.begin("reading the boot code", 446, by)
	if err != nil {
		return sums{}, err
	}
	defer end()
	want, err := m.want(func(i manifest.Image) manifest.File { return i.MBR })
	if err != nil {
		return sums{}, m.refuse(by, m.stagedName(), err)
	}
	sent := newSums()
	n, err := io.Copy(sent, io.LimitReader(r, 1<<20))
	if err == nil {
		err = matches(want, n, sent.hex())
	}
	if err != nil {
		return sums{}, m.refuse(by, m.stagedName(), err)
	}
	return sent, nil
}
