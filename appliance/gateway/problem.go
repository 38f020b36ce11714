package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// Problem is an error as the client gets it (RFC 9457).
type Problem struct {
	Status int
	Code   string // stable, for programs, as in "not-found"
	Detail string // what happened and what to do next, in sentences
	KRPC   int    // the code that the nodes of the network gave (BEP 5, BEP 44); 0: they gave none
	Seq    *int64 // of the present version, where that is what is in the way
	Retry  time.Duration
	Allow  string // methods
}

func (p *Problem) Error() string { return p.Detail }

// problemJSON is a problem document. Its type is "about:blank", which says that the title is that of the status.
type problemJSON struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	KRPC   int    `json:"krpc,omitempty"`
	Seq    *int64 `json:"seq,omitempty"`
}

// serve writes the problem document.
func (p *Problem) serve(w http.ResponseWriter) {
	h := w.Header()
	for _, k := range []string{"Etag", "Last-Modified", "Location"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="kdht"`)
	}
	if p.Allow != "" {
		h.Set("Allow", p.Allow)
	}
	if p.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.Retry+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(problemJSON{ // the client may have gone
		Type: "about:blank", Title: http.StatusText(p.Status), Status: p.Status, Detail: p.Detail, Code: p.Code, KRPC: p.KRPC, Seq: p.Seq,
	})
}

// bad is the problem of a request that cannot be meant.
func bad(code, format string, args ...any) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// problemOf turns any error into a problem.
func problemOf(err error) *Problem {
	var p *Problem
	var e *krpc.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "too-large",
			Detail: fmt.Sprintf("The body has more than %d bytes. A value has at most %d bytes bencoded (BEP 44): split it, or store a hash of it.", tooLarge.Limit, krpc.MaxValue)}
	case errors.As(err, &e):
		return refusal(e)
	case errors.Is(err, router.ErrNotFound):
		return &Problem{Status: http.StatusNotFound, Code: "not-found", Detail: "No node that should have it has it. Items expire two hours after their last put."}
	case errors.Is(err, router.ErrNoNodes):
		return &Problem{Status: http.StatusServiceUnavailable, Code: "no-nodes", Retry: 5 * time.Second,
			Detail: "No other node answered, so nothing is known. The status page of this box says whether it reaches the network."}
	case errors.Is(err, context.DeadlineExceeded):
		return &Problem{Status: http.StatusGatewayTimeout, Code: "timeout", Retry: time.Second, Detail: "The network did not answer in time. Try again."}
	case errors.Is(err, router.ErrBusy):
		return busy()
	case errors.Is(err, router.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, store.ErrClosed):
		return &Problem{Status: http.StatusServiceUnavailable, Code: "stopping", Retry: 10 * time.Second, Detail: "The node is about to stop. Try again."}
	}
	return &Problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "The box could not do it: " + err.Error() + "."}
}

func busy() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "busy", Retry: time.Second, Detail: "Too many lookups are under way. Try again in a moment."}
}

// refusal is the problem of an error message of the network (BEP 5, BEP 44).
func refusal(e *krpc.Error) *Problem {
	p := &Problem{KRPC: e.Code, Detail: fmt.Sprintf("The nodes refused it with error %d (%q).", e.Code, e.Text)}
	switch e.Code {
	case krpc.ErrCodeValueSize:
		p.Status, p.Code = http.StatusRequestEntityTooLarge, "too-large"
		p.Detail = fmt.Sprintf("A value has at most %d bytes bencoded (BEP 44): split it, or store a hash of it.", krpc.MaxValue)
	case krpc.ErrCodeSignature:
		p.Status, p.Code = http.StatusBadRequest, "signature"
		p.Detail = "The signature is not that of this key, salt, sequence number and value."
	case krpc.ErrCodeSaltSize:
		p.Status, p.Code = http.StatusBadRequest, "salt"
		p.Detail = fmt.Sprintf("A salt has at most %d bytes.", krpc.MaxSalt)
	case krpc.ErrCodeCAS:
		p.Status, p.Code = http.StatusPreconditionFailed, "changed"
		p.Detail = "The item has another sequence number than If-Match says: somebody has changed it. Get it again, decide, and put with its new entity tag."
	case krpc.ErrCodeSeq:
		p.Status, p.Code = http.StatusConflict, "older"
		p.Detail = "The network has a newer version, or another value with this sequence number. Put with a higher one."
	case krpc.ErrCodeProtocol:
		p.Status, p.Code = http.StatusBadRequest, "invalid"
		if !strings.HasSuffix(p.Detail, ".") {
			p.Detail += "."
		}
	case krpc.ErrCodeServer:
		p.Status, p.Code, p.Retry = http.StatusServiceUnavailable, "refused", 10*time.Second
		p.Detail += " They have trouble of their own, or no room. Try again later."
	default:
		p.Status, p.Code = http.StatusBadGateway, "refused"
	}
	return p
}
