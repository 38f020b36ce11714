package tools

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"kdht/appliance/status"
	"kdht/router/krpc"
)

// decoded is the page of a datagram.
type decoded struct {
	status.Head
	D       string
	Refused string
	Bytes   int
	Text    string // as JSON, indented
	Verdict string // what a node does with it
	Good    bool
}

// decode serves the page of a datagram.
func (t *tools) decode(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	x := decoded{Head: t.head("Decode", r), D: strings.TrimSpace(r.URL.Query().Get("d"))}
	if len(x.D) > 2*1<<16 {
		x.D = ""
	}
	if x.D != "" {
		x.fill(datagram(x.D))
	}
	if x.Refused != "" {
		w.WriteHeader(http.StatusBadRequest)
	}
	_ = t.write(w, "decode", x) && t.write(w, "close", nil)
}

// datagram reads what people paste: hexadecimal digits with whatever stands between them, or the datagram itself.
func datagram(s string) []byte {
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n:,-", r) {
			return -1
		}
		return r
	}, strings.ReplaceAll(s, "0x", ""))
	if b, err := hex.DecodeString(digits); err == nil {
		return b
	}
	return []byte(s)
}

// fill decodes the datagram.
func (x *decoded) fill(b []byte) {
	x.Bytes = len(b)
	doc, err := krpc.JSON(b)
	if err != nil {
		x.Refused = fmt.Sprintf("This is neither a datagram in hexadecimal digits nor bencoding: %v.", err)
		return
	}
	var out bytes.Buffer
	if err := json.Indent(&out, doc, "", "  "); err != nil {
		x.Refused = err.Error()
		return
	}
	x.Text = out.String()
	var m krpc.Message
	var drop *krpc.DropError
	var refusal *krpc.Error
	switch err := krpc.Decode(b, &m); {
	case errors.As(err, &drop):
		x.Verdict = fmt.Sprintf("A node drops it: %v.", drop)
	case errors.As(err, &refusal):
		x.Verdict = fmt.Sprintf("A node answers it with error %d (%q).", refusal.Code, refusal.Text)
	case m.Type == krpc.TypeQuery:
		x.Verdict, x.Good = "A query that a node answers.", true
	case m.Type == krpc.TypeResponse:
		x.Verdict, x.Good = "A response.", true
	default:
		x.Verdict, x.Good = fmt.Sprintf("An error message: %d (%q).", m.Err.Code, m.Err.Text), true
	}
}
