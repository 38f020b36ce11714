package appliance_test

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"kdht/appliance/status"
)

// TestOrphanedPins kills a program, and then its interface goes: the next instance of the program, wherever, removes what it has left,
// which nobody could take over, and nothing of one whose interface is still there.
func TestOrphanedPins(t *testing.T) {
	instance := func(t *testing.T) (pair, *process, string) {
		p := newPair(t)
		s := serve(t, p.node, p.state)
		s.until("attached", func(r status.Report) bool { return r.XDP.Active })
		return p, s, s.report().XDP.PinDir
	}
	there := func(dir string) bool {
		_, err := os.Stat(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil
	}
	removed, gone, dead := instance(t)
	kept, killed, left := instance(t)
	for _, s := range []*process{gone, killed} {
		s.stop(syscall.SIGKILL)
	}
	defer removePins(t, killed)
	do(t, removed.node, "link del eth0")
	if !there(dead) || !there(left) {
		t.Fatal("the pins went with their process")
	}
	if kept.xdp(t, "eth0") == "" {
		t.Fatal("the program went with its process")
	}
	instance(t)
	if there(dead) {
		t.Errorf("the pins of a dead process at an interface that is gone are still there")
	}
	if !there(left) {
		t.Errorf("the pins of a dead process at an interface that is there are gone")
	}
}
