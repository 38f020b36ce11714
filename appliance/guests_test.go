package appliance_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/bpf/testenv"
)

// clientFrom is a client with an address of its own on the loopback interface.
func clientFrom(address string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: 4 * time.Second} // less than the server has for a request
}

// TestCrowd shows the page to somebody else while others hold as many connections as they get, and lets an upload of a known
// client through.
func TestCrowd(t *testing.T) {
	cfg := local(t, "http", testenv.FreeAddress(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served, begun := make(chan error, 1), make(chan struct{})
	go func() {
		served <- appliance.Serve(ctx, cfg, quiet, func(h *appliance.Host) error {
			h.Handle("PUT /upload", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				appliance.KeepConnection(r.Context())
				close(begun)
				_, _ = io.Copy(w, r.Body)
			}))
			return nil
		})
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // until it listens
		if c, err := net.Dial("tcp", cfg.HTTP); err == nil {
			_ = c.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	body, in := io.Pipe()
	uploaded := make(chan string, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodPut, "http://"+cfg.HTTP+"/upload", body)
		uploader := clientFrom("127.0.0.9")
		uploader.Timeout = 0
		res, err := uploader.Do(req)
		if err != nil {
			uploaded <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		uploaded <- string(b)
	}()
	if _, err := io.WriteString(in, "first, "); err != nil {
		t.Fatal(err)
	}
	<-begun

	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	crowd := func(from, text string) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", cfg.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_, _ = io.WriteString(c, text) // it may be closed already
	}
	page := func(what string) {
		t.Helper()
		for range 5 {
			res, err := clientFrom("127.0.0.8").Get("http://" + cfg.HTTP + "/healthz")
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			_ = res.Body.Close()
		}
	}
	const half = "GET / HTTP/1.1\r\nHost: x\r\nX: " // a request that does not end
	for i := range 150 {
		crowd("127.0.1.1", []string{"", half}[i%2])
	}
	page("one address has them all")
	for i := range 150 {
		crowd(fmt.Sprintf("127.0.1.%d", 1+i%75), half)
	}
	page("75 addresses have them all")
	for range 50 {
		crowd("127.0.0.9", "") // the uploading client's own
	}
	page("and the one that uploads")

	if _, err := io.WriteString(in, "last"); err != nil {
		t.Error(err)
	}
	_ = in.Close()
	if got := <-uploaded; got != "first, last" {
		t.Errorf("the upload got %q", got)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
