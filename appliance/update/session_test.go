package update_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/update"
	"kdht/appliance/update/testdisk"
	"kdht/bpf/testenv"
	"kdht/config"
)

// TestTwoClients keeps the root of one client and the kernel of another from being tried together.
func TestTwoClients(t *testing.T) {
	b := newBench(t)
	from := func(address, method, path string, body []byte) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/"+path, bytes.NewReader(body))
		r.RemoteAddr = address + ":1"
		r.SetBasicAuth("gokrazy", password)
		w := httptest.NewRecorder()
		b.m.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	root, boot := testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat")
	if code, text := from("10.0.0.1", http.MethodPut, "update/root", root); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for path, method := range map[string]string{
		"update/root": "PUT", "update/boot": "PUT", "update/mbr": "PUT", "update/switch": "POST", "update/rollback": "POST", "update/manifest": "PUT", "update/apply": "POST",
	} {
		code, text := from("10.0.0.2", method, path, root)
		if code != http.StatusConflict || !strings.Contains(text, "in the middle of an update (gokrazy client from 10.0.0.1): wait until it is done, or ") {
			t.Errorf("%s of another one: %d %s", path, code, text)
		}
	}
	if history := b.m.Status().History; len(history) != 0 {
		t.Errorf("%+v", history)
	}
	for _, step := range []struct {
		method, path string
		body         []byte
	}{{"PUT", "update/boot", boot}, {"POST", "update/switch", nil}} {
		if code, text := from("10.0.0.1", step.method, step.path, step.body); code != http.StatusOK {
			t.Fatalf("%s: %d %s", step.path, code, text)
		}
	}
	// Whose update has failed has none any more.
	if code, _ := from("10.0.0.1", http.MethodPut, "update/root", []byte("garbage")); code != http.StatusUnprocessableEntity {
		t.Errorf("garbage: %d", code)
	}
	if code, text := from("10.0.0.2", http.MethodPut, "update/root", root); code != http.StatusOK {
		t.Errorf("after a failure: %d %s", code, text)
	}
}

// serve serves the update interface as the appliance does, and gives its address.
func (b *bench) serve() (addr string) {
	t := b.t
	t.Helper()
	addr = testenv.FreeAddress(t)
	settings := config.New()
	for key, value := range map[string]string{"state": t.TempDir(), "http": addr, "network": "private", "bootstrap": "none", "xdp.mode": "off"} {
		if err := settings.Set(key, key, value); err != nil {
			t.Fatal(err)
		}
	}
	c, err := settings.Config()
	if err != nil {
		t.Fatal(err)
	}
	c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- appliance.Serve(ctx, c, slog.New(slog.DiscardHandler), func(h *appliance.Host) error {
			for _, p := range update.Patterns {
				h.Handle(p, b.m.Handler())
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // until it listens
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestTwoClientsOfOneMachine keeps two clients that have the same address apart by their connections; one that makes a new connection for
// every request, as curl does, is one client.
func TestTwoClientsOfOneMachine(t *testing.T) {
	b := newBench(t)
	addr := b.serve()
	client := func(keep bool) (*http.Transport, func(method, path string, body []byte) (int, string)) {
		transport := &http.Transport{DisableKeepAlives: !keep}
		t.Cleanup(transport.CloseIdleConnections)
		return transport, func(method, path string, body []byte) (int, string) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/update/"+path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("gokrazy", password)
			w, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Body.Close()
			text, err := io.ReadAll(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			return w.StatusCode, string(text)
		}
	}
	root, boot := testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat")
	connection, first := client(true)
	_, second := client(true)
	_, curl := client(false)
	if code, text := first(http.MethodPut, "root", root); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for _, other := range []func(string, string, []byte) (int, string){second, curl} {
		if code, text := other(http.MethodPut, "root", root); code != http.StatusConflict || !strings.Contains(text, "in the middle of an update (gokrazy client from 127.0.0.1)") {
			t.Errorf("the root of another one: %d %s", code, text)
		}
	}
	if code, text := first(http.MethodPut, "boot", boot); code != http.StatusOK {
		t.Errorf("boot: %d %s", code, text)
	}
	connection.CloseIdleConnections()
	for _, step := range []struct {
		method, path string
		body         []byte
	}{{"PUT", "root", root}, {"PUT", "boot", boot}, {"POST", "switch", nil}} {
		if code, text := curl(step.method, step.path, step.body); code != http.StatusOK {
			t.Errorf("%s on a connection of its own: %d %s", step.path, code, text)
		}
	}
}
