package gateway

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"kdht/appliance/status"
	"kdht/router"
	"kdht/router/krpc"
)

// Media types of values.
const (
	typeRaw      = "application/octet-stream"
	typeJSON     = "application/json"
	typeBencoded = "application/x-bencode"
)

// maxString is how many bytes a byte string may have.
const maxString = krpc.MaxValue - len("996:")

// Document is an item as JSON. What PUT takes is what GET gives.
type Document struct {
	Target string  `json:"target,omitempty"` // hexadecimal, as all but Text and Seq
	Text   *string `json:"text,omitempty"`   // the value, if it is a byte string that people can read
	V      string  `json:"v,omitempty"`      // the value, bencoded
	K      string  `json:"k,omitempty"`
	Salt   string  `json:"salt,omitempty"`
	Seq    *int64  `json:"seq,omitempty"`
	Sig    string  `json:"sig,omitempty"`
}

func documentOf(it *router.Item) Document {
	d := Document{Target: it.Target.String(), V: hex.EncodeToString(it.V)}
	if s, ok := stringOf(it.V); ok && readable(s) {
		t := string(s)
		d.Text = &t
	}
	if it.Mutable {
		seq := it.Seq
		d.K, d.Salt, d.Seq, d.Sig = hex.EncodeToString(it.K[:]), hex.EncodeToString(it.Salt), &seq, hex.EncodeToString(it.Sig[:])
	}
	return d
}

// value gives the bencoded value of a document.
func (d Document) value() ([]byte, *Problem) {
	switch {
	case d.V != "":
		v, err := hex.DecodeString(d.V)
		if err != nil {
			return nil, bad("value", `"v" of the document is not hexadecimal: write the bencoded value in hexadecimal digits, or a text as "text".`)
		}
		return v, checkValue(v)
	case d.Text != nil:
		v := encodeString([]byte(*d.Text))
		return v, checkValue(v)
	}
	return nil, bad("value", `The document has neither "v" nor "text". To store a JSON document as a value, send it as application/octet-stream.`)
}

// readable says whether bytes can be shown as text.
func readable(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' })
}

// encodeString gives a byte string as a bencoded value.
func encodeString(b []byte) []byte {
	v := strconv.AppendInt(make([]byte, 0, len(b)+8), int64(len(b)), 10)
	return append(append(v, ':'), b...)
}

// stringOf gives the bytes of a bencoded string, and false for any other value.
func stringOf(v []byte) ([]byte, bool) {
	digits, rest, ok := bytes.Cut(v, []byte{':'})
	n, err := strconv.Atoi(string(digits))
	if !ok || err != nil || n != len(rest) {
		return nil, false
	}
	return rest, true
}

// checkValue says what is wrong with a value; nil if nothing is.
func checkValue(v []byte) *Problem {
	switch err := krpc.CheckValue(v); {
	case err == nil:
		return nil
	case len(v) > krpc.MaxValue:
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "too-large",
			Detail: fmt.Sprintf("The value has %d bytes bencoded, and at most %d fit into an item (BEP 44), which are %d of a byte string. Split it, or store a hash of it.", len(v), krpc.MaxValue, maxString)}
	}
	return bad("value", "The value is not canonical bencoding, such as 5:hello, i42e, l1:a1:be or d3:key5:valuee with sorted keys. Sent as application/octet-stream, any bytes will do.")
}

// readValue reads the value in the body of a request, or the document there.
func readValue(r *http.Request) (v []byte, d *Document, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, bodyError(err)
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = typeRaw // curl -T sends none
	}
	var p *Problem
	switch media {
	case typeJSON:
		d = new(Document)
		if err := json.Unmarshal(body, d); err != nil {
			return nil, nil, bad("document", "The body is no document of an item: %v. To store JSON as a value, send it as application/octet-stream.", err)
		}
		v, p = d.value()
	case typeBencoded:
		v, p = body, checkValue(body)
	default:
		v = encodeString(body)
		p = checkValue(v)
	}
	if p != nil {
		return nil, nil, p
	}
	return v, d, nil
}

// bodyError is the problem of a body that could not be read.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return bad("body", "The body broke off.")
}

// formOf decides in which form an item is shown: what Accept prefers, else the bytes of a byte string, and any other value
// bencoded.
func formOf(r *http.Request, v []byte) form {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		accept = "*/*"
	}
	raw := status.Quality(accept, "application", "octet-stream")
	json, bencoded := status.Quality(accept, "application", "json"), status.Quality(accept, "application", "x-bencode")
	switch _, ok := stringOf(v); {
	case json > raw && json >= bencoded:
		return formJSON
	case bencoded > raw || !ok:
		return formBencoded
	}
	return formRaw
}

// serveItem writes an item in a form.
func serveItem(w http.ResponseWriter, r *http.Request, it *router.Item, f form) error {
	h := w.Header()
	h.Set("Kdht-Target", it.Target.String())
	if it.Mutable {
		h.Set("Kdht-Seq", strconv.FormatInt(it.Seq, 10))
		h.Set("Kdht-Signature", hex.EncodeToString(it.Sig[:]))
	}
	switch f {
	case formJSON:
		return serveJSON(w, http.StatusOK, documentOf(it))
	case formBencoded:
		return serveBytes(w, typeBencoded, it.V)
	}
	s, _ := stringOf(it.V)
	return serveBytes(w, typeRaw, s)
}

func serveBytes(w http.ResponseWriter, media string, b []byte) error {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the client may have gone
	return nil
}

// serveJSON writes a document.
func serveJSON(w http.ResponseWriter, code int, x any) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client may have gone
	return nil
}
