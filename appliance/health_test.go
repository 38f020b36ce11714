package appliance_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/health"
)

// ready gets /readyz until f is content with it.
func ready(t *testing.T, url string, f func(code int, tree health.Tree) bool) {
	t.Helper()
	var code int
	var tree health.Tree
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // it starts
		}
		err = json.NewDecoder(res.Body).Decode(&tree)
		_ = res.Body.Close()
		if code = res.StatusCode; err == nil && f(code, tree) {
			return
		}
	}
	t.Fatalf("%d\n%s", code, tree.Text())
}

// A node is ready once it has answered its own query and has its place in the network, and not before, however well its
// page is served; what an extension has to say is a part of its health and does not keep it from being ready.
func TestReadyMeansThatTheDHTAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		bootstrap string
		want      func(code int, tree health.Tree) bool
	}{
		"the first of its network": {"none", func(code int, tree health.Tree) bool {
			return code == http.StatusOK && tree.Ready && tree.Check(health.Answers).State == health.Good && tree.Check(health.Store).State == health.Good
		}},
		"nobody to join through": {"127.0.0.1:9", func(code int, tree health.Tree) bool {
			return code == http.StatusServiceUnavailable && tree.State == health.Waiting && tree.Check(health.Answers).State == health.Good &&
				tree.Check(health.Bootstrap).State == health.Waiting && tree.Check(health.Table).Because == health.Bootstrap
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := local(t, "http", freeAddress(t), "bootstrap", c.bootstrap)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- appliance.Serve(ctx, cfg, quiet, func(h *appliance.Host) error {
					h.Check(func() health.Check {
						return health.Check{Name: "extension", After: []string{health.Store}, State: health.Failed, Sentence: "The extension is out of paper."}
					})
					return nil
				})
			}()
			ready(t, "http://"+cfg.HTTP, func(code int, tree health.Tree) bool {
				return c.want(code, tree) && tree.Check("extension").State == health.Failed && (tree.State != health.Degraded || strings.Contains(tree.Headline, "out of paper"))
			})
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
