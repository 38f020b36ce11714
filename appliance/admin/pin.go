package admin

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	return true, p, durable(path, append(b, '\n'))
}

// durable makes a file have a content, durably.
func durable(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
