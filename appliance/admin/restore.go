package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance"
	"kdht/appliance/durable"
	"kdht/store"
)

const (
	// restorePattern is what files of a restore are called until they are verified and in place.
	restorePattern = "restore-*.db"
	// spare is what a restore leaves free on the disk, in bytes.
	spare = 16 << 20
)

// restore takes a database in, verifies it, and has the program start anew with it. Of a hash, in Repr-Digest (RFC 9530) or
// ?sha256= in hexadecimal digits, it makes sure first. The box keeps its identity unless ?identity=backup.
func (g *gate) restore(w http.ResponseWriter, r *http.Request) {
	done, ok := g.one(w, "restore")
	if !ok {
		return
	}
	defer done()
	if s := r.URL.Query().Get("identity"); s != "" && s != "own" && s != "backup" {
		fail(w, http.StatusBadRequest, "identity is own (the box keeps its node IDs) or backup (it takes those of the backup).")
		return
	}
	want, err := digest(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	state := g.p.h.Config.State
	path, sum, err := g.receive(w, r, state)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errRoom) {
			status = http.StatusInsufficientStorage
		}
		fail(w, status, "Nothing was changed: "+err.Error()+".")
		return
	}
	keep := false
	defer func() {
		if !keep {
			_ = os.Remove(path)
		}
	}()
	if want != nil && string(want) != string(sum) {
		fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("Nothing was changed: what came has the SHA-256 %x, and should have %x.", sum, want))
		return
	}
	has, err := store.Verify(path, g.p.h.Store.Capacity())
	if errors.Is(err, store.ErrTooMany) {
		err = fmt.Errorf("%w, which is what this box may have (store.maxItems, store.maxBytes)", err)
	}
	if err != nil {
		g.seldom(g.failures, caller(r), "restore refused", "restore", "refused: "+err.Error())
		noted(w)
		fail(w, http.StatusUnprocessableEntity, "Nothing was changed: "+err.Error()+".")
		return
	}
	own := r.URL.Query().Get("identity") != "backup"
	what := fmt.Sprintf("restore a database of %d items and %d peers, SHA-256 %x", has.Items, has.Peers, sum)
	if err := g.p.h.Store.KeepOwn(path, entry(caller(r), what, "done"), own); err != nil {
		fail(w, http.StatusInternalServerError, "Nothing was changed: the audit log could not be taken over: "+err.Error()+".")
		return
	}
	keep = true
	noted(w)
	g.p.log.Warn("a database is restored", "who", caller(r).Name, "items", has.Items, "peers", has.Peers)
	w.WriteHeader(http.StatusAccepted)
	whose := "The box keeps its own node IDs"
	if !own {
		whose = "The box takes the node IDs of the backup"
	}
	_, _ = fmt.Fprintf(w, "It has %d items and %d peers. %s. The program starts anew with it; the database of before is kept beside it for %s.\n", has.Items, has.Peers, whose, "a week")
	log := g.p.log
	g.leave(w, func() {
		before, err := store.Replace(filepath.Join(state, appliance.StoreFile), path)
		if err != nil {
			log.Error("the database was not restored", "err", err)
			return
		}
		log.Warn("the database was restored", "before", before)
	})
}

var errRoom = errors.New("there is not enough room on the disk")

// room is how many bytes may be written to a directory for a while.
func room(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail)*st.Bsize - spare
}

// receive writes a body to a file in a directory.
func (g *gate) receive(w http.ResponseWriter, r *http.Request, dir string) (path string, sum []byte, err error) {
	room := room(dir)
	if room <= 0 || r.ContentLength > room {
		return "", nil, errRoom
	}
	f, err := os.CreateTemp(dir, restorePattern)
	if err != nil {
		return "", nil, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(patientReader{r.Body, http.NewResponseController(w)}, room+1))
	if err == nil && n > room {
		err = errRoom
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), h.Sum(nil), nil
}

// digest is the hash that a request says its body has; nil if it says none.
func digest(r *http.Request) ([]byte, error) {
	if s := r.URL.Query().Get("sha256"); s != "" {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != sha256.Size {
			return nil, errors.New("sha256 is the hash in 64 hexadecimal digits")
		}
		return b, nil
	}
	for _, name := range []string{"Repr-Digest", "Content-Digest"} {
		for part := range strings.SplitSeq(r.Header.Get(name), ",") {
			s, ok := strings.CutPrefix(strings.TrimSpace(part), "sha-256=:")
			if !ok {
				continue
			}
			b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(s, ":"))
			if err != nil || len(b) != sha256.Size {
				return nil, fmt.Errorf("%s has no SHA-256 in base64 between colons", name)
			}
			return b, nil
		}
	}
	return nil, nil
}

const (
	// beforeFor is how long the database of before a restore is kept.
	beforeFor = 7 * 24 * time.Hour
	// beforeLook is how often its age is looked at.
	beforeLook = time.Hour
)

// keeper removes the database of before a restore when it is old enough.
type keeper struct {
	path  string
	every time.Duration
	now   func() time.Time
	log   *slog.Logger
	ready chan struct{}
}

func newKeeper(state string, log *slog.Logger) *keeper {
	k := &keeper{path: filepath.Join(state, appliance.StoreFile) + store.BeforeRestore, every: beforeLook, now: time.Now, log: log, ready: make(chan struct{})}
	close(k.ready) // nobody waits for it
	return k
}

func (k *keeper) String() string         { return "keeper of the database of before a restore" }
func (k *keeper) Ready() <-chan struct{} { return k.ready }

// Run looks now and then, until ctx ends.
func (k *keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		if err := k.look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look removes the file if it was put there long enough ago. A clock that has not been set yet takes it for younger.
func (k *keeper) look() error {
	var st unix.Stat_t
	if err := unix.Stat(k.path, &st); errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	// Its content is as old as the last write before the restore; the inode was changed when it got its name.
	if k.now().Sub(time.Unix(st.Ctim.Unix())) < beforeFor {
		return nil
	}
	k.log.Info("the database of before the restore is removed", "file", k.path)
	return durable.Remove(k.path)
}

// tidy removes what restores have left that were cut off.
func tidy(state string) error {
	all, err := filepath.Glob(filepath.Join(state, restorePattern))
	for _, path := range all {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
