package appliance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/status"
	"kdht/bpf/testenv"
)

// announcer is a task that says when it runs.
type announcer struct {
	running chan struct{}
	ready   chan struct{}
}

func (announcer) String() string           { return "announcer" }
func (a announcer) Ready() <-chan struct{} { return a.ready }

func (a announcer) Run(ctx context.Context) error {
	close(a.ready)
	close(a.running)
	<-ctx.Done()
	return nil
}

// TestExtension adds one of everything to a node and looks for it where the owner would.
func TestExtension(t *testing.T) {
	cfg := local(t, "http", testenv.FreeAddress(t))
	a := announcer{make(chan struct{}), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- appliance.Serve(ctx, cfg, quiet, func(h *appliance.Host) error {
			h.Task(a)
			h.Handle("PUT /update/root", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(w, r.Body)
			}))
			h.Problems(func() []string { return []string{"The disk is full."} })
			h.Section(func() status.Section {
				return status.Section{Title: "Disk", Facts: []status.Fact{{Name: "node", Value: h.Node.Stats().Families[0].ID.String()}}}
			})
			return nil
		})
	}()
	select {
	case <-a.running:
	case err := <-served:
		t.Fatal(err)
	}
	var r status.Report
	res, err := http.Get("http://" + cfg.HTTP + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(r.Problems, "The disk is full.") {
		t.Errorf("problems: %q", r.Problems)
	}
	if len(r.Sections) != 1 || r.Sections[0].Title != "Disk" || r.Sections[0].Facts[0].Value != r.Families[0].ID {
		t.Errorf("sections: %+v", r.Sections)
	}
	if !slices.ContainsFunc(r.Tasks, func(s status.Task) bool { return s.Name == "announcer" && s.Running }) {
		t.Errorf("tasks: %+v", r.Tasks)
	}
	req, err := http.NewRequest(http.MethodPut, "http://"+cfg.HTTP+"/update/root", strings.NewReader("squash"))
	if err != nil {
		t.Fatal(err)
	}
	if res, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "squash" {
		t.Errorf("the handler answered %q, %v", body, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestWebAlsoAt has the page served at a second address, which another program has at first: the node does not wait for that, nor is it worse for it.
func TestWebAlsoAt(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg := local(t, "http", testenv.FreeAddress(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- appliance.Serve(ctx, cfg, quiet, func(h *appliance.Host) error {
			h.WebAlsoAt(other.Addr().String())
			return nil
		})
	}()
	report := func(addr string) (r status.Report) {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			res, err := http.Get("http://" + addr + "/status")
			if err == nil {
				err = errors.Join(json.NewDecoder(res.Body).Decode(&r), res.Body.Close())
			}
			if err == nil {
				return r
			}
			select {
			case err := <-served:
				t.Fatal(err)
			default:
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	first := report(cfg.HTTP)
	if i := slices.IndexFunc(first.Tasks, func(s status.Task) bool { return strings.HasSuffix(s.Name, other.Addr().String()) }); i < 0 || !first.Tasks[i].Running {
		t.Errorf("tasks: %+v", first.Tasks)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if second := report(other.Addr().String()); second.Families[0].ID != first.Families[0].ID {
		t.Errorf("another node is at the second address: %+v", second)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestExtensionFails makes sure that an extension that cannot be, and two that want the same, keep the node from
// starting, with a reason.
func TestExtensionFails(t *testing.T) {
	broken := errors.New("no socket for it")
	if err := appliance.Serve(t.Context(), local(t), quiet, func(*appliance.Host) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Serve = %v, want %v", err, broken)
	}
	cfg := local(t)
	cfg.HTTP = "127.0.0.1:0"
	err := appliance.Serve(t.Context(), cfg, quiet, func(h *appliance.Host) error {
		h.Handle("GET /{thing}/x", http.NotFoundHandler())
		h.Handle("GET /y/{thing}", http.NotFoundHandler())
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "/{thing}/x") {
		t.Errorf("Serve = %v, want the patterns that conflict", err)
	}
}
