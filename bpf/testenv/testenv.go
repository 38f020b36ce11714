// Package testenv says what a test needs of the machine: root, XDP, a program, a Python module.
//
// Where something is missing the test is skipped with the reason; with KDHT_REQUIRE=1 in the environment, as in
// `make test` run by root and in CI, it fails instead, so that nothing is silently left untested.
package testenv

import (
	"errors"
	"os"
	"os/exec"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
)

// TB is the part of testing.TB that this package uses; it keeps package testing out of programs that import it.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Required says whether missing needs are failures.
func Required() bool { return os.Getenv("KDHT_REQUIRE") == "1" }

// missing skips or fails t because of a need that is not met.
func missing(t TB, format string, args ...any) {
	t.Helper()
	if Required() {
		t.Fatalf("KDHT_REQUIRE=1 and "+format, args...)
		return // with testing.TB it is never reached
	}
	t.Skipf(format, args...)
}

// NeedRoot needs the user to be root.
func NeedRoot(t TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "not root")
	}
}

// NeedNetNS needs root, iproute2 and the right to create network namespaces.
func NeedNetNS(t TB) {
	t.Helper()
	NeedRoot(t)
	NeedTool(t, "ip")
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		missing(t, "network namespaces cannot be created: %v %s", err, out)
	}
}

// NeedXDP needs root, network namespaces, and a kernel that loads XDP programs.
func NeedXDP(t TB) {
	t.Helper()
	NeedNetNS(t)
	if err := loadXDP(); err != nil {
		missing(t, "XDP programs cannot be loaded: %v", err)
	}
}

// loadXDP loads the smallest XDP program there is.
func loadXDP() error {
	err := rlimit.RemoveMemlock() // kernels before 5.11 charge maps and programs against RLIMIT_MEMLOCK
	prog, loadErr := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		License:      "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if loadErr != nil {
		return errors.Join(loadErr, err)
	}
	return prog.Close()
}

// NeedTool needs a program in PATH, and returns its path.
func NeedTool(t TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "there is no program %s (on Debian: .ci/setup installs it)", name)
	}
	return path
}

// NeedPython needs a Python 3 that has all of modules, and returns its path. Debian's own interpreter comes first:
// its packages, such as python3-libtorrent, exist only there.
func NeedPython(t TB, modules ...string) string {
	t.Helper()
	var tried []string
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		path, err := exec.LookPath(name)
		if err != nil {
			tried = append(tried, name+": not found")
			continue
		}
		script := "pass"
		if len(modules) > 0 {
			script = "import " + strings.Join(modules, ", ")
		}
		out, err := exec.Command(path, "-c", script).CombinedOutput()
		if err == nil {
			return path
		}
		tried = append(tried, path+": "+lastLine(out))
	}
	missing(t, "there is no Python 3 with %s (%s)", strings.Join(modules, ", "), strings.Join(tried, "; "))
	return ""
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
