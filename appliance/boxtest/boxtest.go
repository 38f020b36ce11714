// Package boxtest runs nodes with their pages in the process of a test, on loopback addresses or in a network namespace.
package boxtest

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
	"kdht/config"
)

// patience bounds how long a test waits for something.
const patience = 30 * time.Second

// Box is a running node.
type Box struct {
	URL  string // of its page, without a slash at the end
	UDP  string // where it serves
	Host *appliance.Host
	// Stop ends it and waits for that. Again it does nothing. The end of the test calls it, too.
	Stop func()
}

// Options say how a node is run.
type Options struct {
	Extensions []appliance.Extension
	// NS is the namespace to run in; nil for that of the test.
	NS *netns.NS
	// HTTP is the address of the page. Default: a free port of 127.0.0.1.
	HTTP string
	// Values are keys and values of the configuration, those of lists with commas between.
	Values []string
}

// Start runs a node of a private network on an address, with any port, and waits until it is ready. bootstrap is the address
// of a node that runs already, or "none".
func Start(t *testing.T, o Options, address, bootstrap string) *Box {
	t.Helper()
	web := o.HTTP
	if web == "" {
		web = testenv.FreeAddress(t)
	}
	b := &Box{URL: "http://" + web}
	c := config.New()
	for i, all := 0, append([]string{"state", t.TempDir(), "http", web, "network", "private", "discovery", "off",
		"bootstrap", bootstrap, "xdp.mode", "off"}, o.Values...); i < len(all); i += 2 {
		if err := c.Set(all[i], all[i], strings.Split(all[i+1], ",")...); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := c.Config()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(address), 0)}
	ctx, cancel := context.WithCancel(context.Background())
	hosts, served := make(chan *appliance.Host, 1), make(chan error, 1)
	serve := func() error {
		return appliance.Serve(ctx, cfg, slog.New(slog.DiscardHandler), append(o.Extensions, func(h *appliance.Host) error {
			hosts <- h
			return nil
		})...)
	}
	go func() {
		if o.NS != nil {
			served <- o.NS.Do(serve)
			return
		}
		served <- serve()
	}()
	select {
	case b.Host = <-hosts:
	case err := <-served:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	b.Stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(b.Stop)
	b.UDP = b.Host.Node.Stats().Families[0].Listen[0].String()
	select {
	case <-b.Host.Node.Ready():
	case <-time.After(patience):
		t.Fatal("the node is not ready")
	}
	return b
}

// Knows waits until the node knows so many others that answer.
func (b *Box) Knows(t *testing.T, n int) {
	t.Helper()
	Eventually(t, "the nodes do not know each other", func() bool { return b.Host.Node.Stats().Families[0].Good >= n })
}

// Eventually waits for something to become true.
func Eventually(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(otherwise)
		}
	}
}
