package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// spec is the OpenAPI document.
var spec = sync.OnceValues(func() (*openapi3.T, error) {
	for _, media := range []string{"application/x-bencode", "application/pkarr.org/relays#payload", "text/html", "*/*"} {
		openapi3filter.RegisterBodyDecoder(media, openapi3filter.FileBodyDecoder)
	}
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

var errNoOperation = errors.New("the document has no such operation")

// operation finds what the document has for a request. Names and salts may have slashes, which path templates cannot say.
func operation(doc *openapi3.T, req *http.Request) (*openapi3filter.RequestValidationInput, error) {
	path := req.URL.EscapedPath()
	for template, item := range doc.Paths.Map() {
		names := regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(template, -1)
		pattern := regexp.MustCompile(`\{(salt|name)\}`).ReplaceAllString(regexp.QuoteMeta(template), "$0")
		pattern = strings.NewReplacer(`\{salt\}`, `(.+)`, `\{name\}`, `(.+)`).Replace(pattern)
		pattern = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(pattern, `([^/]+)`)
		m := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(path)
		if m == nil || template == "/{key}" && len(m[1]) != 52 {
			continue
		}
		method := req.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		op := item.GetOperation(method)
		if op == nil {
			return nil, errNoOperation
		}
		params := make(map[string]string)
		for i, n := range names {
			params[n[1]] = m[i+1]
		}
		return &openapi3filter.RequestValidationInput{
			Request: req, PathParams: params,
			Route:   &routers.Route{Spec: doc, Path: template, PathItem: item, Method: method, Operation: op},
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true},
		}, nil
	}
	return nil, errNoOperation
}

// conforms says in what an exchange differs from the document: a request that it does not allow must be refused, any other
// one answered as it says.
func conforms(req *http.Request, body []byte, res *http.Response, got []byte) error {
	doc, err := spec()
	if err != nil {
		return err
	}
	if req.Method == http.MethodOptions {
		return nil // CORS is none of the document's business
	}
	in, err := operation(doc, req)
	if err != nil {
		if res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusMethodNotAllowed || res.StatusCode == http.StatusBadRequest ||
			res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusTemporaryRedirect ||
			res.StatusCode == http.StatusTooManyRequests || req.URL.Path == "/v1/" || req.URL.Path == "/v1/names/" {
			return nil
		}
		return fmt.Errorf("%w, and the answer is %s", err, res.Status)
	}
	in.Request = req.Clone(context.Background())
	in.Request.Body = io.NopCloser(bytes.NewReader(body))
	if in.Request.Header.Get("Content-Type") == "" {
		in.Request.Header.Set("Content-Type", "application/octet-stream")
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil && res.StatusCode < 400 {
		return fmt.Errorf("accepted with %s what the document does not allow: %w", res.Status, err)
	}
	if req.Method == http.MethodHead {
		return nil
	}
	if res.StatusCode == http.StatusInternalServerError {
		return errors.New(res.Status)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Options: in.Options}
	out.SetBodyBytes(got)
	return openapi3filter.ValidateResponse(context.Background(), out)
}

// The document is valid, and is what the server serves.
func TestDocumentIsServed(t *testing.T) {
	if _, err := spec(); err != nil {
		t.Fatal(err)
	}
	b := start(t, "127.0.2.1", "none")
	want, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a := b.do("GET", "/v1/openapi.yaml", "")
	if a.code != http.StatusOK || a.body != string(want) {
		t.Errorf("%d, %d bytes", a.code, len(a.body))
	}
}
