package gateway

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kdht/appliance/durable"
)

// BoxKeyFile is the name of the file in the state directory that has the seed of the box's own key, as kdht keygen writes it.
const BoxKeyFile = "box.key"

// maxKeyFile bounds what is read of a key file; ours have 65 bytes.
const maxKeyFile = 4096

// fleet is the key that names are signed with.
type fleet struct {
	known  bool // public is
	public [ed25519.PublicKeySize]byte
	secret ed25519.PrivateKey // nil: names are read only
}

// takeKeys reads the keys that the configuration wants.
func (g *Gateway) takeKeys() {
	if len(g.config.Gateway.Sign) > 0 {
		key, err := boxKey(filepath.Join(g.config.State, BoxKeyFile))
		if err != nil {
			g.notes = append(g.notes, fmt.Sprintf("The box signs nothing with a key of its own: %v.", err))
		}
		g.box = key
	}
	n := g.config.Names
	seed, file := n.Seed()
	if file != "" {
		var err error
		if seed, err = readSeed(file); err != nil {
			g.notes = append(g.notes, fmt.Sprintf("Names can only be read here: the fleet's secret key, names.secret, cannot be: %v.", err))
		}
	}
	if b, err := hex.DecodeString(n.Key); err == nil && len(b) == ed25519.PublicKeySize {
		g.fleet.known, g.fleet.public = true, [32]byte(b)
	}
	if seed == nil {
		return
	}
	secret := ed25519.NewKeyFromSeed(seed)
	public := [32]byte(secret.Public().(ed25519.PublicKey))
	if g.fleet.known && public != g.fleet.public {
		g.notes = append(g.notes, fmt.Sprintf("Names can only be read here: names.secret belongs to the public key %x, and names.key is another.", public))
		return
	}
	g.fleet = fleet{known: true, public: public, secret: secret}
}

// readSeed reads a file that kdht keygen made.
func readSeed(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, err
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s is no key file of %d hexadecimal digits", path, 2*ed25519.SeedSize)
	}
	return seed, nil
}

// boxKey reads the box's own key, or makes one, which is on disk when it returns.
func boxKey(path string) (ed25519.PrivateKey, error) {
	seed, err := readSeed(path)
	if err == nil {
		return ed25519.NewKeyFromSeed(seed), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := durable.Write(path, []byte(hex.EncodeToString(key.Seed())+"\n"), 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

// publicKey is a public key as programs read it, "" for none.
func publicKey(k ed25519.PrivateKey) string {
	if k == nil {
		return ""
	}
	return hex.EncodeToString(k.Public().(ed25519.PublicKey))
}
