package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"kdht/appliance/durable"
	"kdht/config"
)

// keyFile is the name of the file in the state directory to which the appliance takes an auth key over from the boot partition
// (package box).
const keyFile = "tailnet.key"

// maxKey bounds the file of an auth key, in bytes.
const maxKey = 4 << 10

// usedFile, in the plane's directory, has the SHA-256 of the auth key that the box has joined with last.
const usedFile = "used-key"

// triedFile, in the plane's directory, has the SHA-256 of the auth key that a login is under way with: an administrator may have to approve
// of the box, and a restart come before that.
const triedFile = "tried-key"

// keys finds auth keys and keeps them out of logs. A key is used once: when the node key expires later, the key of the first
// login is of no use, and to try it would drop the connection by which the control server says that the node key was extended.
type keys struct {
	c     config.Tailnet
	state string // directory

	mu    sync.Mutex
	known []string
}

// find gives an auth key that was not used yet, and where it comes from; both are empty if there is none. Files are read each
// time.
func (k *keys) find() (key, from string, err error) {
	key, from, err = k.look()
	if key != "" && k.wasUsed(key) {
		return "", "", nil
	}
	return key, from, err
}

func (k *keys) wasUsed(key string) bool {
	b, err := os.ReadFile(filepath.Join(k.state, stateDir, usedFile))
	return err == nil && strings.TrimSpace(string(b)) == sumOf(key)
}

// trying notes that a login begins with a key, or, with none, that no such login is under way.
func (k *keys) trying(key string) error {
	path := filepath.Join(k.state, stateDir, triedFile)
	if key != "" {
		return durable.Write(path, []byte(sumOf(key)+"\n"), 0o600)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) { // nearly always; this is called every few seconds
		return nil
	}
	return durable.Remove(path)
}

// underWay gives the key that a login was begun with, perhaps before a restart, if it is still the owner's wish; "" if there is none.
func (k *keys) underWay() string {
	b, err := os.ReadFile(filepath.Join(k.state, stateDir, triedFile))
	if err != nil {
		return ""
	}
	if key, _, err := k.find(); err == nil && key != "" && strings.TrimSpace(string(b)) == sumOf(key) {
		return key
	}
	return ""
}

func sumOf(key string) string {
	s := sha256.Sum256([]byte(key))
	return hex.EncodeToString(s[:])
}

func (k *keys) look() (key, from string, err error) {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if key != "" && !slices.Contains(k.known, key) {
			k.known = append(k.known, key)
		}
	}()
	if k.c.AuthKey != "" {
		return k.c.AuthKey, "tailnet.authKey", nil
	}
	if k.c.AuthKeyFile != "" {
		key, err := readKey(k.c.AuthKeyFile)
		return key, k.c.AuthKeyFile, err
	}
	path := filepath.Join(k.state, keyFile)
	if key, err := readKey(path); !errors.Is(err, fs.ErrNotExist) {
		return key, path, err
	}
	for _, name := range []string{config.TailnetKeyVariable, "TS_AUTHKEY"} {
		if key := strings.TrimSpace(os.Getenv(name)); key != "" {
			return key, name + " in the environment", nil
		}
	}
	return "", "", nil
}

// used notes that the box has joined with a key. The one that the appliance has kept is removed: nobody needs it any more, and
// whoever gets hold of the card could use it.
func (k *keys) used(key string) error {
	if err := durable.Write(filepath.Join(k.state, stateDir, usedFile), []byte(sumOf(key)+"\n"), 0o600); err != nil {
		return err
	}
	if err := k.trying(""); err != nil {
		return err
	}
	path := filepath.Join(k.state, keyFile)
	err := durable.Overwrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, durable.Remove(path)) // better there no more than there as it was
}

// readKey reads an auth key from a file. What is wrong with it is said without it.
func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("auth key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return "", fmt.Errorf("auth key: %w", err)
	}
	key := bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\ufeff")))
	switch {
	case len(b) > maxKey || bytes.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("auth key: %s should hold one auth key and nothing else", path)
	case len(key) == 0:
		return "", fmt.Errorf("auth key: %s is empty", path)
	}
	return string(key), nil
}

// wanted says whether the plane is on.
func wanted(c config.Tailnet, state string) bool {
	switch c.Mode {
	case config.TailnetOn:
		return true
	case config.TailnetOff:
		return false
	}
	if c.HasKey() || joined(filepath.Join(state, stateDir)) {
		return true
	}
	_, err := os.Stat(filepath.Join(state, keyFile))
	return err == nil
}

// keyForm is what auth keys of Tailscale and Headscale look like.
var keyForm = regexp.MustCompile(`(tskey|hskey)-[A-Za-z0-9_-]+`)

// redact takes auth keys out of a text.
func (k *keys) redact(s string) string {
	return keyForm.ReplaceAllString(k.redactKnown(s), "(auth key)")
}

func (k *keys) redactKnown(s string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.known {
		s = strings.ReplaceAll(s, key, "(auth key)")
	}
	return s
}
