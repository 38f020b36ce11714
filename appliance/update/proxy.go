package update

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// transport reaches gokrazy's own interface.
func (m *Manager) transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", m.o.Gokrazy)
	}}
}

// proxy hands requests on to gokrazy, without the password, which it does not ask for there.
func (m *Manager) proxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: m.transport(),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "gokrazy"})
			r.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			m.o.Log.Warn("gokrazy does not answer", "err", err)
			http.Error(w, "gokrazy does not answer", http.StatusBadGateway)
		},
	}
}

// features answers with what gokrazy itself can do: clients choose by that how they make images.
func (m *Manager) features(gokrazy http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if m.noDisk != nil {
			fail(w, m.noDisk)
			return
		}
		gokrazy.ServeHTTP(w, r)
	}
}

// stamp is the time at which the root file system was built, as gokrazy has it. Clients wait for it after an update.
type stamp struct {
	mu   sync.Mutex
	text string
}

// BuildTimestamp asks gokrazy for that until it answers; "" before.
func (m *Manager) BuildTimestamp() string {
	m.stamp.mu.Lock()
	defer m.stamp.mu.Unlock()
	if m.stamp.text != "" {
		return m.stamp.text
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gokrazy/", nil)
	if err != nil {
		return ""
	}
	req.Header.Set("Accept", "application/json")
	t := m.transport()
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var s struct{ BuildTimestamp string }
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s) == nil {
		m.stamp.text = s.BuildTimestamp
	}
	return m.stamp.text
}
