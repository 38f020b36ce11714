package kernel

import (
	"bytes"
	"os"
	"runtime"

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

// Execution tells how the kernel runs BPF programs: "JIT", "interpreter", or "unknown".
func Execution() string {
	mode, known := execution()
	if !known {
		inInitialNamespace(func() { mode, known = execution() })
	}
	if !known {
		return "unknown"
	}
	return mode
}

// execution reads the switch of the JIT, which kernels without one lack. It is visible in the initial network
// namespace only, as is every other switch for the receive path, by which that namespace is told.
func execution() (mode string, known bool) {
	const dir = "/proc/sys/net/core/"
	if b, err := os.ReadFile(dir + "bpf_jit_enable"); err == nil {
		if bytes.HasPrefix(b, []byte("0")) {
			return "interpreter", true
		}
		return "JIT", true
	}
	_, err := os.Stat(dir + "netdev_max_backlog")
	return "interpreter", err == nil
}

// inInitialNamespace calls f in the network namespace of process 1, if it may.
func inInitialNamespace(f func()) {
	ns, err := os.Open("/proc/1/ns/net")
	if err != nil {
		return
	}
	defer ns.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends here, and nothing else runs in that namespace
		if unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) == nil {
			f()
		}
	}()
	<-done
}
