package change

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kdht/appliance/durable"
)

// MaxVersions is how many versions are kept; the oldest ones are forgotten.
const MaxVersions = 20

// Errors of changes.
var (
	// ErrTrial says that a change is on trial.
	ErrTrial = errors.New("another change is on trial: wait until it is kept or taken back, which GET /admin/config/versions shows")
	// ErrChanged says that the file is not the one that the change was made from.
	ErrChanged = errors.New("the configuration is another one than If-Match says: somebody has changed it; get it again")
	// ErrVersion says that there is no such version.
	ErrVersion = errors.New("there is no such version")
)

// Version is a configuration that was in force.
type Version struct {
	ID   int       `json:"id"`
	Time time.Time `json:"time"` // when it came into force, or was first seen
	By   string    `json:"by,omitempty"`
	// Outcome is "in force", "on trial", "taken back: REASON", or "" for one that another took the place of.
	Outcome string `json:"outcome,omitempty"`
	Sum     string `json:"sum"` // SHA-256 of the text
}

// TakenBack reports whether the version did not prove well.
func (v Version) TakenBack() bool { return strings.HasPrefix(v.Outcome, takenBack) }

// History is a configuration file with its versions. All methods may be called by any goroutine; only one process may have it.
type History struct {
	dir, path string

	mu       sync.Mutex
	versions []Version
	trial    *Trial
	counted  bool   // the start of this process is among those of the trial
	said     string // what became of a change by itself; "" if nothing did
	err      error  // what was wrong when it was opened
}

// Open gives the history of the file at path, in a directory that is made with the first change. One that is damaged is set aside,
// which [History.Start] reports.
func Open(dir, path string) *History {
	h := &History{dir: dir, path: path}
	if h.err = errors.Join(h.read("versions.json", &h.versions), h.read("trial.json", &h.trial)); h.err != nil {
		aside := dir + ".damaged"
		h.versions, h.trial = nil, nil
		h.err = errors.Join(fmt.Errorf("%w; it was set aside as %s", h.err, aside), os.RemoveAll(aside), os.Rename(dir, aside))
	}
	return h
}

// read reads a record; one that is not there leaves v as it is.
func (h *History) read(name string, v any) error {
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("history of the configuration: %s: %w", name, err)
	}
	return nil
}

// Said is what [History.Start] or [History.Back] have done in this process, for the owner; "" if nothing.
func (h *History) Said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said
}

// Path is the file.
func (h *History) Path() string { return h.path }

// Text is the file as it is; nil if there is none.
func (h *History) Text() ([]byte, error) {
	b, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Sum is how a text is told from others.
func Sum(text []byte) string {
	s := sha256.Sum256(text)
	return hex.EncodeToString(s[:])
}

// Versions lists the versions, the newest first.
func (h *History) Versions() []Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.versions)
	slices.Reverse(all)
	return all
}

// Version is the text of a version.
func (h *History) Version(id int) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.version(id)
}

func (h *History) version(id int) ([]byte, error) {
	i := slices.IndexFunc(h.versions, func(v Version) bool { return v.ID == id })
	if i < 0 {
		return nil, ErrVersion
	}
	b, err := os.ReadFile(h.file(id))
	if err == nil && Sum(b) != h.versions[i].Sum {
		err = fmt.Errorf("version %d is damaged", id)
	}
	return b, err
}

func (h *History) file(id int) string { return filepath.Join(h.dir, fmt.Sprintf("%d.hujson", id)) }

// add keeps a text as a new version, unless it is the newest one already. h.mu is held.
func (h *History) add(text []byte, v Version) (Version, error) {
	v.Sum = Sum(text)
	if n := len(h.versions); n > 0 && h.versions[n-1].Sum == v.Sum {
		return h.versions[n-1], nil
	}
	v.ID = 1
	if n := len(h.versions); n > 0 {
		v.ID = h.versions[n-1].ID + 1
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return v, err
	}
	if err := durable.Write(h.file(v.ID), text, 0o600); err != nil {
		return v, err
	}
	h.versions = append(h.versions, v)
	for len(h.versions) > MaxVersions {
		if err := os.Remove(h.file(h.versions[0].ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
		h.versions = h.versions[1:]
	}
	return v, h.save()
}

// set changes what is known of a version. h.mu is held.
func (h *History) set(id int, outcome string) {
	for i := range h.versions {
		switch v := &h.versions[i]; {
		case v.ID == id:
			v.Outcome = outcome
		case v.Outcome == inForce && outcome == inForce:
			v.Outcome = ""
		}
	}
}

const inForce, onTrial, takenBack = "in force", "on trial", "taken back: "

// save writes what is known of the versions. h.mu is held.
func (h *History) save() error {
	b, err := json.MarshalIndent(h.versions, "", "\t")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(h.dir, "versions.json"), b, 0o600)
}

// put writes the file itself; nil removes it. Where the path is a symbolic link, it stays one.
func (h *History) put(text []byte) error {
	path := h.path
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	if text == nil {
		return durable.Remove(path)
	}
	mode := fs.FileMode(0o600)
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode().Perm()
	}
	return durable.Write(path, text, mode)
}
