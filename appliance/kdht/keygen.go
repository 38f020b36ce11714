package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

type keygenCmd struct {
	File string `arg:"" optional:"" default:"kdht.key" help:"File of the secret key. Default: kdht.key."`
	Show bool   `help:"Print the public key of an existing file, and make nothing."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (keygenCmd) Help() string {
	return `Makes an Ed25519 key for mutable items. The file has the 32-byte seed in hexadecimal digits; whoever has it can
change the items. It is readable for its owner only, and an existing file is never overwritten. What is printed
is the public key, under which everybody finds the items.

Examples:

  kdht keygen my.key
  kdht put --key-file my.key "first version"
  kdht get --key $(kdht keygen --show my.key)`
}

// Run makes or shows a key.
func (c *keygenCmd) Run(s *system) error {
	var key ed25519.PrivateKey
	var err error
	if c.Show {
		key, err = readKey(s, c.File)
	} else {
		key, err = makeKey(c.File)
	}
	if err != nil {
		return err
	}
	public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
	if c.JSON {
		return s.printJSON(struct {
			File string `json:"file"`
			Key  string `json:"k"`
		}{c.File, public})
	}
	_, err = fmt.Fprintln(s.stdout, public)
	return err
}

// makeKey makes a key and writes its seed to a new file, which is complete and on disk when it returns.
func makeKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, failed(err, "try again", "cannot make a key")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, failed(nil, "name another file, or remove this one if nothing of yours is signed with it", "%s exists, and is not overwritten", path)
	}
	if err != nil {
		return nil, failed(err, "name a file in a directory that you may write to", "cannot make the key file")
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(key.Seed()))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		_ = os.Remove(path) // half a key is none
		return nil, failed(err, "is the disk full?", "cannot write the key file")
	}
	return key, nil
}

// maxKeyFile bounds what is read of a key file; ours have 65 bytes.
const maxKeyFile = 4096

// readKey reads a file that makeKey wrote, and says so if others may read it, too.
func readKey(s *system, path string) (ed25519.PrivateKey, error) {
	f, err := os.Open(path)
	var text []byte
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, maxKeyFile))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failed(err, "make one with: kdht keygen "+path, "cannot read the key file")
	case err != nil:
		return nil, failed(err, "name a file that you may read; only its owner may read what \"kdht keygen\" made", "cannot read the key file")
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, failed(nil, "make one with \"kdht keygen\"", "%s is not a key file: it should have %d hexadecimal digits and nothing else", path, 2*ed25519.SeedSize)
	}
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o077 != 0 {
		s.say("kdht: warning: other users may use the key in %s, its mode is %04o; change that with: chmod 600 %s", path, fi.Mode().Perm(), path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
