package gateway

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"kdht/appliance/status"
)

//go:embed openapi.yaml
var openAPI []byte

// About says what the box is to a caller.
type About struct {
	Version string   `json:"version"`
	Network string   `json:"network"`
	Caller  string   `json:"caller"` // as whom the box knows the caller
	May     []string `json:"may"`    // read, put, name, sign
	// Box is the public key that the box signs items with, for callers that may sign; Fleet that of the names. Missing if there
	// is none.
	Box   string `json:"box,omitempty"`
	Fleet string `json:"fleet,omitempty"`
	// Names says whether the box can change names.
	Names bool `json:"names"`
}

func (g *Gateway) about(w http.ResponseWriter, _ *http.Request, who Caller) error {
	a := About{Version: g.version, Network: string(g.config.Network), Caller: who.Name, May: []string{}, Box: publicKey(g.box), Names: g.fleet.secret != nil}
	if g.fleet.known {
		a.Fleet = hex.EncodeToString(g.fleet.public[:])
	}
	for _, r := range []struct {
		right Rights
		name  string
	}{{Read, "read"}, {Put, "put"}, {Name, "name"}, {Sign, "sign"}} {
		if who.May(r.right) {
			a.May = append(a.May, r.name)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	return serveJSON(w, http.StatusOK, a)
}

func (g *Gateway) openAPI(w http.ResponseWriter, r *http.Request, _ Caller) error {
	w.Header().Set("Cache-Control", "no-cache")
	return serveBytes(w, "application/yaml", openAPI)
}

// section is the gateway's part of the status page.
func (g *Gateway) section() status.Section {
	s := status.Section{Title: "HTTP for programs"}
	add := func(name, format string, args ...any) {
		s.Facts = append(s.Facts, status.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	readers := "this machine and holders of a token"
	if g.config.Readable() && len(g.config.Gateway.Allow) > 0 {
		var all []string
		for _, p := range g.config.Gateway.Allow {
			all = append(all, p.String())
		}
		readers += ", and " + strings.Join(all, ", ")
	}
	add("May read", "%s", readers)
	add("Tokens", "%d", len(g.config.Gateway.Tokens))
	if g.box != nil {
		add("Key of the box", "%s", publicKey(g.box))
	}
	if g.fleet.known {
		how := "read only"
		if g.fleet.secret != nil {
			how = "can be changed here"
		}
		add("Names of the fleet", "%x, %s", g.fleet.public, how)
	}
	return s
}
