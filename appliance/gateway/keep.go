package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// maxKept bounds the items that a box keeps, the names of its fleet among them.
const maxKept = 2 * maxNames

// keeping reads from a request to put something whether the box is to keep it: then it puts it again every hour, for as long as
// it runs, and it does not expire, until it is deleted. That takes the right to write, since it has no other bound than maxKept.
func (g *Gateway) keeping(r *http.Request, who Caller) ([]router.Option, error) {
	keep, err := asked(r, "keep")
	if err != nil || !keep {
		return nil, err
	}
	if err := g.allowed(r, who, Name); err != nil {
		return nil, err
	}
	if g.store.Stats().OwnItems >= maxKept {
		return nil, &Problem{Status: http.StatusInsufficientStorage, Code: "too-many-kept", Detail: fmt.Sprintf("This box keeps %d items and takes no more to keep: delete some.", maxKept)}
	}
	return []router.Option{router.Keep()}, nil
}

// dropItem has the box keep an item no longer. It stays where it is until it expires, as nothing can be taken back from a DHT.
func (g *Gateway) dropItem(w http.ResponseWriter, r *http.Request, who Caller) error {
	id := r.PathValue("id")
	target, err := krpc.ParseID(id)
	if err != nil || strings.Contains(strings.TrimPrefix(r.URL.Path, "/v1/items/"), "/") {
		k, salt, err := mutablePath(r)
		if err != nil {
			return err
		}
		target = krpc.MutableTarget(k[:], salt)
		if g.fleet.known && k == g.fleet.public && len(salt) > 0 {
			return &Problem{Status: http.StatusForbidden, Code: "is-a-name", Detail: "This is a name of the fleet: delete it as /v1/names/NAME."}
		}
	}
	err = g.store.Disown(target)
	if errors.Is(err, store.ErrNotFound) {
		return &Problem{Status: http.StatusNotFound, Code: "not-kept", Detail: "The box does not keep this item. Only what was put with keep=true is kept."}
	}
	if err != nil {
		return err
	}
	g.log.Info("item kept no longer", "target", target, "by", who.Name, "from", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
