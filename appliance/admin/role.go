package admin

import (
	"slices"
	"strings"

	"tailscale.com/client/tailscale/apitype"
	"tailscale.com/tailcfg"

	"kdht/config"
)

// Role is a set of things that a caller may do.
type Role uint8

// The roles. Whoever has any may look.
const (
	// Viewer may look at everything but secrets.
	Viewer Role = 1 << iota
	// Operator may change the configuration, restart, take and restore backups, take profiles, and write through the gateway.
	Operator
	// Updater may update the appliance.
	Updater
)

// Capability is the application capability that gives roles: its values are objects with a list "roles".
const Capability tailcfg.PeerCapability = "kdht.internal/cap/admin"

// grant is a value of [Capability].
type grant struct {
	Roles []string `json:"roles"`
}

var roleNames = []struct {
	role Role
	name string
}{{Viewer, "viewer"}, {Operator, "operator"}, {Updater, "updater"}}

// Names lists the names of the roles.
func (r Role) Names() []string {
	names := []string{}
	for _, x := range roleNames {
		if r&x.role != 0 {
			names = append(names, x.name)
		}
	}
	return names
}

func (r Role) String() string {
	if r == 0 {
		return "nobody"
	}
	return strings.Join(r.Names(), ", ")
}

// rolesOf gives the roles of a peer: what the tailnet's policy grants, or if it grants nothing here, what the configuration says.
func rolesOf(who *apitype.WhoIsResponse, c config.Tailnet) (r Role) {
	if _, granted := who.CapMap[Capability]; granted {
		// Without the capability there would be no error either. With an error, it grants something, and nobody knows what.
		grants, err := tailcfg.UnmarshalCapJSON[grant](who.CapMap, Capability)
		if err != nil {
			return 0
		}
		for _, g := range grants {
			for _, x := range roleNames {
				if slices.Contains(g.Roles, x.name) {
					r |= x.role
				}
			}
		}
		return r.whole()
	}
	names := principals(who)
	for _, x := range []struct {
		role Role
		list []string
	}{{Viewer, c.Viewers}, {Operator, c.Operators}, {Updater, c.Updaters}} {
		if slices.ContainsFunc(x.list, func(s string) bool { return slices.Contains(names, s) }) {
			r |= x.role
		}
	}
	return r.whole()
}

// whole adds that whoever may do anything may look.
func (r Role) whole() Role {
	if r != 0 {
		r |= Viewer
	}
	return r
}

// principals are the names that the lists of the configuration may have for a peer: its tags, or else its user's login name.
// A tagged node belongs to nobody, whatever its user profile says.
func principals(who *apitype.WhoIsResponse) []string {
	switch {
	case who.Node == nil:
		return nil
	case len(who.Node.Tags) > 0:
		return who.Node.Tags
	case who.UserProfile != nil && who.UserProfile.LoginName != "":
		return []string{who.UserProfile.LoginName}
	}
	return nil
}
