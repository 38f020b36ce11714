package gateway

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"kdht/router"
	"kdht/router/krpc"
)

const (
	// maxNames bounds the names that a box keeps.
	maxNames = 4096
	// nameTries is how often a change is tried again that met another box's.
	nameTries = 8
)

// tombstone is the value of a name that was removed. It stays for a while, so that no older version comes back.
var tombstone = []byte("0:")

// name reads the name of a path. It is the salt of its item.
func (g *Gateway) name(r *http.Request) ([]byte, error) {
	if !g.fleet.known {
		return nil, &Problem{Status: http.StatusNotFound, Code: "no-fleet",
			Detail: "This box keeps no names, because its configuration has neither names.key nor names.secret."}
	}
	name := r.PathValue("name")
	switch {
	case len(name) > krpc.MaxSalt:
		return nil, bad("name", "The name has %d bytes, and may have %d.", len(name), krpc.MaxSalt)
	case !utf8.ValidString(name):
		return nil, bad("name", "The name is not UTF-8.")
	}
	for _, c := range name {
		if unicode.IsControl(c) {
			return nil, bad("name", "The name has a control character.")
		}
	}
	return []byte(name), nil
}

// getName serves the value of a name.
func (g *Gateway) getName(w http.ResponseWriter, r *http.Request, who Caller) error {
	name, err := g.name(r)
	if err != nil {
		return err
	}
	if len(name) == 0 { // the path of the list with a slash at its end
		return g.listNames(w, r, who)
	}
	it, err := g.mutable(r, g.fleet.public, name)
	if errors.Is(err, router.ErrNotFound) {
		return &Problem{Status: http.StatusNotFound, Code: "not-found", Detail: fmt.Sprintf("Nobody in the network knows the name %s.", printable(string(name)))}
	}
	if err != nil {
		return err
	}
	if string(it.V) == string(tombstone) {
		return &Problem{Status: http.StatusNotFound, Code: "removed", Seq: &it.Seq, Detail: fmt.Sprintf("The name %s was removed.", printable(string(name)))}
	}
	return serveMutable(w, r, it)
}

// putName gives a name a value: the bytes of the body, whatever they are.
func (g *Gateway) putName(w http.ResponseWriter, r *http.Request, who Caller) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}
	if len(body) == 0 {
		return bad("value", "The body is empty, which is what a removed name has: DELETE removes it.")
	}
	v := encodeString(body)
	if p := checkValue(v); p != nil {
		return p
	}
	return g.changeName(w, r, who, v)
}

// deleteName removes a name.
func (g *Gateway) deleteName(w http.ResponseWriter, r *http.Request, who Caller) error {
	return g.changeName(w, r, who, tombstone)
}

// changeName signs and stores a value.
func (g *Gateway) changeName(w http.ResponseWriter, r *http.Request, who Caller, v []byte) error {
	name, err := g.name(r)
	if err != nil {
		return err
	}
	removing := string(v) == string(tombstone)
	switch {
	case len(name) == 0:
		return bad("name", "The name is empty.")
	case g.fleet.secret == nil:
		return &Problem{Status: http.StatusForbidden, Code: "no-secret",
			Detail: "This box can only read names: it has not got the fleet's secret key, names.secret in its configuration. Ask a box that has."}
	}
	cond, p := conditionOf(r)
	if p != nil {
		return p
	}
	it := router.Item{Mutable: true, K: g.fleet.public, Salt: name, V: v}
	build := func(current *router.Item) (router.Item, *int64, error) {
		present := current
		if current != nil && string(current.V) == string(tombstone) {
			present = nil
		}
		if removing && present == nil {
			return it, nil, &Problem{Status: http.StatusNotFound, Code: "not-found", Detail: fmt.Sprintf("There is no name %s.", printable(string(name)))}
		}
		if _, err := cond.cas(present); err != nil {
			return it, nil, err
		}
		next, _, err := signNext(it, g.fleet.secret, condition{}, current)
		if err != nil || current == nil || cond.none() {
			return next, nil, err
		}
		return next, &current.Seq, nil // which may be that of a tombstone
	}
	if !removing && g.full(name) {
		return &Problem{Status: http.StatusInsufficientStorage, Code: "too-many-names", Detail: fmt.Sprintf("This box knows %d names and takes no new ones: remove some.", maxNames)}
	}
	var s Stored
	var created bool
	for try := range nameTries { // of two changes at once both get a turn, unless a condition forbids it
		s, created, err = g.update(r, it.K, it.Salt, build, router.Keep())
		var e *krpc.Error
		if !errors.As(err, &e) || e.Code != krpc.ErrCodeSeq || try == nameTries-1 {
			break
		}
		select {
		case <-time.After(rand.N(time.Duration(try+1) * 50 * time.Millisecond)):
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	if err != nil {
		return err
	}
	what := "name changed"
	if removing {
		what = "name removed"
	}
	g.log.Info(what, "name", string(name), "seq", *s.Seq, "stored", s.Stored, "by", who.Name, "from", r.RemoteAddr)
	if removing {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Etag", etag(*s.Seq, formRaw))
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return serveJSON(w, code, s)
}

// full reports whether there is no room for a name that is not known yet.
func (g *Gateway) full(name []byte) bool {
	if g.store.Holds(krpc.MutableTarget(g.fleet.public[:], name)) {
		return false
	}
	items, err := g.store.SignedBy(g.fleet.public, maxNames)
	return err == nil && len(items) >= maxNames
}

// Names are the names known to a box.
type Names struct {
	Fleet string      `json:"fleet"` // public key
	Names []NameEntry `json:"names"` // in order
	// Partial says that there are more boxes than those that store a name, so that there may be names that this one does not know. Else
	// it knows all that are older than the hour after which every box tells the others.
	Partial bool `json:"partial"`
}

// NameEntry is one name.
type NameEntry struct {
	Name string `json:"name"`
	Seq  int64  `json:"seq"`
	Size int    `json:"size"` // of the value, in bytes
}

// maxWhole is how many other boxes a box may know and have everything: a name is stored at the eight that are closest to it.
const maxWhole = 7

// partial reports whether names may be stored elsewhere that are not stored here.
func (g *Gateway) partial() bool {
	return slices.ContainsFunc(g.node.Stats().Families, func(f router.FamilyStats) bool { return f.Contacts > maxWhole })
}

// listNames serves the names that are stored here: all of them in a fleet of up to eight boxes, where each has everything.
func (g *Gateway) listNames(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if _, err := g.name(r); err != nil {
		return err
	}
	items, err := g.store.SignedBy(g.fleet.public, 2*maxNames)
	if err != nil {
		return err
	}
	list := Names{Fleet: fmt.Sprintf("%x", g.fleet.public), Names: []NameEntry{}, Partial: g.partial()}
	for _, it := range items {
		v, ok := stringOf(it.V)
		if ok && len(v) > 0 && len(it.Salt) > 0 && utf8.Valid(it.Salt) {
			list.Names = append(list.Names, NameEntry{string(it.Salt), it.Seq, len(v)})
		}
	}
	if list.Partial {
		w.Header().Set("Kdht-Partial", "true")
	}
	w.Header().Set("Cache-Control", "no-cache")
	return serveJSON(w, http.StatusOK, list)
}
