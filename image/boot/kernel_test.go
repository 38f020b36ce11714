package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kdht/appliance/update/bootdisk"
	"kdht/bpf/testenv"
	"kdht/image/fat"
	"kdht/image/pack"
	"kdht/image/vm"
)

// TestKernels commits one kernel after the other on disks as they were flashed, with what each kind of machine has in its boot
// file system: there is always room for the next, and also for one twice as large.
func TestKernels(t *testing.T) {
	t.Parallel()
	for instance, platform := range map[string]bootdisk.Platform{"amd64": bootdisk.BIOS, "arm64": bootdisk.UEFI, "rpi": bootdisk.Firmware} {
		t.Run(instance, func(t *testing.T) {
			t.Parallel()
			testKernels(t, instance, platform)
		})
	}
}

func testKernels(t *testing.T, instance string, platform bootdisk.Platform) {
	img := image(t, instance)
	path := filepath.Join(t.TempDir(), "disk.img")
	disk, err := vm.NewDisk(path, img.Path, 1<<31)
	must(t, err)
	must(t, disk.Close())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	d := diskOf(f, platform)
	boot := file(t, img.Boot)
	large := twice(t, boot)
	for i := range 4 {
		boot = otherKernel(t, boot)
		if i >= 2 {
			boot, large = large, boot
		}
		place, err := d.Stage(bytes.NewReader(boot))
		must(t, err)
		now, err := d.Selected()
		must(t, err)
		must(t, d.Seal(place, now.Slot.Other()))
		target := bootdisk.Target{From: now.Slot, To: now.Slot.Other(), Boot: place, Platform: platform}
		if platform == bootdisk.Firmware {
			must(t, d.Once(target, target.Marker()))
			tried(t, f, boot, target.Marker())
		}
		must(t, d.Commit(target))
		if now.Boot == place {
			t.Fatalf("the boot file system at %d was written over", place)
		}
		must(t, d.Usable(now.Boot, now.Slot))
		inForce(t, f, boot)
	}
}

// tried checks that the Pi's firmware would find, where tryboot.txt says, all that it starts of a boot image.
func tried(t *testing.T, f *os.File, boot []byte, line string) {
	t.Helper()
	want, err := fat.FS(boot).Files()
	must(t, err)
	fs, err := fat.Read(f, pack.BootOffset)
	must(t, err)
	got, err := fs.Files()
	must(t, err)
	if config := string(got["TRYBOOT.TXT"]); !strings.HasPrefix(config, strings.TrimRight(string(want["config.txt"]), "\n")) || !strings.Contains(config, "\n[all]\nos_prefix=try/\n") {
		t.Errorf("tryboot.txt: %q", config)
	}
	want["cmdline.txt"] = []byte(line)
	n := 0
	for path, content := range want {
		if path != "vmlinuz" && path != "cmdline.txt" && !strings.HasSuffix(path, ".dtb") && !strings.HasPrefix(path, "overlays/") {
			continue
		}
		n++
		if have, ok := got["TRY/"+path]; !ok || !bytes.Equal(have, content) {
			t.Errorf("%s is not there to be tried", path)
		}
	}
	if n < 300 {
		t.Errorf("%d files to be tried", n)
	}
}

// inForce compares the file system in force, as mtools and our own reader see it, with a boot image.
func inForce(t *testing.T, f *os.File, boot []byte) {
	t.Helper()
	want, err := fat.FS(boot).Files()
	must(t, err)
	fs, err := fat.Read(f, pack.BootOffset)
	must(t, err)
	got, err := fs.Files()
	must(t, err)
	for path, content := range want {
		lines := strings.HasPrefix(path, "cmdline") || strings.HasPrefix(path, "loader/entries") // which name the slot
		if have, ok := got[path]; !ok || !lines && !bytes.Equal(have, content) || len(have) != len(content) {
			t.Fatalf("%s is not there as it was sent", path)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d files, want %d", len(got), len(want))
	}
	out, err := exec.Command(testenv.NeedTool(t, "mtype"), "-i", fmt.Sprintf("%s@@%d", f.Name(), pack.BootOffset), "::vmlinuz").Output()
	if err != nil || !bytes.Equal(out, want["vmlinuz"]) {
		t.Fatalf("mtools read another kernel, of %d bytes: %v", len(out), err)
	}
}

// twice is a boot file system with a kernel twice as large.
func twice(t *testing.T, boot []byte) []byte {
	t.Helper()
	le := binary.LittleEndian
	kernel, at := kernelOf(t, boot)
	cluster := int(boot[13]) * 512
	reserved, table, root := int(le.Uint16(boot[14:]))*512, int(le.Uint16(boot[22:]))*512, int(le.Uint16(boot[17:]))*32
	data := reserved + table + root
	n := (len(kernel) + cluster - 1) / cluster
	behind := (at-data)/cluster + 2 + n // the cluster behind the kernel, where n more come in
	later := func(c uint16) uint16 {
		if int(c) >= behind && c < 0xfff0 {
			c += uint16(n)
		}
		return c
	}
	var entries []byte
	for c := range table / 2 {
		switch next := le.Uint16(boot[reserved+2*c:]); c {
		case behind - 1:
			for i := range n {
				entries = le.AppendUint16(entries, uint16(behind+i))
			}
			entries = le.AppendUint16(entries, next)
		default:
			entries = le.AppendUint16(entries, later(next))
		}
	}
	entries = append(entries, make([]byte, 511-(len(entries)-1)%512)...)
	b := bytes.Clone(boot[:reserved])
	le.PutUint16(b[22:], uint16(len(entries)/512))
	le.PutUint32(b[32:], le.Uint32(b[32:])+uint32((len(entries)-table+n*cluster)/512))
	split := data + (behind-2)*cluster
	b = bytes.Join([][]byte{b, entries, boot[data-root : split], make([]byte, n*cluster), boot[split:]}, nil)
	data += len(entries) - table
	var relink func(dir []byte)
	relink = func(dir []byte) {
		for ; len(dir) >= 32 && dir[0] != 0; dir = dir[32:] {
			if dir[11] == 0x0f || dir[11]&0x08 != 0 {
				continue
			}
			first := later(le.Uint16(dir[26:]))
			le.PutUint16(dir[26:], first)
			if strings.HasPrefix(strings.ToLower(string(dir[:11])), "vmlinuz ") {
				le.PutUint32(dir[28:], uint32(n*cluster+len(kernel)))
			}
			if dir[11]&0x10 != 0 && dir[0] != '.' {
				size := cluster
				for c := int(first); int(le.Uint16(entries[2*c:])) == c+1; c++ {
					size += cluster
				}
				relink(b[data+int(first-2)*cluster:][:size])
			}
		}
	}
	relink(b[data-root : data])
	copy(b[data+(behind-2)*cluster:], kernel)
	return b
}

// diskOf is the disk in a file as the box knows it.
func diskOf(f *os.File, platform bootdisk.Platform) *bootdisk.Disk {
	return &bootdisk.Disk{
		Whole: pack.Part(f, 0, pack.PermOffset), Boot: pack.Part(f, pack.BootOffset, pack.BootSize), Start: pack.BootOffset, Platform: platform,
	}
}

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

// mark changes a digit of the version that a kernel's header names, or of an arm64 kernel who it says that made it, and
// changes it back.
func mark(kernel []byte) []byte {
	if from, to := []byte(maker), []byte(otherMaker); string(kernel[56:60]) == "ARMd" {
		if bytes.Contains(kernel, to) {
			from, to = to, from
		}
		return bytes.ReplaceAll(kernel, from, to)
	}
	k := bytes.Clone(kernel)
	k[0x200+int(binary.LittleEndian.Uint16(k[0x20e:]))] ^= 1 // see "The Linux/x86 Boot Protocol", kernel_version
	return k
}

// Who made an arm64 kernel, by its first line on the console.
const (
	maker      = "gokrazy@docker"
	otherMaker = "gokrazy@update"
)

// Machine code of AMD64.
var (
	illegal = []byte{0x0f, 0x0b}             // ud2: without a handler, the machine resets
	forever = []byte{0xfa, 0xf4, 0xeb, 0xfc} // cli, hlt, and again: it hangs, and leaves the CPU to others
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
