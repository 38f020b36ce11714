package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"kdht/appliance/status"
)

// Ports of every node.
const (
	Port     = 6881 // UDP, DHT
	HTTPPort = 8080 // TCP, status page
)

// Node is a `kdht serve` process on a host of its own.
type Node struct {
	*Process
	Host         *Host
	Addr4, Addr6 netip.AddrPort
	State        string // directory of its database

	name  string
	fleet *Fleet
	args  []string
}

// Name is what its log file and its namespace are called after.
func (n *Node) Name() string { return n.name }

// start starts the process; it is not ready when start returns.
func (n *Node) start() (err error) {
	n.Process, err = Start(n.Host.NS, n.fleet.Dir, n.name, nil, nil, append([]string{n.fleet.Binary, "serve"}, n.args...)...)
	return err
}

// Restart stops the node in order and starts it again with the same arguments and state. Use WaitReady after it.
func (n *Node) Restart() error {
	if err := n.Stop(stopGrace); err != nil {
		return err
	}
	return n.start()
}

// WaitReady waits until the node serves and has found its place in the network, and until its kernel half is attached
// if there is to be one.
func (n *Node) WaitReady(ctx context.Context) error {
	err := n.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		if !n.ready(ctx) {
			return false, nil
		}
		r, err := n.Status(ctx)
		return err == nil && (r.XDP.Active || r.XDP.Mode == "off" || r.XDP.Mode == "auto"), nil
	})
	if err != nil {
		return fmt.Errorf("fleet: %s is not ready: %w\n%s", n.name, err, n.Log(4096))
	}
	return nil
}

// ready says that the node calls itself ready; one that does not answer is not.
func (n *Node) ready(ctx context.Context) bool {
	_, err := n.get(ctx, "/readyz")
	return err == nil
}

// Status asks the node for its state.
func (n *Node) Status(ctx context.Context) (*status.Report, error) {
	body, err := n.get(ctx, "/status?format=json")
	if err != nil {
		return nil, fmt.Errorf("fleet: %s: %w", n.name, err)
	}
	r := new(status.Report)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("fleet: %s: status: %w", n.name, err)
	}
	return r, nil
}

// get gets a page of the node's HTTP server.
func (n *Node) get(ctx context.Context, path string) ([]byte, error) {
	addr := netip.AddrPortFrom(n.Host.IPv4, HTTPPort)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.fleet.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// newNode makes a node on a new host, which will join through the given others.
func (f *Fleet) newNode(bootstrap []*Node, xdp string) (*Node, error) {
	f.made++
	name := "node" + strconv.Itoa(f.made)
	host, err := f.Network.AddHost(name)
	if err != nil {
		return nil, err
	}
	n := &Node{
		Host: host, name: name, fleet: f, State: filepath.Join(f.Dir, name),
		Addr4: netip.AddrPortFrom(host.IPv4, Port), Addr6: netip.AddrPortFrom(host.IPv6, Port),
	}
	if len(f.Nodes) > 0 && len(f.Nodes) <= f.isolated {
		if err := host.Isolate(); err != nil {
			return nil, err
		}
	}
	n.args = append([]string{"--state", n.State, "--http", ":" + strconv.Itoa(HTTPPort), "--xdp", xdp}, f.args...)
	if len(bootstrap) == 0 {
		n.args = append(n.args, "--bootstrap", "none")
	}
	for _, b := range bootstrap {
		n.args = append(n.args, "--bootstrap", b.Addr4.String(), "--bootstrap", b.Addr6.String())
	}
	f.Nodes = append(f.Nodes, n)
	return n, nil
}
