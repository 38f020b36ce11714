package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"kdht/store"
)

// stall is how long a transfer may stand still.
const stall = time.Minute

// backup serves a snapshot of the database, whose SHA-256 is in Repr-Digest (RFC 9530), in hexadecimal digits in the entity tag.
func (g *gate) backup(w http.ResponseWriter, r *http.Request) {
	done, ok := g.one(w, "backup")
	if !ok {
		return
	}
	defer done()
	began := false
	err := g.p.h.Store.Snapshot(func(x *store.Snapshot) error {
		// It is read twice, so that its hash comes before it: who has a hash and not all bytes knows that he has not.
		h := sha256.New()
		if _, err := x.WriteTo(h); err != nil {
			return err
		}
		sum := h.Sum(nil)
		head := w.Header()
		head.Set("Content-Type", "application/octet-stream")
		head.Set("Content-Length", strconv.FormatInt(x.Size(), 10))
		head.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "kdht-"+name()+"-"+time.Now().UTC().Format("20060102T150405Z")+".db"))
		head.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
		head.Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sum)))
		began = true
		if r.Method == http.MethodHead {
			return nil
		}
		_, err := x.WriteTo(patientWriter{w, http.NewResponseController(w)})
		return err
	})
	if err == nil {
		return
	}
	g.p.log.Warn("a backup broke off", "err", err)
	if began {
		g.note(caller(r), "backup", "broke off: "+err.Error())
		noted(w)
		panic(http.ErrAbortHandler) // or it would look whole
	}
	fail(w, http.StatusInternalServerError, "The database cannot be read: "+err.Error()+".")
}

// name is the name of the machine for names of files.
func name() string {
	if host, err := os.Hostname(); err == nil && host != "" {
		return host
	}
	return "box"
}

// patientWriter writes for as long as it takes, but not where nothing moves.
type patientWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func (p patientWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		part := b[:min(len(b), 64<<10)] // what must move within the time
		_ = p.rc.SetWriteDeadline(time.Now().Add(stall))
		m, err := p.w.Write(part)
		if n += m; err != nil {
			return n, err
		}
		b = b[m:]
	}
	return n, nil
}

// patientReader reads likewise.
type patientReader struct {
	r  io.Reader
	rc *http.ResponseController
}

func (p patientReader) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(stall))
	return p.r.Read(b)
}
