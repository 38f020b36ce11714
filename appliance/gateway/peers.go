package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"

	"kdht/router"
	"kdht/router/krpc"
)

// Peers are the peers of an infohash.
type Peers struct {
	Infohash string   `json:"infohash"`
	Peers    []string `json:"peers"` // ADDR:PORT
	// Seeds and Downloaders are how many there are, as far as nodes count them (BEP 33); missing if none does, or if it was
	// not asked for.
	Seeds       *int64 `json:"seeds,omitempty"`
	Downloaders *int64 `json:"downloaders,omitempty"`
}

// getPeers serves the peers of an infohash.
func (g *Gateway) getPeers(w http.ResponseWriter, r *http.Request, _ Caller) error {
	infohash, err := krpc.ParseID(r.PathValue("infohash"))
	if err != nil {
		return bad("infohash", "%s is no infohash of 40 hexadecimal digits.", printable(r.PathValue("infohash")))
	}
	var opts []router.Option
	for name, option := range map[string]func() router.Option{"noseed": router.WithoutSeeds, "count": router.WithScrape} {
		yes, err := asked(r, name)
		if err != nil {
			return err
		}
		if yes {
			opts = append(opts, option())
		}
	}
	var res *router.PeersResult
	err = g.within(r.Context(), func(ctx context.Context) (err error) {
		res, err = g.node.Peers(ctx, infohash, opts...)
		return err
	})
	if errors.Is(err, router.ErrNoNodes) && g.alone() {
		res, err = &router.PeersResult{}, nil
	}
	if err != nil {
		return err
	}
	p := Peers{Infohash: infohash.String(), Peers: make([]string, len(res.Peers))}
	for i, a := range res.Peers {
		p.Peers[i] = a.String()
	}
	if res.Counted > 0 {
		p.Seeds, p.Downloaders = whole(res.Seeds), whole(res.Downloaders)
	}
	w.Header().Set("Cache-Control", "no-cache")
	return serveJSON(w, http.StatusOK, p)
}

func whole(x float64) *int64 {
	n := int64(math.Round(x))
	return &n
}

// asked reads a parameter of a query that is true or false, which it is if it is not there.
func asked(r *http.Request, name string) (bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, bad("query", "%s of the query is %s, and may be true or false.", name, printable(v))
	}
}
