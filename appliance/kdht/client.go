package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"kdht/config"
	"kdht/router"
)

// clientFlags are the flags of every command that asks other nodes.
type clientFlags struct {
	Bootstrap []string      `group:"dht" placeholder:"HOST:PORT" env:"KDHT_BOOTSTRAP" help:"Node to begin with; repeatable. Default: the public bootstrap nodes."`
	Network   string        `group:"dht" enum:"public,private" default:"public" placeholder:"public|private" env:"KDHT_NETWORK" help:"public: nodes have public addresses. private: a DHT of your own. Default: public."`
	Via       string        `group:"dht" placeholder:"HOST[:PORT]" env:"KDHT_VIA" help:"Have this node, which runs kdht, do the work: one datagram there and one back. It asks its own network, whatever the flags above say."`
	Timeout   time.Duration `default:"30s" help:"Give up after this time."`
	JSON      bool          `name:"json" help:"Print one JSON document."`
}

// Validate checks the flags before anything is sent.
func (f *clientFlags) Validate() error {
	if f.Timeout <= 0 {
		return usage("write for example --timeout 5s", "--timeout must be more than 0s")
	}
	for _, b := range f.Bootstrap {
		if b == "none" { // perhaps from KDHT_BOOTSTRAP, for a node
			return usage("to ask one, name a node of it as HOST:PORT", "--bootstrap: \"none\" is for the first node of a network")
		}
		if e := config.CheckHostPort(b); e != nil {
			return usage(e.Hint, "--bootstrap: %s", e.Msg)
		}
	}
	if f.Via != "" {
		if _, err := viaNode(f.Via); err != nil {
			return err
		}
	}
	return nil
}

// bootstrap gives the nodes to begin with.
func (f *clientFlags) bootstrap() ([]string, error) {
	if len(f.Bootstrap) > 0 {
		return f.Bootstrap, nil
	}
	if f.Network == string(config.Private) {
		return nil, usage("name any node of it with --bootstrap HOST:PORT", "a private network has no nodes that everybody knows")
	}
	b := config.New()
	if err := b.Set("--state", "state", "."); err != nil { // clients keep no state, and may be homeless
		return nil, err
	}
	cfg, err := b.Config()
	return cfg.Bootstrap, err
}

// with runs ask with a node that only asks (BEP 43), on free ports of both families.
func (f *clientFlags) with(s *system, ask func(context.Context, *router.Node) error) error {
	bootstrap, err := f.bootstrap()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, f.Timeout)
	defer cancel()
	addrs, err := resolveAll(ctx, bootstrap)
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if err == nil {
		addrs, err = f.usable(addrs)
	}
	if err != nil {
		return err
	}
	met := false
	err = f.node(ctx, addrs, func(n *router.Node) error {
		p := s.newProgress("join", "")
		err := acquaint(ctx, n, func(waited time.Duration) {
			p.show(fmt.Sprintf("%s of %s, no answer yet, asked %d %s", waited.Truncate(time.Second), f.Timeout, len(addrs), plural(len(addrs), "node")))
		})
		p.end()
		if err != nil {
			return err
		}
		met = true
		return ask(ctx, n)
	})
	switch {
	case err != nil && s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(err, context.DeadlineExceeded) && !met:
		whom := "none of the " + strconv.Itoa(len(addrs)) + " nodes to begin with"
		if len(addrs) == 1 {
			whom = "not " + addrs[0]
		}
		return &failure{code: exitUnreachable, msg: fmt.Sprintf("no node answered within %s, %s", f.Timeout, whom), hint: unreachableHint + "; or wait longer with --timeout"}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{code: exitUnreachable, msg: fmt.Sprintf("no result within %s", f.Timeout), hint: "wait longer with --timeout"}
	}
	return err
}

// usable leaves out addresses that are not asked, since no node of the network can have them.
func (f *clientFlags) usable(addrs []string) ([]string, error) {
	kept := slices.DeleteFunc(slices.Clone(addrs), func(s string) bool {
		a, err := netip.ParseAddrPort(s)
		return err != nil || !router.Usable(a, f.Network == string(config.Private))
	})
	switch {
	case len(kept) > 0:
		return kept, nil
	case f.Network == string(config.Private):
		return nil, usage("name a node by an address that others reach it at", "no node can be at %s", addrs[0])
	}
	return nil, usage("to ask a node at a private address, also one of the public network, add --network private",
		"%s is no address of the public network", addrs[0])
}

// node runs ask with a node that knows these others. ctx is that of ask.
func (f *clientFlags) node(ctx context.Context, bootstrap []string, ask func(*router.Node) error) error {
	conns, err := listenAny(ctx)
	if err != nil {
		return err
	}
	n, err := router.New(router.Config{
		Conns:     conns,
		Bootstrap: bootstrap,
		Private:   f.Network == string(config.Private),
		ReadOnly:  true,
	})
	if err != nil {
		return failed(err, "this is a fault of the program", "cannot make a node")
	}
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the lookup, and ends after it
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(runCtx) // it fails only to close sockets, and they end with the process
	}()
	err = ask(n)
	stop()
	<-done
	return err
}

// enough is how many nodes a lookup begins with, if there are so many; settled is how long none may have come to those
// that there are, for instance because the others no longer answer.
const (
	enough  = 8
	settled = 500 * time.Millisecond
)

// patience is how long a node may take to answer before that is worth telling.
const patience = time.Second

// acquaint waits until the node knows enough others to look something up: it need not have found its own place, which
// is of use to servers only. While nobody has answered, waiting is called with the time that this takes.
func acquaint(ctx context.Context, n *router.Node, waiting func(time.Duration)) error {
	begun := time.Now()
	known, since := 0, begun
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		contacts := 0
		for _, f := range n.Stats().Families {
			contacts += f.Good
		}
		if contacts != known {
			known, since = contacts, time.Now()
		}
		if contacts >= enough || contacts > 0 && time.Since(since) >= settled {
			return nil
		}
		select {
		case <-n.Ready():
			return nil
		case <-tick.C:
			if waited := time.Since(begun); contacts == 0 && waited >= patience {
				waiting(waited)
			}
		case <-ctx.Done():
			if contacts > 0 {
				return nil // it may be all there are; the lookup will tell
			}
			return ctx.Err()
		}
	}
}

// listenAny opens a socket of each family that the machine has.
func listenAny(ctx context.Context) ([]router.Conn, error) {
	var conns []router.Conn
	var errs []error
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		c, err := router.Listen(ctx, netip.AddrPortFrom(a, 0))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		conns = append(conns, c...)
	}
	if len(conns) == 0 {
		return nil, failed(errors.Join(errs...), "check the network configuration and the limit of open files", "cannot open a UDP socket")
	}
	return conns, nil
}

// resolveAll turns the HOST:PORT of several nodes into addresses, all at once. The error is that of the first, if none
// has an address.
func resolveAll(ctx context.Context, hostports []string) ([]string, error) {
	found, errs := make([][]netip.AddrPort, len(hostports)), make([]error, len(hostports))
	var wg sync.WaitGroup
	for i, h := range hostports {
		wg.Go(func() { found[i], errs[i] = resolve(ctx, h) })
	}
	wg.Wait()
	var all []string
	for _, addrs := range found {
		for _, a := range addrs {
			if s := a.String(); !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case len(errs) == 1:
		return nil, errs[0]
	}
	hint := "check the network and the name server of this machine, or name a node by its IP address with --bootstrap"
	return nil, &failure{code: exitUnreachable, msg: "cannot resolve any node to begin with", err: errs[0], hint: hint}
}

// resolve turns HOST:PORT into addresses, those of the literal or of the name.
func resolve(ctx context.Context, hostport string) ([]netip.AddrPort, error) {
	if e := config.CheckHostPort(hostport); e != nil {
		return nil, usage(e.Hint, "%s", e.Msg)
	}
	if a, err := netip.ParseAddrPort(hostport); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}, nil
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, usage("write HOST:PORT", "%s", err)
	}
	p, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, usage("write a port number", "%s", err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, &failure{code: exitUnreachable, msg: "cannot resolve " + host, err: err, hint: "check the name, or give an IP address"}
	}
	out := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		out[i] = netip.AddrPortFrom(a.Unmap(), uint16(p)) // LookupPort gives 0 to 65535
	}
	return out, nil
}
