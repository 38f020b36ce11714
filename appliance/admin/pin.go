package admin

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"kdht/appliance/durable"
)

// pinFile, in the plane's directory, keeps the tailnet that the box joined first.
const pinFile = "joined.json"

// pin is a tailnet.
type pin struct {
	ControlURL string `json:"controlURL"`
	Tailnet    string `json:"tailnet"`
}

// joined says whether the box has joined a tailnet.
func joined(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, pinFile))
	return err == nil
}

// check compares a tailnet with the one that the box joined first, and notes it if that was none. The login URL is on a page
// that the whole LAN sees, so whoever comes first could otherwise take the box over into a tailnet of his own, where the
// policy says what he likes. Another control server is the owner's wish, since it is in the configuration.
func (p pin) check(dir string) (ok bool, was pin, err error) {
	path := filepath.Join(dir, pinFile)
	b, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(b, &was) == nil && was.ControlURL == p.ControlURL {
		return was.Tailnet == p.Tailnet, was, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, was, err
	}
	if b, err = json.Marshal(p); err != nil {
		return false, was, err
	}
	return true, p, durable.Write(path, append(b, '\n'), 0o600)
}
