package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"kdht/appliance/update/manifest"
	"kdht/image/pack"
)

type releaseCmd struct {
	Key       string   `required:"" placeholder:"FILE" help:"Key that signs the release, from \"kdht keygen FILE\"."`
	Dir       string   `placeholder:"DIR" help:"Where the release goes (bin/release/VERSION of the checkout)."`
	Version   string   `placeholder:"TEXT" help:"Name of the release (as git describes the checkout)."`
	Instances []string `arg:"" optional:"" help:"Instances to release; all of them if none is given."`
	Floor     uint64   `placeholder:"SERIAL" help:"Boxes that have committed this release take none with a lower serial any more, and do not go back to one."`
	Dirty     bool     `help:"Release although files differ from the commit."`
}

func (releaseCmd) Help() string {
	return `Writes a folder that boxes update from, by URL or by hand: per instance the compressed disk image, root and boot file systems, boot
code and SBOM; SHA256SUMS; and manifest.json, which names all of them and is signed. The serial number of the release, by which
boxes tell newer from older, is the time of the commit. A floor is for releases that mend a hole: boxes then refuse what is older for
good, also from somebody who knows the password.

Examples:

  build release --key release.key
  build release --key release.key amd64 --dir /srv/www/kdht`
}

// Run makes the release.
func (c *releaseCmd) Run(ctx context.Context) error {
	text, err := os.ReadFile(c.Key)
	if err != nil {
		return fmt.Errorf("key: %w; \"kdht keygen FILE\" makes one", err)
	}
	key, err := manifest.PrivateKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Key, err)
	}
	src, err := pack.OpenSource(ctx, ".")
	if err != nil {
		return err
	}
	if c.Version == "" {
		c.Version = src.Version
	}
	if strings.HasSuffix(src.Version, "+changes") && !c.Dirty {
		return errors.New("files differ from the commit, so nobody could build this again; commit them (or add --dirty)")
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(src.Dir, "bin", "release", c.Version)
	}
	if len(c.Instances) == 0 {
		c.Instances = pack.Instances()
	}
	if c.Floor > src.Serial() { // before the long part
		return fmt.Errorf("--floor=%d is above the serial of this release, which is %d: name that of the oldest release that boxes may go back to", c.Floor, src.Serial())
	}
	m := manifest.Manifest{Product: manifest.Product, Version: c.Version, Serial: src.Serial(), Floor: c.Floor, Created: src.Time}
	var sums strings.Builder
	for _, name := range c.Instances {
		img, err := build(ctx, src, name, pack.Options{Version: c.Version, SBOM: true})
		if err != nil {
			return err
		}
		entry, err := pack.Release(img, c.Dir)
		if err != nil {
			return err
		}
		m.Images = append(m.Images, entry)
		for _, f := range append([]manifest.File{entry.Root, entry.Boot, entry.MBR}, entry.Extra...) {
			fmt.Fprintf(&sums, "%s  %s\n", f.SHA256, f.Name)
		}
	}
	doc, err := manifest.Sign(&m, key)
	if err != nil {
		return err
	}
	sum := filepath.Join(c.Dir, "SHA256SUMS")
	if err := os.WriteFile(sum, []byte(sums.String()), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, manifest.Name), doc, 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: release %s, serial %d, signed with the key whose public half is\n%s\n",
		relative(c.Dir), m.Version, m.Serial, hex.EncodeToString(key.Public().(ed25519.PublicKey)))
	return nil
}
