package boot

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"kdht/appliance/update/bootdisk"
	"kdht/image/fat"
	"kdht/image/pack"
	"kdht/image/vm"
)

// TestKernels commits one kernel after the other on the disk of a PC as it was flashed: there is always room for the next.
func TestKernels(t *testing.T) {
	img := image(t, "amd64")
	path := filepath.Join(t.TempDir(), "disk.img")
	disk, err := vm.NewDisk(path, img.Path, 1<<31)
	must(t, err)
	must(t, disk.Close())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	d := diskOf(f)
	boot := file(t, img.Boot)
	for range 5 {
		boot = otherKernel(t, boot)
		place, err := d.Stage(bytes.NewReader(boot))
		must(t, err)
		now, err := d.Selected()
		must(t, err)
		must(t, d.Seal(place, now.Slot.Other()))
		must(t, d.Commit(bootdisk.Target{From: now.Slot, To: now.Slot.Other(), Boot: place, Platform: bootdisk.BIOS}))
		r, err := d.Kernel(place)
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		if want, _ := kernelOf(t, boot); !bytes.Equal(got, want) {
			t.Fatalf("the kernel at %d is not the new one", place)
		}
	}
}

// diskOf is the disk in a file as the box knows it.
func diskOf(f *os.File) *bootdisk.Disk {
	return &bootdisk.Disk{
		Whole: part{f, 0, pack.PermOffset}, Boot: part{f, pack.BootOffset, pack.BootSize}, Start: pack.BootOffset, Platform: bootdisk.BIOS,
	}
}

// part is a part of a file as a device.
type part struct {
	f         *os.File
	off, size int64
}

func (p part) ReadAt(b []byte, off int64) (int, error)  { return p.f.ReadAt(b, p.off+off) }
func (p part) WriteAt(b []byte, off int64) (int, error) { return p.f.WriteAt(b, p.off+off) }
func (p part) Sync() error                              { return nil }
func (p part) Size() int64                              { return p.size }

// kernelOf finds the kernel in a boot file system.
func kernelOf(t *testing.T, boot []byte) (kernel []byte, at int) {
	t.Helper()
	files, err := fat.FS(boot).Files()
	must(t, err)
	kernel = files["vmlinuz"]
	if at = bytes.Index(boot, kernel); at < 0 || len(kernel) == 0 {
		t.Fatal("there is no kernel, or it is in pieces")
	}
	return kernel, at
}

// otherKernel is a boot file system with a kernel that differs in nothing that matters; twice, it is what it was.
func otherKernel(t *testing.T, boot []byte) []byte {
	t.Helper()
	b := bytes.Clone(boot)
	kernel, at := kernelOf(t, b)
	copy(b[at:], mark(kernel))
	return b
}

// mark changes a digit of the version that a kernel's header names, and changes it back.
func mark(kernel []byte) []byte {
	k := bytes.Clone(kernel)
	k[0x200+int(binary.LittleEndian.Uint16(k[0x20e:]))] ^= 1 // see "The Linux/x86 Boot Protocol", kernel_version
	return k
}

// Machine code of AMD64.
var (
	illegal = []byte{0x0f, 0x0b} // ud2: without a handler, the machine resets
	forever = []byte{0xeb, 0xfe} // jmp to itself
)

// brokenKernel is a boot file system whose kernel has the given machine code where it is entered.
func brokenKernel(t *testing.T, boot, code []byte) []byte {
	t.Helper()
	b := bytes.Clone(boot)
	kernel, at := kernelOf(t, b)
	entry := (int(kernel[0x1f1])+1)*512 + 0x200 // setup_sects, and the entry of the 64-bit kernel
	copy(b[at+entry:], code)
	return b
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Clean(path))
	must(t, err)
	return b
}
