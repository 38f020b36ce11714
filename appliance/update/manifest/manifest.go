package manifest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Name is the name of the signed document in a release.
const Name = "manifest.json"

// MaxSize bounds the signed document, in bytes.
const MaxSize = 1 << 20

// Product is the only product there is.
const Product = "kdht"

// Manifest describes one release.
type Manifest struct {
	Product string `json:"product"` // [Product]
	Version string `json:"version"` // for people, as in "v0.3.0"
	Serial  uint64 `json:"serial"`  // grows with every release; a box never goes back by itself
	// Floor is the lowest serial that a box takes once it has committed this release, whoever asks for what is older; 0: any.
	Floor   uint64    `json:"floor,omitempty"`
	Created time.Time `json:"created"`
	Images  []Image   `json:"images"`
}

// Image is the release for one kind of box.
type Image struct {
	Instance string `json:"instance"` // gokrazy instance: "amd64", "arm64", "rpi"
	Arch     string `json:"arch"`     // GOARCH
	Kernel   string `json:"kernel"`   // version of the kernel package
	Root     File   `json:"root"`     // squashfs of the root file system
	Boot     File   `json:"boot"`     // FAT image of the boot file system
	MBR      File   `json:"mbr"`      // boot code, 446 bytes
	Extra    []File `json:"extra,omitempty"`
}

// File is one file of a release, as it lies there.
type File struct {
	Name   string `json:"name"`   // in the directory of the manifest, without any slash
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hexadecimal digits
}

// For returns the image for a kind of box, false if the release has none.
func (m *Manifest) For(instance string) (Image, bool) {
	for _, i := range m.Images {
		if i.Instance == instance {
			return i, true
		}
	}
	return Image{}, false
}

// ErrInvalid says that a manifest makes no sense.
var ErrInvalid = errors.New("invalid manifest")

var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)

// Validate returns an error of kind [ErrInvalid] that says what is wrong with the manifest.
func (m *Manifest) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case m.Product != Product:
		return bad("it is for the product %q, not %q", m.Product, Product)
	case m.Version == "" || len(m.Version) > 128 || strings.ContainsFunc(m.Version, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("the version %q is no short text", m.Version)
	case m.Serial == 0:
		return bad("the serial is 0")
	case m.Floor > m.Serial:
		return bad("its floor %d is above its serial %d", m.Floor, m.Serial)
	case len(m.Images) == 0:
		return bad("it has no images")
	}
	seen := make(map[string]bool)
	for _, i := range m.Images {
		if i.Instance == "" || i.Arch == "" || seen[i.Instance] {
			return bad("image %q: instance or architecture missing, or listed twice", i.Instance)
		}
		seen[i.Instance] = true
		for _, f := range append([]File{i.Root, i.Boot, i.MBR}, i.Extra...) {
			if err := f.validate(); err != nil {
				return bad("image %s: %v", i.Instance, err)
			}
		}
	}
	return nil
}

func (f File) validate() error {
	if !fileName.MatchString(f.Name) || len(f.Name) > 255 {
		return fmt.Errorf("%q is no file name", f.Name)
	}
	if f.Size <= 0 {
		return fmt.Errorf("%s: size %d", f.Name, f.Size)
	}
	if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 || f.SHA256 != strings.ToLower(f.SHA256) {
		return fmt.Errorf("%s: %q is no SHA-256 in lower-case hexadecimal digits", f.Name, f.SHA256)
	}
	return nil
}
