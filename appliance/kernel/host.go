package kernel

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// Release returns the kernel's release, as uname -r has it.
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// executions names how programs run, by whether they were compiled to machine code.
var executions = map[bool]string{false: "interpreter", true: "JIT"}

// Execution tells how the kernel is set to run BPF programs: "JIT", "interpreter", or "unknown". It reads the switch
// of the JIT, which kernels without one lack. The switch is visible in the initial network namespace only, as is every
// other switch for the receive path, by which that namespace is told.
func Execution() string {
	const dir = "/proc/sys/net/core/"
	if b, err := os.ReadFile(dir + "bpf_jit_enable"); err == nil {
		return executions[!bytes.HasPrefix(b, []byte("0"))]
	}
	if _, err := os.Stat(dir + "netdev_max_backlog"); err == nil {
		return executions[false]
	}
	return "unknown"
}
