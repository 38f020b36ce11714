package netns

import (
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// janitor waits for the end of its standard input, which comes when this process ends in any way, and then deletes
// the namespaces that this process left behind, with their processes.
const janitor = `
cat >/dev/null
ip netns list | cut -d ' ' -f 1 | grep "^$1" | while read -r ns; do
	ip netns pids "$ns" | xargs -r kill -9
	ip netns del "$ns"
done
`

// janitorInput is the write end of the janitor's pipe. It is never closed; were it garbage, its finalizer would close it
// and the janitor would kill the living. Children do not inherit it.
var janitorInput io.WriteCloser

// startJanitor starts this process's janitor unless it runs already.
var startJanitor = sync.OnceValue(func() error {
	cmd := exec.Command("sh", "-c", janitor, "kdht-netns-janitor", prefix())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // outlives a Ctrl-C in the terminal
	var err error
	if janitorInput, err = cmd.StdinPipe(); err != nil {
		return err
	}
	return cmd.Start()
})
