package appliance_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/boxtest"
	"kdht/appliance/health"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
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
			cfg := local(t, "http", testenv.FreeAddress(t), "bootstrap", c.bootstrap)
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

// When the cable is pulled, the node says so at once, names it alone, and is not ready; when it is back, all is well again.
func TestHealthFollowsTheCable(t *testing.T) {
	testenv.NeedRoot(t)
	here, there := netns.New(t, "node"), netns.New(t, "peer")
	addr := netip.MustParsePrefix("198.18.7.1/24")
	netns.Veth(t, netns.End{NS: here, Name: "eth0", Addrs: []netip.Prefix{addr}}, netns.End{NS: there, Name: "eth0"})
	b := boxtest.Start(t, boxtest.Options{NS: here, HTTP: "127.0.0.1:8080"}, addr.Addr().String(), "none")
	until := func(what string, ok func(health.Tree) bool) {
		t.Helper()
		boxtest.Eventually(t, what, func() bool { return ok(b.Host.Report().Health) })
	}
	until("it is not well", func(h health.Tree) bool { return h.Ready && h.State == health.Good })
	if err := there.Batch("link set eth0 down"); err != nil {
		t.Fatal(err)
	}
	until("nobody notices that the cable is out", func(h health.Tree) bool {
		return !h.Ready && h.State == health.Failed && h.Check(health.Link).State == health.Failed && strings.Contains(h.Headline, "eth0 is down") &&
			h.Check(health.Table).Because == health.Link
	})
	if err := there.Batch("link set eth0 up"); err != nil {
		t.Fatal(err)
	}
	until("nobody notices that the cable is in again", func(h health.Tree) bool { return h.Ready && h.State == health.Good })
}

// What is always up, as the bridge of containers and a tunnel, is no link: it is the one that leads out of the machine that counts.
func TestHealthOfABoxWithContainers(t *testing.T) {
	testenv.NeedRoot(t)
	here, there := netns.New(t, "node"), netns.New(t, "peer")
	netns.Veth(t, netns.End{NS: here, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.7.1/24")}}, netns.End{NS: there, Name: "eth0"})
	do(t, here, "link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link add name c0 type veth peer name c1", "link set c0 master docker0",
		"link set docker0 up", "link set c0 up", "link set c1 up")
	b := boxtest.Start(t, boxtest.Options{NS: here, HTTP: "127.0.0.1:8080"}, "0.0.0.0", "none")
	until := func(what string, ok func(health.Tree) bool) {
		t.Helper()
		boxtest.Eventually(t, what, func() bool { return ok(b.Host.Report().Health) })
	}
	until("it is not well", func(h health.Tree) bool {
		return h.Ready && h.State == health.Good && h.Check(health.Link).Sentence == "eth0 is up." && h.Check(health.Address).Sentence == "198.18.7.1."
	})
	do(t, there, "link set eth0 down")
	until("nobody notices that the cable is out", func(h health.Tree) bool {
		return !h.Ready && h.State == health.Failed && strings.Contains(h.Headline, "eth0 is down") && !strings.Contains(h.Headline, "docker0")
	})
}
