package netns

import (
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// janitor waits for the end of its standard input, which comes when this process ends in any way, and then deletes
// the namespaces that this process left behind, with their processes, which get two seconds to end in order.
const janitor = `
cat >/dev/null
left() { ip netns list | cut -d ' ' -f 1 | grep "^$1"; }
left "$1" | while read -r ns; do ip netns pids "$ns" | xargs -r kill; done
left "$1" | while read -r ns; do
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ -z "$(ip netns pids "$ns")" ] && break
		sleep 0.2
	done
	ip netns pids "$ns" | xargs -r kill -9
	ip netns del "$ns"
done
`

// startJanitor starts this process's janitor unless it runs already. The write end of its pipe is a bare descriptor, which
// nothing closes while this process lives (a file that becomes garbage closes itself) and which children do not inherit.
var startJanitor = sync.OnceValue(func() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	stdin := os.NewFile(uintptr(pipe[0]), "janitor's input")
	defer stdin.Close()
	cmd := exec.Command("sh", "-c", janitor, "kdht-netns-janitor", prefix())
	cmd.Stdin = stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // outlives a Ctrl-C in the terminal
	return cmd.Start()
})
