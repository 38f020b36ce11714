package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A page is asked for again after a tenth of a second, or after three times as long as the machine took for its answer: an emulated
// one would else do little but answer.
const (
	askAgain  = 100 * time.Millisecond
	askPause  = 3
	askAtMost = 2 * time.Second
)

// WaitHTTP asks for a URL, at most ten times a second, until accept is content with the answer, and returns its body.
func WaitHTTP(ctx context.Context, v *VM, client *http.Client, url string, accept func(code int, body []byte) bool) ([]byte, error) {
	var last error
	for {
		begin, pause := time.Now(), askAgain
		code, body, err := get(ctx, client, url)
		switch {
		case err != nil:
			last = err
		case accept(code, body):
			return body, nil
		default:
			last = fmt.Errorf("status %d, %s", code, body[:min(len(body), 2000)])
			pause = min(max(askAgain, askPause*time.Since(begin)), askAtMost)
		}
		select {
		case <-time.After(pause):
		case <-v.Done():
			return nil, fmt.Errorf("waiting for %s: %w; last: %w", url, ErrStopped, last)
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s: %w; last: %w", url, ctx.Err(), last)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (code int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}
