package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"tailscale.com/client/tailscale/apitype"
	"tailscale.com/tailcfg"

	"kdht/appliance/gateway"
)

// Identity is who sends a request.
type Identity struct {
	Name  string // for people and the audit log: user or tags, and node, as in "alice@example.org (laptop)"
	Roles Role
	// ID is the same whatever he and his node are called, and however many nodes he has: of his user, or of the tags.
	ID string

	who   *apitype.WhoIsResponse
	still func(context.Context) Role // his roles by now
}

// May reports whether he has any of these roles.
func (i Identity) May(any Role) bool { return i.Roles&any != 0 }

func identityOf(who *apitype.WhoIsResponse, roles Role) Identity {
	name := strings.Join(principals(who), " ")
	if who.Node != nil {
		node, _, _ := strings.Cut(who.Node.Name, ".")
		name = strings.TrimSpace(name + " (" + node + ")")
	}
	return Identity{Name: name, Roles: roles, ID: idOf(who.Node), who: who}
}

// idOf names whose a node is by what nobody but the tailnet's administrators can change.
func idOf(n *tailcfg.Node) string {
	switch {
	case n == nil:
		return ""
	case len(n.Tags) > 0:
		return strings.Join(slices.Sorted(slices.Values(n.Tags)), " ")
	}
	return userID(n.User)
}

// userID names a user, who may have another login name tomorrow.
func userID(u tailcfg.UserID) string { return "user " + strconv.FormatInt(int64(u), 10) }

type identityKey struct{}

// IdentityOf gives the caller of a request that came over the tailnet; false for any other.
func IdentityOf(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(identityKey{}).(Identity)
	return i, ok
}

// Authority is the authority of the gateway for requests that came over the tailnet: viewers read, operators do everything.
func Authority(r *http.Request) (gateway.Caller, error) {
	who, _ := IdentityOf(r.Context())
	c := gateway.Caller{Name: who.Name, ID: who.ID}
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
