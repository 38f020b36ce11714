package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"kdht/config"
	"kdht/router"
)

// clientFlags are the flags of every command that asks other nodes.
type clientFlags struct {
	Bootstrap []string      `group:"dht" placeholder:"HOST:PORT" env:"KDHT_BOOTSTRAP" help:"Node to begin with; repeatable. Default: the public bootstrap nodes."`
	Network   string        `group:"dht" enum:"public,private" default:"public" env:"KDHT_NETWORK" help:"public: nodes have public addresses. private: a DHT of your own (${enum})."`
	Timeout   time.Duration `default:"30s" help:"Give up after this time."`
	JSON      bool          `name:"json" help:"Print one JSON document."`
}

// Validate checks the flags before anything is sent.
func (f *clientFlags) Validate() error {
	if f.Timeout <= 0 {
		return errors.New("--timeout must be more than 0s")
	}
	for _, b := range f.Bootstrap {
		if e := config.CheckHostPort(b); e != nil {
			return fmt.Errorf("--bootstrap: %s; %s", e.Msg, e.Hint)
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
	return f.node(s, bootstrap, ask)
}

// node runs ask with a node that knows these others.
func (f *clientFlags) node(s *system, bootstrap []string, ask func(context.Context, *router.Node) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, f.Timeout)
	defer cancel()
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
	runCtx, stop := context.WithCancel(context.WithoutCancel(s.ctx)) // it outlives the lookup, and ends after it
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(runCtx) // it fails only to close sockets, and they end with the process
	}()
	if len(bootstrap) > 0 {
		err = acquaint(ctx, n)
	}
	if err == nil {
		err = ask(ctx, n)
	}
	stop()
	<-done
	if err != nil && s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{code: exitUnreachable, msg: fmt.Sprintf("no result within %s", f.Timeout), hint: unreachableHint + "; or wait longer with --timeout"}
	}
	return err
}

// enough is how many nodes a lookup begins with, if there are so many.
const enough = 8

// acquaint waits until the node knows enough others to look something up: it need not have found its own place, which
// is of use to servers only.
func acquaint(ctx context.Context, n *router.Node) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		contacts := 0
		for _, f := range n.Stats().Families {
			contacts += f.Good
		}
		if contacts >= enough {
			return nil
		}
		select {
		case <-n.Ready():
			return nil
		case <-tick.C:
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
