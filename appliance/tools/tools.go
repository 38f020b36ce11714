package tools

import (
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"os"

	"kdht/appliance"
	"kdht/appliance/gateway"
	"kdht/appliance/status"
	"kdht/router"
)

//go:embed pages.html
var pagesText string

var pages = template.Must(status.Frame(template.New("pages")).Parse(pagesText))

// maxLookups bounds the lookups under way for people who look at them.
const maxLookups = 4

// tools serves the pages.
type tools struct {
	node   *router.Node
	log    *slog.Logger
	caller gateway.Authority
	client func(*http.Request) bool // one for whom the node carries out recursive queries
	places chan struct{}            // holds one for each lookup under way
	from   string                   // what our own forms send along, and no other page knows
}

// Extension adds the tools to the status page. More authorities may know more people who may look things up than the
// configuration does.
func Extension(more ...gateway.Authority) appliance.Extension {
	return func(h *appliance.Host) error {
		t := &tools{from: rand.Text(), node: h.Node, log: h.Log, places: make(chan struct{}, maxLookups), client: gateway.From(h.Config.Recursion.Allow),
			caller: gateway.Union(append([]gateway.Authority{gateway.Configured(h.Config)}, more...)...)}
		h.Handle("GET /lookup", status.Secure(http.HandlerFunc(t.lookup)))
		h.Handle("GET /decode", status.Secure(http.HandlerFunc(t.decode)))
		h.Amend(func(r *status.Report) { r.Tools = t.from })
		return nil
	}
}

// may is nil if whoever sends a request may have the node look something up: he may read over HTTP, or is one for whom the
// node carries out recursive queries anyway.
func (t *tools) may(r *http.Request) error {
	silent := r.Header.Get("Sec-Fetch-Site") == "" // browsers say it over HTTPS and to localhost
	own := silent && subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("from")), []byte(t.from)) == 1
	if !own && !appliance.ByOurPage(r) {
		return errors.New("you come from another page, or from none: press the button if that is what you want")
	}
	if t.client(r) {
		return nil
	}
	who, err := t.caller(r)
	if err != nil {
		return err
	}
	if !who.May(gateway.Read) {
		return errors.New("this box looks things up for programs on the machine itself, and for the addresses in recursion.allow of its configuration, and yours is neither")
	}
	return nil
}

// head is that of a page.
func (t *tools) head(title string, r *http.Request) status.Head {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return status.Head{Title: title, Name: name, Here: r.URL.Path, Tools: true}
}

// write writes a part of a page.
func (t *tools) write(w http.ResponseWriter, part string, x any) bool {
	if err := pages.ExecuteTemplate(w, part, x); err != nil { // the client has gone, or the template is wrong
		t.log.Debug("page not sent", "part", part, "err", err)
		return false
	}
	return true
}
