package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// stopGrace is how long a node may take to stop.
	stopGrace = 20 * time.Second
	// starting is how many nodes may be on their way to ready at a time. All of a large fleet would keep each other, and
	// those that are ready, from the CPU for minutes.
	starting = 16
)

// Options says what to build. The zero value of each field has a meaning of its own.
type Options struct {
	Nodes  int      // at the start; more can be added
	Dir    string   // existing directory for state and logs; required
	Binary string   // program to run; built from this module into Dir if empty
	XDP    string   // of every node: "auto", "native" (if empty), "generic" or "off"
	Args   []string // further arguments of `kdht serve`
	// Isolated is how many nodes after the first are on isolated hosts: they have to learn their addresses from others
	// (BEP 42), while the others know them from their default routes.
	Isolated int
	// Progress is called when a node is ready, with how many are, by one goroutine at a time.
	Progress func(ready int)
}

// Fleet is a number of nodes in one network.
type Fleet struct {
	Network *Network
	Nodes   []*Node
	Dir     string
	Binary  string

	xdp      string
	args     []string
	isolated int
	made     int // nodes so far
	progress func(ready int)
	http     http.Client
}

// New starts a fleet and waits until all nodes are ready. The first node has no bootstrap nodes, all others have that
// one. The caller closes the fleet.
func New(ctx context.Context, o Options) (*Fleet, error) {
	f := &Fleet{Dir: o.Dir, Binary: o.Binary, xdp: o.XDP, args: o.Args, isolated: o.Isolated, progress: o.Progress}
	if f.xdp == "" {
		f.xdp = "native"
	}
	if f.Binary == "" {
		var err error
		if f.Binary, err = Build(ctx, o.Dir); err != nil {
			return nil, err
		}
	}
	var err error
	if f.Network, err = NewNetwork(); err != nil {
		return nil, err
	}
	f.http.Transport = &http.Transport{DialContext: f.Network.DialContext, MaxIdleConnsPerHost: 1}
	if err := f.Add(ctx, o.Nodes); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Build builds the program kdht into a directory and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "kdht")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "kdht/appliance/kdht")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fleet: go build: %w\n%s", err, out)
	}
	return path, nil
}

// Add adds nodes and waits until they are ready.
func (f *Fleet) Add(ctx context.Context, count int) error { return f.add(ctx, count, f.xdp) }

// AddXDP adds a node whose kernel half is in another mode than that of the fleet.
func (f *Fleet) AddXDP(ctx context.Context, mode string) (*Node, error) {
	if err := f.add(ctx, 1, mode); err != nil {
		return nil, err
	}
	return f.Nodes[len(f.Nodes)-1], nil
}

func (f *Fleet) add(ctx context.Context, count int, xdp string) error {
	before := len(f.Nodes)
	var mu sync.Mutex // of ready and the errors
	var errs []error
	ready := before
	var wg sync.WaitGroup
	room := make(chan struct{}, starting)
	for range count {
		room <- struct{}{}
		mu.Lock()
		failed := len(errs) > 0
		mu.Unlock()
		if failed {
			break
		}
		n, err := f.newNode(f.Nodes[:min(len(f.Nodes), 1)], xdp)
		if err == nil {
			err = n.start()
		}
		if err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
			break
		}
		wait := func() {
			err := n.WaitReady(ctx)
			mu.Lock()
			defer mu.Unlock()
			<-room
			if err != nil {
				errs = append(errs, err)
				return
			}
			if ready++; f.progress != nil {
				f.progress(ready)
			}
		}
		if len(f.Nodes) == 1 {
			wait() // the others ask it at once
		} else {
			wg.Go(wait)
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Cut takes a node from the network and kills it, as when its power fails: nobody is told. It is no node of the fleet
// any more.
func (f *Fleet) Cut(n *Node) error {
	if err := n.Host.NS.IP("link", "set", "eth0", "down"); err != nil {
		return err
	}
	n.Signal(os.Kill)
	<-n.Done()
	f.Nodes = slices.DeleteFunc(f.Nodes, func(x *Node) bool { return x == n })
	return nil
}

// Each calls g for every node at the same time and joins the errors.
func (f *Fleet) Each(g func(*Node) error) error { return each(f.Nodes, g) }

func each(nodes []*Node, g func(*Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = g(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close stops all nodes in order and removes the network. An error says what did not end as it should.
func (f *Fleet) Close() error {
	err := f.Each(func(n *Node) error {
		if n.Process == nil { // it never started
			return nil
		}
		select {
		case <-n.Done():
			return fmt.Errorf("fleet: %s ended by itself: %w\n%s", n.name, n.Ended(), n.Log(4096))
		default:
		}
		if err := n.Stop(stopGrace); err != nil {
			return err
		}
		if err := n.Err(); err != nil {
			return fmt.Errorf("fleet: %s: stopped, it ended with %w\n%s", n.name, err, n.Log(4096))
		}
		return nil
	})
	f.http.CloseIdleConnections()
	return errors.Join(err, f.Network.Close())
}
