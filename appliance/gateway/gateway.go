package gateway

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"kdht/appliance"
	"kdht/appliance/buildinfo"
	"kdht/appliance/status"
	"kdht/config"
	"kdht/router"
	"kdht/store"
)

const (
	// patience bounds a lookup or a put for a client.
	patience = 20 * time.Second
	// maxBody bounds the body of a request, in bytes: the longest value in a document, in hexadecimal digits, fits.
	maxBody = 8 << 10
)

// Options are what a [Gateway] is made from.
type Options struct {
	Config config.Config
	Node   *router.Node
	Store  *store.Store
	Log    *slog.Logger
	// Version is the program's.
	Version string
	// Authorities say who may do what, beside those of the configuration, which says with "operators" in gateway.sign whether the box signs
	// for whom these let.
	Authorities []Authority
}

// Gateway answers programs. All methods may be called by any goroutine.
type Gateway struct {
	config  config.Config
	node    *router.Node
	store   *store.Store
	log     *slog.Logger
	version string
	caller  Authority // all of them
	rates   *rates
	places  chan struct{} // holds one for each lookup or put under way
	lookups singleflight.Group

	box   ed25519.PrivateKey // nil: the box signs for nobody
	fleet fleet
	pkarr publishing
	notes []string // what went less than well at the start

	counted counts
	ledger  ledger
}

// counts are the requests by what came of them: "served", or the code of the problem. The zero value has none.
type counts struct {
	mu sync.Mutex
	of map[string]uint64
}

func (c *counts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[string]uint64)
	}
	c.of[what]++
}

// list gives them in order.
func (c *counts) list() (all []status.Counter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(c.of)) {
		all = append(all, status.Counter{Group: "http request", Name: what, Value: c.of[what]})
	}
	return all
}

// New makes a gateway. What of the configuration does not work is said by [Gateway.Problems].
func New(o Options) *Gateway {
	c := o.Config.Gateway
	g := &Gateway{
		config: o.Config, node: o.Node, store: o.Store, log: o.Log, version: o.Version,
		caller: Union(append(granted(c, o.Authorities), Configured(o.Config))...), // who is known by more than an address has that name
		rates:  newRates(c.PerSecond, c.Burst),
		places: make(chan struct{}, maxLookups),
		ledger: ledger{store: o.Store, log: o.Log, now: time.Now},
	}
	g.takeKeys()
	return g
}

// Extension adds the gateway to a node. More authorities may know more callers than the configuration does.
func Extension(more ...Authority) appliance.Extension {
	return func(h *appliance.Host) error {
		g := New(Options{Config: h.Config, Node: h.Node, Store: h.Store, Log: h.Log, Version: buildinfo.Read().String(), Authorities: more})
		handler := g.Handler()
		h.Handle("/v1", handler)
		h.Handle("/v1/", handler)
		h.HandleIf(isRelayed, http.HandlerFunc(g.relay))
		h.UnderAnyName(func(r *http.Request) bool { return isOurs(r) && g.allowedOrigin(r) != "" })
		h.Section(g.section)
		h.Problems(g.Problems)
		h.Amend(func(r *status.Report) { r.Node = append(r.Node, g.counted.list()...) })
		if g.fleet.known {
			h.Task(newKeeper(g))
		}
		return nil
	}
}

// isOurs picks the requests that the gateway answers.
func isOurs(r *http.Request) bool {
	return r.URL.Path == "/v1" || strings.HasPrefix(r.URL.Path, "/v1/") || isRelayed(r)
}

// Problems says what of the configuration does not work.
func (g *Gateway) Problems() []string { return slices.Clone(g.notes) }

// handle answers one method of one path. A returned error is answered as a problem document, if nothing was written yet.
type handle func(w http.ResponseWriter, r *http.Request, who Caller) error

// route is a path with its methods; HEAD is answered as GET is.
type route struct {
	pattern string
	get     handle
	put     handle
	del     handle
	open    bool // GET costs next to nothing: what a page of another site makes a browser ask for is answered, too
}

func (t route) methods() (all []string) {
	if t.get != nil {
		all = append(all, http.MethodGet, http.MethodHead)
	}
	if t.put != nil {
		all = append(all, http.MethodPut)
	}
	if t.del != nil {
		all = append(all, http.MethodDelete)
	}
	return all
}

func (t route) handle(method string) handle {
	switch method {
	case http.MethodGet, http.MethodHead:
		return t.get
	case http.MethodPut:
		return t.put
	case http.MethodDelete:
		return t.del
	}
	return nil
}

// Handler serves everything under /v1.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, t := range []route{
		{pattern: "/v1", get: g.about, open: true},
		{pattern: "/v1/{$}", get: g.about, open: true},
		{pattern: "/v1/openapi.yaml", get: g.openAPI, open: true},
		{pattern: "/v1/items", put: g.putImmutable},
		{pattern: "/v1/items/{id}", get: g.getItem, put: g.putMutable, del: g.dropItem},
		{pattern: "/v1/items/{id}/{salt...}", get: g.getItem, put: g.putMutable, del: g.dropItem},
		{pattern: "/v1/peers/{infohash}", get: g.getPeers},
		{pattern: "/v1/names", get: g.listNames},
		{pattern: "/v1/names/{name...}", get: g.getName, put: g.putName, del: g.deleteName},
	} {
		mux.HandleFunc(t.pattern, func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, t) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		g.serve(w, r, route{get: nowhere, put: nowhere, del: nowhere})
	})
	return mux
}

func nowhere(http.ResponseWriter, *http.Request, Caller) error {
	return &Problem{Status: http.StatusNotFound, Code: "no-such-path", Detail: "There is no such path; /v1/openapi.yaml describes those that there are."}
}

// serve answers a request.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, t route) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Referrer-Policy", "no-referrer")
	if g.cors(w, r, t.methods()) {
		return
	}
	err := g.answer(w, r, t)
	if err == nil {
		g.counted.add("served")
		return
	}
	p := problemOf(err)
	g.counted.add(p.Code)
	if p.Code == "internal" {
		g.log.Warn("a request could not be answered", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if p == errAnotherPage && status.Quality(accept, "text", "html") > status.Quality(accept, "application", "json") {
		status.Doubt(w, r)
		return
	}
	p.serve(w)
}

// errAnotherPage answers what a page of another site may have a browser ask for.
var errAnotherPage = &Problem{Status: http.StatusForbidden, Code: "another-page",
	Detail: "A page of another site may have made the browser ask for this, so nothing was looked up. Open the address by itself, or put the page's origin into gateway.origins of the box's configuration."}

// wanted reports whether a lookup may be taken for the wish of who sends the request, and not of a page that his browser shows and that the
// configuration does not name.
func (g *Gateway) wanted(r *http.Request) bool {
	return g.allowedOrigin(r) != "" || slices.Contains(g.config.Gateway.Origins, "*") || appliance.ByOurPage(r)
}

func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, t route) error {
	if !remote(r).IsLoopback() && !g.rates.admit(remote(r), time.Now()) {
		return tooMany()
	}
	handle := t.handle(r.Method)
	if handle == nil {
		return &Problem{Status: http.StatusMethodNotAllowed, Code: "method", Allow: strings.Join(append(t.methods(), http.MethodOptions), ", "),
			Detail: "This path has no method " + printable(r.Method) + "."}
	}
	who, err := g.caller(r)
	if err != nil {
		return err
	}
	need := Read
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
	case strings.HasPrefix(r.URL.Path, "/v1/names"), r.Method == http.MethodDelete:
		need = Name
	default:
		need = Put
	}
	if err := g.allowed(r, who, need); err != nil {
		return err
	}
	if need == Read && !t.open && !g.wanted(r) {
		return errAnotherPage
	}
	if need != Read {
		appliance.KeepConnection(r.Context())
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	err = handle(w, r, who)
	if err == nil && need != Read && who.Rights&^(Read|Put) != 0 {
		g.ledger.note(who, r)
	}
	return err
}

// allowed is nil if a caller may do something, else the problem that says what would let him.
func (g *Gateway) allowed(r *http.Request, who Caller, need Rights) error {
	if who.May(need) {
		return nil
	}
	p := &Problem{Status: http.StatusForbidden, Code: "forbidden"}
	switch {
	case need == Sign && who.Rights != 0:
		p.Detail = "The box does not sign for you: gateway.sign in its configuration says for whom it does. Sign the item yourself and send it as application/json."
		return p
	case need == Read:
		p.Detail = "This box answers such requests to programs on the machine itself and to holders of a token"
		if g.config.Readable() {
			p.Detail += ", and to the addresses in gateway.allow"
		} else {
			p.Detail += "; gateway.read in its configuration lets others read"
		}
	default:
		p.Detail = "Only programs on the machine itself, addressed as localhost or by IP address, and holders of a token may write"
		if local(r) {
			p.Detail = "A request from the machine itself may write when it is addressed to localhost or an IP address, comes through no proxy and from no web page of another origin"
		}
	}
	p.Detail += `. A token of gateway.tokens goes into the header "Authorization: Bearer SECRET".`
	if len(g.config.Gateway.Tokens) > 0 {
		p.Status, p.Code = http.StatusUnauthorized, "token-missing"
	}
	return p
}

// within runs a lookup or put for a client, if there is a place, and gives it its time.
func (g *Gateway) within(ctx context.Context, do func(context.Context) error) error {
	end, ok := g.begin()
	if !ok {
		return busy()
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return do(ctx)
}

// alone reports whether the node is all there is of its network.
func (g *Gateway) alone() bool {
	if len(g.config.Bootstrap) > 0 {
		return false
	}
	for _, f := range g.node.Stats().Families {
		if f.Contacts > 0 {
			return false
		}
	}
	return true
}

// printable bounds what of a request stands in an answer.
func printable(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return fmt.Sprintf("%q", s)
}
