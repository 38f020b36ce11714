package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Programs that ask for many things at once get them all, and what came of their requests is counted.
func TestManyAtOnce(t *testing.T) {
	f := fleet(t, 3, "names.secret", fleetSeed, "limits.queriesPerSecond", "10000")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for j := range 4 {
				text, path := fmt.Sprintf("%d of %d", j, i), fmt.Sprintf("/v1/names/%d", i)
				for _, r := range []struct {
					b            *box
					method, want string
				}{{f[0], http.MethodPut, `"stored":3`}, {f[1], http.MethodGet, text}} {
					req, err := http.NewRequest(r.method, r.b.url+path, strings.NewReader(text))
					if err != nil {
						t.Error(err)
						return
					}
					res, err := c.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					got, _ := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if !strings.Contains(string(got), r.want) {
						t.Errorf("%s %s: %s %s", r.method, path, res.Status, got)
					}
				}
			}
		})
	}
	wg.Wait()
	f[0].do("GET", nobody, "").is(t, http.StatusNotFound, "not-found")
	var served, missing uint64
	for _, c := range f[0].Host.Report().Node {
		switch {
		case c.Group == "http request" && c.Name == "served":
			served = c.Value
		case c.Group == "http request" && c.Name == "not-found":
			missing = c.Value
		}
	}
	if served == 0 || missing != 1 {
		t.Errorf("%d served, %d not found", served, missing)
	}
}
