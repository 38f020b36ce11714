package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
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
	f, sum, err := g.snapshot()
	switch {
	case errors.Is(err, errRoom):
		fail(w, http.StatusInsufficientStorage, "There is no backup: "+err.Error()+" for a copy of the database.")
		return
	case err != nil:
		g.p.log.Warn("the database cannot be copied", "err", err)
		fail(w, http.StatusInternalServerError, "The database cannot be read: "+err.Error()+".")
		return
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, "The copy of the database cannot be read: "+err.Error()+".")
		return
	}
	head := w.Header()
	head.Set("Content-Type", "application/octet-stream")
	head.Set("Content-Length", strconv.FormatInt(size, 10))
	head.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "kdht-"+name()+"-"+time.Now().UTC().Format("20060102T150405Z")+".db"))
	// It comes before the bytes: who has a hash and not all of them knows that he has not.
	head.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	head.Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sum)))
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(patientWriter{w, http.NewResponseController(w)}, f); err != nil {
		g.p.log.Warn("a backup broke off", "err", err)
		g.seldom(g.failures, caller(r), "backup broke off", "backup", "broke off: "+err.Error())
		noted(w)
		panic(http.ErrAbortHandler) // or it would look whole
	}
}

// snapshot copies the database as it is now to a file that has no name any more, and hashes it. While a snapshot is open the
// database grows by all that is written, and in the end waits for it: it must not take as long as a client likes.
func (g *gate) snapshot() (f *os.File, sum []byte, err error) {
	state := g.p.h.Config.State
	if f, err = os.CreateTemp(state, restorePattern); err != nil {
		return nil, nil, err
	}
	h := sha256.New()
	err = errors.Join(os.Remove(f.Name()), g.p.h.Store.Snapshot(func(x *store.Snapshot) error {
		if x.Size() > room(state) {
			return errRoom
		}
		_, err := x.WriteTo(io.MultiWriter(f, h))
		return err
	}))
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, h.Sum(nil), nil
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
