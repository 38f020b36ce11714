package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"kdht/appliance/durable"
)

// Files of the plane's directory.
const (
	stateFile = "tailscaled.state"      // of tsnet: keys and preferences
	homeFile  = "tailscaled.state.home" // what it was in the tailnet that the box belongs to
)

// keepHome takes a copy of the state, so that the box finds back to its tailnet when somebody has logged it in to another one,
// which overwrites its keys.
func keepHome(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, homeFile)
	if had, err := os.ReadFile(path); err == nil && bytes.Equal(had, b) {
		return nil
	}
	return durable.Write(path, b, 0o600)
}

// goHome puts the copy in the place of the state; without one, the box begins as one that has never been anywhere.
func goHome(dir string) error {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(filepath.Join(dir, homeFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !json.Valid(b):
		return durable.Remove(path)
	case err != nil:
		return err
	}
	return durable.Write(path, b, 0o600)
}

// mendState moves a state file away that no start would ever get past, and puts the copy in its place.
func mendState(dir string) (aside string, err error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if len(b) == 0 || json.Valid(b) {
		return "", nil
	}
	aside = path + ".damaged"
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	return aside, goHome(dir)
}
