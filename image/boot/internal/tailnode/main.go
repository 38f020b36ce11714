// Command tailnode makes the machine, or network namespace, that it runs in a node of a tailnet, as tailscaled does: what is sent through
// the interface ts0 goes there. It prints the IPv4 address that this is to be given, and stays until its standard input ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"tailscale.com/ipn/store/mem"
	"tailscale.com/net/netns"
	"tailscale.com/net/tstun"
	"tailscale.com/tsnet"
	"tailscale.com/types/logger"
)

const device = "ts0"

func main() {
	control := flag.String("control", "", "URL of the control server")
	name := flag.String("name", "", "name of the node")
	key := flag.String("key", "", "auth key")
	dir := flag.String("dir", "", "directory for files")
	flag.Parse()
	if err := run(*control, *name, *key, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(control, name, key, dir string) error {
	netns.SetEnabled(false) // no packet of its own takes the way through the tailnet: nothing has a route there but the tailnet's addresses
	tun, _, err := tstun.New(logger.Discard, device)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	s := &tsnet.Server{
		Dir: dir, ControlURL: control, Hostname: name, Store: new(mem.Store), Ephemeral: true, AuthKey: key, UserLogf: log.Printf, Tun: tun,
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	st, err := s.Up(ctx)
	if err != nil {
		return err
	}
	for _, a := range st.TailscaleIPs {
		if a.Is4() {
			fmt.Println(a)
		}
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
