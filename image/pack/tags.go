package pack

import (
	_ "embed"
	"strings"
)

//go:embed tags.txt
var tagsText string

// Tags are the build tags of the program, one a line in tags.txt, which the Makefile reads as well. They leave out of
// tailscale.com what a node within a program has no use for, such as tailscaled's command line, its SSH server, its logs' upload. Tailnet
// lock stays, because Tailscale's control server for tests needs it, and tests are built with the same tags; the client of its peers'
// interface stays, because tsnet panics at its end without it. The list is what this prints:
//
//	go run tailscale.com/cmd/featuretags --min --add=netstack,c2n,health,dns,ipnbus,gro,serve,acme,tailnetlock,peerapiclient | tr , '\n' | sort
func Tags() []string { return strings.Fields(tagsText) }
