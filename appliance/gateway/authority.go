package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"kdht/appliance"
	"kdht/appliance/tailnet"
	"kdht/config"
)

// Rights are what a caller may do.
type Rights uint8

// The rights.
const (
	// Read is to look up items, peers and names.
	Read Rights = 1 << iota
	// Put is to put items that carry their own proof: immutable ones, and those that the caller has signed.
	Put
	// Name is to change the fleet's names.
	Name
	// Sign is to have the box sign items with its own key.
	Sign
)

// Caller is who sends a request.
type Caller struct {
	Name   string // for the log, as in "loopback"
	Rights Rights
	// ID is what tells callers apart who may change their names; "": the name does.
	ID string
}

// May reports whether the caller has all of these rights.
func (c Caller) May(r Rights) bool { return c.Rights&r == r }

// Authority says who sends a request. Somebody it does not know has no rights. An error says that the request claims to be
// from somebody and does not prove it; it is a [*Problem] or answered as an internal one.
type Authority func(*http.Request) (Caller, error)

// Configured is the authority of a configuration: tokens, the machine itself, the LAN.
func Configured(c config.Config) Authority {
	return Union(tokens(c.Gateway), loopback(c.Gateway), lan(c))
}

// Union asks several authorities: the rights add up, and the name is that of the first that knows the caller.
func Union(all ...Authority) Authority {
	return func(r *http.Request) (who Caller, err error) {
		for _, a := range all {
			c, err := a(r)
			if err != nil {
				return Caller{}, err
			}
			if c.Rights == 0 {
				continue
			}
			if who.Name == "" {
				who.Name, who.ID = c.Name, c.ID
			}
			who.Rights |= c.Rights
		}
		return who, nil
	}
}

// granted takes from authorities beside the configuration the right to have the box sign, unless it grants that to operators.
func granted(c config.Gateway, all []Authority) []Authority {
	if slices.Contains(c.Sign, config.Operators) {
		return slices.Clone(all)
	}
	var out []Authority
	for _, a := range all {
		out = append(out, func(r *http.Request) (Caller, error) {
			who, err := a(r)
			who.Rights &^= Sign
			return who, err
		})
	}
	return out
}

// tokens knows the bearer tokens of the configuration (RFC 6750). They are too long to be guessed.
func tokens(c config.Gateway) Authority {
	type holder struct {
		hash [sha256.Size]byte
		Caller
	}
	var all []holder
	for _, t := range c.Tokens {
		all = append(all, holder{sha256.Sum256([]byte(t.Secret)), Caller{Name: t.Name, Rights: rightsOf(c, t.Name)}})
	}
	return func(r *http.Request) (Caller, error) {
		header := r.Header.Get("Authorization")
		if header == "" {
			return Caller{}, nil
		}
		scheme, secret, _ := strings.Cut(header, " ")
		hash := sha256.Sum256([]byte(strings.TrimSpace(secret)))
		var who Caller
		for _, h := range all {
			if subtle.ConstantTimeCompare(h.hash[:], hash[:]) == 1 {
				who = h.Caller
			}
		}
		if !strings.EqualFold(scheme, "Bearer") || who.Rights == 0 {
			return Caller{}, &Problem{Status: http.StatusUnauthorized, Code: "token-unknown",
				Detail: `The Authorization header has no token of this box: send "Authorization: Bearer SECRET" with the secret of one in its configuration, gateway.tokens.`}
		}
		return who, nil
	}
}

// rightsOf are the rights of a caller with authority.
func rightsOf(c config.Gateway, name string) Rights {
	all := Read | Put | Name
	if slices.Contains(c.Sign, name) {
		all |= Sign
	}
	return all
}

// loopback knows programs on the machine itself.
func loopback(c config.Gateway) Authority {
	rights := rightsOf(c, config.Loopback)
	return func(r *http.Request) (Caller, error) {
		if !local(r) || relayed(r) || !appliance.OurName(r.Host, c.Hosts) || foreign(r, c) {
			return Caller{}, nil
		}
		return Caller{Name: config.Loopback, Rights: rights}, nil
	}
}

// lan knows the clients that may read.
func lan(c config.Config) Authority {
	rights := Read
	if c.Gateway.Put == config.PutReaders {
		rights |= Put
	}
	allowed := From(c.Gateway.Allow)
	return func(r *http.Request) (Caller, error) {
		if !c.Readable() || !allowed(r) {
			return Caller{}, nil
		}
		if foreign(r, c.Gateway) { // who may look at answers, browsers say; who may put anything, we do
			return Caller{Name: "lan", Rights: Read}, nil
		}
		return Caller{Name: "lan", Rights: rights}, nil
	}
}

// From tells the requests that come from these prefixes, and from the tailnets that they stand for.
func From(prefixes []netip.Prefix) func(*http.Request) bool {
	tailnets := tailnet.Of(prefixes)
	return func(r *http.Request) bool {
		from := remote(r)
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(from) }) || tailnets.Contains(from, localAddr(r))
	}
}

// localAddr is the address of ours that a request came to.
func localAddr(r *http.Request) netip.Addr {
	a, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if a == nil {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap().WithZone("")
}

// remote is the address that a request comes from.
func remote(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// local reports whether a request comes from the machine itself: over the loopback interface, or from the address that it
// went to, from which nobody else can open a connection.
func local(r *http.Request) bool {
	from := remote(r)
	if from.IsLoopback() {
		return true
	}
	return from.IsValid() && from == localAddr(r)
}

// relayed reports whether a proxy has passed a request on.
func relayed(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return true
		}
	}
	return false
}

// foreign reports whether a browser sends a request for a page of another origin, which the configuration does not name. A page under a
// name that may be somebody else's is one as well, though the request goes to the same (DNS rebinding).
func foreign(r *http.Request, c config.Gateway) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		site := r.Header.Get("Sec-Fetch-Site")
		return site != "" && site != "same-origin" && site != "none"
	}
	if slices.Contains(c.Origins, origin) {
		return false // "*" lets pages read; to write they must be named
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host || !appliance.OurName(r.Host, c.Hosts)
}
