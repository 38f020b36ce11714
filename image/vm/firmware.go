package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"kdht/image/fat"
	"kdht/image/pack"
)

// tryBoot is what a kernel of the Raspberry Pi's says last when it asks the firmware to read tryboot.txt at the next start.
const tryBoot = "reboot: Restarting system with command '0 tryboot'"

// load plays the Raspberry Pi's firmware, and returns the arguments with which QEMU starts the kernel: from the boot file system,
// as config.txt says, or tryboot.txt if the system before has asked for that, with a device tree that says that it may ask.
func (m Machine) load(disk *Disk, dir string, hardware []string) ([]string, error) {
	boot, err := fat.Read(disk, pack.BootOffset)
	if err != nil {
		return nil, err
	}
	all, err := boot.Files()
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for path, content := range all {
		files[strings.ToLower(path)] = content
	}
	config := files["config.txt"]
	if disk.takeTryBoot() && files["tryboot.txt"] != nil {
		config = files["tryboot.txt"]
	}
	prefix := ""
	for line := range strings.Lines(string(config)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "os_prefix="); ok {
			prefix = p
		}
	}
	kernel, tree := dir+"/vmlinuz", dir+"/dtb"
	if err := os.WriteFile(kernel, files[prefix+"vmlinuz"], 0o600); err != nil {
		return nil, err
	}
	if err := m.deviceTree(tree, hardware); err != nil {
		return nil, err
	}
	// The firmware gives the serial port a name that is not known here. A kernel whose address is random also hides itself from user
	// space, and then every system call empties the emulator's TLB twice.
	cmdline := strings.ReplaceAll(strings.TrimSpace(string(files[prefix+"cmdline.txt"])), "console=serial0,", "console=ttyAMA0,") + " nokaslr"
	return []string{"-kernel", kernel, "-append", cmdline, "-dtb", tree}, nil
}

// deviceTree writes QEMU's own device tree with the property by which the firmware says that it can start with tryboot.txt.
func (m Machine) deviceTree(path string, hardware []string) error {
	args := append(append([]string{}, m.args...), hardware...)
	args = append(args, "-nodefaults", "-display", "none")
	for i, a := range args {
		if a == "virt" {
			args[i] += ",dumpdtb=" + path
		}
	}
	if out, err := exec.Command(m.qemu, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("device tree of %s: %w: %s", m.qemu, err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if b, err = withTryBoot(b); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// Tokens of a flattened device tree; see the Devicetree Specification 0.4, section 5.
const (
	treeBegin = 1
	treeEnd   = 2
	treeProp  = 3
	treeNop   = 4
)

var errTree = errors.New("unreadable device tree")

// piModel is what the machine is called.
const piModel = "Raspberry Pi 4 Model B"

// withTryBoot gives a flattened device tree the model of a Raspberry Pi, and /chosen/bootloader with a property "tryboot".
func withTryBoot(tree []byte) ([]byte, error) {
	be := binary.BigEndian
	if len(tree) < 40 || be.Uint32(tree) != 0xd00dfeed {
		return nil, errTree
	}
	field := func(at int) int { return int(be.Uint32(tree[at:])) }
	from, length, names, size := field(8), field(36), field(12), field(32)
	if from < 40 || from+length > len(tree) || names+size > len(tree) {
		return nil, errTree
	}
	structure, strs := tree[from:from+length], tree[names:names+size]
	depth, chosen, done := 0, false, 0
	var before []byte // the structure up to done
	for at := 0; at+4 <= len(structure); {
		token := be.Uint32(structure[at:])
		if chosen && depth == 2 && (token == treeBegin || token == treeEnd) { // behind the properties
			var node []byte
			node = be.AppendUint32(node, treeBegin)
			node = append(node, "bootloader\x00\x00"...)
			for _, n := range []int{treeProp, 4, len(strs), 0, treeEnd} {
				node = be.AppendUint32(node, uint32(n))
			}
			return assemble(tree, [][]byte{before, structure[done:at], node, structure[at:]}, [][]byte{strs, []byte("tryboot\x00")}), nil
		}
		at += 4
		switch token {
		case treeBegin:
			end := bytes.IndexByte(structure[at:], 0)
			if end < 0 {
				return nil, errTree
			}
			depth++
			chosen = chosen || depth == 2 && string(structure[at:at+end]) == "chosen"
			at += (end + 4) / 4 * 4
		case treeEnd:
			depth--
		case treeProp:
			if at+8 > len(structure) {
				return nil, errTree
			}
			start, size, name := at-4, int(be.Uint32(structure[at:])), int(be.Uint32(structure[at+4:]))
			if at += 8 + (size+3)/4*4; name > len(strs) || at > len(structure) {
				return nil, errTree
			}
			if depth == 1 && bytes.HasPrefix(strs[name:], []byte("model\x00")) {
				before = append(before, structure[done:start]...)
				for _, n := range []int{treeProp, len(piModel) + 1, name} {
					before = be.AppendUint32(before, uint32(n))
				}
				before = append(before, piModel...)
				before = append(before, make([]byte, 4-len(piModel)%4)...)
				done = at
			}
		case treeNop:
		default:
			return nil, fmt.Errorf("%w: no /chosen", errTree)
		}
	}
	return nil, errTree
}

// assemble makes a tree of another structure and other strings, with the reserved memory of the old one.
func assemble(old []byte, structure, strs [][]byte) []byte {
	be := binary.BigEndian
	s, n := bytes.Join(structure, nil), bytes.Join(strs, nil)
	reserved := old[be.Uint32(old[16:]):]
	end := 0
	for ; end+16 <= len(reserved) && !bytes.Equal(reserved[end:end+16], make([]byte, 16)); end += 16 {
	}
	b := bytes.Clone(old[:40])
	b = append(b, reserved[:min(end+16, len(reserved))]...)
	be.PutUint32(b[16:], 40)
	be.PutUint32(b[8:], uint32(len(b)))
	be.PutUint32(b[36:], uint32(len(s)))
	b = append(b, s...)
	be.PutUint32(b[12:], uint32(len(b)))
	be.PutUint32(b[32:], uint32(len(n)))
	b = append(b, n...)
	be.PutUint32(b[4:], uint32(len(b)))
	return b
}

// hardware is the part of QEMU's arguments that the device tree depends on beside the kind of machine.
func (c Config) hardware() []string {
	return []string{"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.MemoryMiB)}
}
