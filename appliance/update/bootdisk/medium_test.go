package bootdisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"kdht/appliance/update/testdisk"
)

// medium is a disk in memory that remembers every sector written to it, and when it was told to sync.
type medium struct {
	base    map[int64][]byte // regions of the disk before the first write
	parent  *medium          // what else is on the disk; nil: base only
	sectors map[int64][sector]byte
	log     []event
	armed   bool             // a trial may be armed
	kernels map[int64]string // those that were found, of a medium without parent
	size    int64            // of the boot partition
}

// event is one sector written, or with no content a sync.
type event struct {
	at      int64
	content [sector]byte
	sync    bool
}

// region is a part of a medium as a device.
type region struct {
	m         *medium
	off, size int64
}

// newMedium gives a disk as gokrazy's packer makes it.
func newMedium(t *testing.T) *medium {
	return &medium{
		base:    map[int64][]byte{0: testdisk.File(t, "gpt.head"), testdisk.BootStart: testdisk.File(t, "v1.fat")},
		sectors: make(map[int64][sector]byte),
		size:    testdisk.BootSize,
	}
}

// newFlashed gives a disk with the boot partition of our images.
func newFlashed(t *testing.T) *medium {
	t.Helper()
	m := &medium{base: map[int64][]byte{0: testdisk.File(t, "gpt.head")}, sectors: make(map[int64][sector]byte), size: 508 << 20}
	if err := m.disk(BIOS).Flash(bytes.NewReader(testdisk.File(t, "v1.fat"))); err != nil {
		t.Fatal(err)
	}
	m.log = nil
	return m
}

func (m *medium) disk(p Platform) *Disk {
	return &Disk{
		Whole: region{m, 0, testdisk.Size}, Boot: region{m, testdisk.BootStart, m.size},
		Start: testdisk.BootStart, Platform: p,
	}
}

func (m *medium) read(p []byte, at int64) {
	for ; m != nil; m = m.parent {
		if s, ok := m.sectors[at]; ok {
			copy(p, s[:])
			return
		}
		for from, b := range m.base {
			if at >= from && at < from+int64(len(b)) {
				copy(p, b[at-from:])
				return
			}
		}
	}
	clear(p)
}

// above gives a medium that begins as this one is.
func (m *medium) above() *medium {
	return &medium{parent: m, sectors: make(map[int64][sector]byte), armed: m.armed, size: m.size}
}

func (r region) Size() int64 { return r.size }

func (r region) Sync() error {
	r.m.log = append(r.m.log, event{sync: true})
	return nil
}

func (r region) ReadAt(p []byte, off int64) (int, error) {
	if off%sector != 0 || len(p)%sector != 0 || off+int64(len(p)) > r.size {
		return 0, fmt.Errorf("read of %d bytes at %d", len(p), off)
	}
	for i := 0; i < len(p); i += sector {
		at := r.off + off + int64(i)
		r.m.read(p[i:i+sector], at)
	}
	return len(p), nil
}

func (r region) WriteAt(p []byte, off int64) (int, error) {
	if off%sector != 0 || len(p)%sector != 0 || off+int64(len(p)) > r.size {
		return 0, fmt.Errorf("write of %d bytes at %d", len(p), off)
	}
	for i := 0; i < len(p); i += sector {
		e := event{at: r.off + off + int64(i), content: [sector]byte(p[i:])}
		r.m.log = append(r.m.log, e)
		r.m.sectors[e.at] = e.content
	}
	return len(p), nil
}

// cuts gives the media that a power cut can leave of what was written to m, above its parent: every prefix, and of what was not synced any
// part, each sector for itself. Of more than 10 unsynced sectors it takes the prefixes, and those with one missing.
func (m *medium) cuts() (all []*medium) {
	log := m.log
	done := m.parent
	var open []event
	emit := func(pick func(i int) bool) {
		c := done.above()
		for i, e := range open {
			if pick(i) {
				c.sectors[e.at] = e.content
			}
		}
		all = append(all, c)
	}
	for i := 0; i <= len(log); i++ {
		if i == len(log) || log[i].sync {
			if n := len(open); n <= 10 {
				for set := range 1 << n {
					emit(func(i int) bool { return set>>i&1 == 1 })
				}
			} else {
				step := max(1, n/3)
				for k := 0; k < n; k += step {
					emit(func(i int) bool { return i < k })
					emit(func(i int) bool { return i != k })
				}
				emit(func(int) bool { return true })
			}
			done = done.above()
			for _, e := range open {
				done.sectors[e.at] = e.content
			}
			open = nil
			continue
		}
		open = append(open, log[i])
	}
	return all
}

// boots tells which kernel, as "v1" or "v2", and which slot a machine would start from the medium.
func (m *medium) boots(t *testing.T, p Platform, kernels map[string][]byte) (kernel string, slot Slot) {
	t.Helper()
	d := m.disk(p)
	var at int64
	var text string
	if p == BIOS { // as the boot code itself does it
		mbr, err := readAny(d.Whole, 0, sector)
		if err != nil {
			t.Fatal(err)
		}
		if mbr[510] != 0x55 || mbr[511] != 0xaa || binary.LittleEndian.Uint32(mbr[440:]) == 0 {
			t.Fatal("no master boot record, or without the disk's signature")
		}
		at = int64(binary.LittleEndian.Uint32(mbr[432:]))*sector - d.Start
		b, err := readAny(d.Boot, int64(binary.LittleEndian.Uint32(mbr[436:]))*sector-d.Start, sector)
		if err != nil {
			t.Fatal(err)
		}
		text = string(bytes.TrimRight(b, "\x00 "))
	} else {
		f, err := readFAT(d.Boot, 0)
		if err != nil {
			t.Fatal(err)
		}
		path := cmdlineFile
		if p == UEFI {
			path = loaderFile
			for _, loader := range []string{"efi/boot/bootx64.efi", "efi/boot/bootaa64.efi"} {
				x, err := f.find(loader)
				if err != nil {
					t.Fatal(err)
				}
				content, err := f.read(x)
				if err != nil || content[0]&0xf0 != 0xe0 || !bytes.Equal(content, bytes.Repeat(content[:1], len(content))) {
					t.Fatalf("%s is not the one that was there: %v", loader, err)
				}
			}
		}
		if text, err = line(f, path); err != nil {
			t.Fatal(err)
		}
		x, err := f.find(kernelFile)
		if err != nil {
			t.Fatal(err)
		}
		at = f.offset(x.first)
	}
	if bytes.Contains([]byte(text), []byte(TryFlag)) && !m.armed {
		t.Fatalf("a trial is armed: %q", text)
	}
	slot, err := RootSlot(text)
	if err != nil {
		t.Fatal(err)
	}
	if kernel = m.kernel(t, at, kernels); kernel == "" {
		t.Fatalf("no complete kernel at %d", at)
	}
	return kernel, slot
}

// kernel tells which kernel lies at a place of the boot partition, "" for none that is whole. It looks at each place once
// for as long as nothing is written there.
func (m *medium) kernel(t *testing.T, at int64, kernels map[string][]byte) string {
	t.Helper()
	if m.parent != nil {
		from, touched := testdisk.BootStart+at, false
		for w := range m.sectors {
			touched = touched || w >= from && w < from+10<<20
		}
		if !touched {
			return m.parent.kernel(t, at, kernels)
		}
	} else if name, ok := m.kernels[at]; ok {
		return name
	}
	found := ""
	for name, k := range kernels {
		b, err := readAny(m.disk(UEFI).Boot, at, (len(k)+sector-1)/sector*sector)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b[:len(k)], k) {
			found = name
		}
	}
	if m.parent == nil && m.kernels != nil {
		m.kernels[at] = found
	}
	return found
}
