package kernel

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// own marks a pin directory as that of a living process, until the result is closed or the process has died: an
// abstract Unix socket of its name exists in the network namespace, which the directory belongs to as well.
func own(dir string) (io.Closer, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "@" + dir})
}

// reclaim removes the pins that dead instances of the program in this network namespace have at an interface, and
// with them what is attached there. It returns the directories. Where the next process of the same instance would
// have taken over, another instance cannot: the interface would be busy for good.
func reclaim(ownDir string, ifindex int) (removed []string) {
	root, base := filepath.Split(ownDir)
	_, namespace, ok := strings.Cut(base, "-")
	if !ok {
		return nil
	}
	links, err := filepath.Glob(filepath.Join(root, "*-"+namespace, fmt.Sprintf("link-%d-*", ifindex)))
	if err != nil {
		return nil // the pattern is a good one
	}
	for _, l := range links {
		dir := filepath.Dir(l)
		if dir == filepath.Clean(ownDir) {
			continue
		}
		o, err := own(dir)
		if err != nil {
			continue // its process lives
		}
		if os.RemoveAll(dir) == nil {
			removed = append(removed, dir)
		}
		_ = o.Close() // only a name
	}
	return removed
}
