package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kdht/appliance"
	"kdht/config"
)

// Source is a release that can be read: a directory, or what is below a URL.
type Source struct {
	url    *url.URL // nil: a directory
	dir    string
	client *http.Client
}

// OpenSource reads the place of a release: a URL with http, https or file, or a directory. Connections are opened by dial, or if
// that is nil by the machine's network.
func OpenSource(place string, dial appliance.DialFunc) (*Source, error) {
	u, err := url.Parse(place)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return nil, fmt.Errorf("%s: no host", config.WithoutSecrets(place))
		}
		return &Source{url: u, client: &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial, ResponseHeaderTimeout: stall, TLSHandshakeTimeout: stall, ForceAttemptHTTP2: true,
		}}}, nil
	case "file", "":
		if u.Path == "" {
			return nil, fmt.Errorf("%q is no directory", place)
		}
		return &Source{dir: u.Path}, nil
	}
	return nil, fmt.Errorf("%s: only http, https and file are known", place)
}

// Close ends the use of the source.
func (s *Source) Close() {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
}

// Open reads a file of the release. A connection that breaks is taken up again where it broke.
func (s *Source) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if s.url == nil {
		return os.Open(filepath.Join(s.dir, name))
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &resuming{ctx: ctx, cancel: cancel, client: s.client, url: s.url.JoinPath(name).String()}
	r.idle = time.AfterFunc(stall, cancel)
	if err := r.connect(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// resuming reads a URL.
type resuming struct {
	ctx    context.Context
	cancel context.CancelFunc
	client *http.Client
	url    string
	idle   *time.Timer

	body  io.ReadCloser
	tag   string // ETag or time of what is being read, so that a resumption is of the same
	at    int64
	tries int
}

// attempts bounds how often a transfer is taken up again without anything having come.
const attempts = 5

func (r *resuming) connect() error {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kdht/1")
	want := http.StatusOK
	if r.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.at))
		req.Header.Set("If-Range", r.tag)
		want = http.StatusPartialContent
	}
	resp, err := r.client.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) { // these are read by everybody who reads the status page
			e.URL = config.WithoutSecrets(e.URL)
		}
		return err
	}
	if resp.StatusCode != want {
		return errors.Join(fmt.Errorf("%s: %s", config.WithoutSecrets(r.url), resp.Status), errStatus, resp.Body.Close())
	}
	if r.at == 0 {
		if r.tag = resp.Header.Get("ETag"); r.tag == "" || strings.HasPrefix(r.tag, "W/") {
			r.tag = resp.Header.Get("Last-Modified")
		}
	}
	r.body = resp.Body
	return nil
}

var errStatus = errors.New("the server does not give it")

func (r *resuming) Read(p []byte) (int, error) {
	for {
		r.idle.Reset(stall)
		n, err := r.body.Read(p)
		r.at += int64(n)
		if n > 0 {
			r.tries = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) || r.ctx.Err() != nil || r.tag == "" {
			return 0, err
		}
		_ = r.body.Close() // it broke
		for r.tries++; ; r.tries++ {
			if r.tries > attempts {
				return 0, err
			}
			select {
			case <-r.ctx.Done():
				return 0, r.ctx.Err()
			case <-time.After(time.Second << r.tries >> 1):
			}
			r.idle.Reset(stall)
			again := r.connect()
			if errors.Is(again, errStatus) {
				return 0, again
			}
			if again == nil {
				break
			}
		}
	}
}

func (r *resuming) Close() error {
	r.idle.Stop()
	r.cancel()
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
