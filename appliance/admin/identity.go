package admin

import (
	"context"
	"net/http"
	"strings"

	"tailscale.com/client/tailscale/apitype"

	"kdht/appliance/gateway"
)

// Identity is who sends a request.
type Identity struct {
	Name  string // for people and the audit log: user or tags, and node, as in "alice@example.org (laptop)"
	Roles Role

	who *apitype.WhoIsResponse
}

// May reports whether he has any of these roles.
func (i Identity) May(any Role) bool { return i.Roles&any != 0 }

func identityOf(who *apitype.WhoIsResponse, roles Role) Identity {
	name := strings.Join(principals(who), " ")
	if who.Node != nil {
		node, _, _ := strings.Cut(who.Node.Name, ".")
		name = strings.TrimSpace(name + " (" + node + ")")
	}
	return Identity{Name: name, Roles: roles, who: who}
}

type identityKey struct{}

// IdentityOf gives the caller of a request that came over the tailnet; false for any other.
func IdentityOf(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(identityKey{}).(Identity)
	return i, ok
}

// Authority is the authority of the gateway for requests that came over the tailnet: viewers read, operators do everything.
func Authority(r *http.Request) (gateway.Caller, error) {
	who, _ := IdentityOf(r.Context())
	c := gateway.Caller{Name: who.Name}
	if who.May(Viewer) {
		c.Rights |= gateway.Read
	}
	if who.May(Operator) {
		c.Rights |= gateway.Put | gateway.Name | gateway.Sign
	}
	return c, nil
}

// MayLook reports whether a request came over the tailnet from somebody who may look.
func MayLook(r *http.Request) bool {
	who, _ := IdentityOf(r.Context())
	return who.May(Viewer)
}
