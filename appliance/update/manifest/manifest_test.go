package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/appliance/update/manifest"
)

func key(t *testing.T, seed byte) ed25519.PrivateKey {
	t.Helper()
	k, err := manifest.PrivateKey([]byte(hex.EncodeToString(bytes.Repeat([]byte{seed}, 32)) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func release() *manifest.Manifest {
	file := func(name string) manifest.File {
		return manifest.File{Name: name, Size: 4096, SHA256: strings.Repeat("0f", 32)}
	}
	return &manifest.Manifest{
		Product: manifest.Product, Version: "v1.2.0", Serial: 7, Created: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
		Images: []manifest.Image{{Instance: "amd64", Arch: "amd64", Kernel: "7.1", Root: file("root.squashfs"), Boot: file("boot.fat"), MBR: file("mbr.img")}},
	}
}

func TestSignAndOpen(t *testing.T) {
	k := key(t, 1)
	doc, err := manifest.Sign(release(), k)
	if err != nil {
		t.Fatal(err)
	}
	public, err := manifest.PublicKey(hex.EncodeToString(k.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, doc); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string][]byte{"as written": doc, "without white space": compact.Bytes()} {
		m, err := manifest.Open(d, public)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(release(), m); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if i, ok := release().For("amd64"); !ok || i.Root.Name != "root.squashfs" {
		t.Errorf("image %+v", i)
	}
	if _, ok := release().For("rpi"); ok {
		t.Error("found an image that is not there")
	}
}

// TestNewerFields makes sure that what later releases add does not break the signature for this one.
func TestNewerFields(t *testing.T) {
	k := key(t, 1)
	doc, err := manifest.Sign(release(), k)
	if err != nil {
		t.Fatal(err)
	}
	added := bytes.Replace(doc, []byte(`"serial": 7`), []byte(`"serial": 7, "colour": "green"`), 1)
	if _, err := manifest.Open(added, k.Public().(ed25519.PublicKey)); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("an added field: %v", err)
	}
	if _, err := manifest.Open(added, nil); err != nil {
		t.Errorf("an added field without key: %v", err)
	}
}

func TestRefused(t *testing.T) {
	k := key(t, 1)
	doc, err := manifest.Sign(release(), k)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := manifest.Sign(release(), key(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		if !bytes.Contains(doc, []byte(old)) {
			t.Fatalf("no %s in %s", old, doc)
		}
		return bytes.Replace(doc, []byte(old), []byte(new), 1)
	}
	for _, c := range []struct {
		name string
		doc  []byte
		want error
	}{
		{"another key", foreign, manifest.ErrUnsigned},
		{"no signature", replace(`"signature"`, `"signatur"`), manifest.ErrUnsigned},
		{"changed version", replace("v1.2.0", "v1.2.1"), manifest.ErrSignature},
		{"changed hash", replace("0f0f", "0f0e"), manifest.ErrSignature},
		{"key of another, signature of ours", bytes.Replace(foreign, []byte(hex.EncodeToString(key(t, 2).Public().(ed25519.PublicKey))), []byte(hex.EncodeToString(k.Public().(ed25519.PublicKey))), 1), manifest.ErrSignature},
		{"no JSON", []byte("{"), manifest.ErrInvalid},
		{"empty", nil, manifest.ErrInvalid},
		{"too long", make([]byte, manifest.MaxSize+1), manifest.ErrInvalid},
	} {
		if m, err := manifest.Open(c.doc, k.Public().(ed25519.PublicKey)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", c.name, m, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	for name, change := range map[string]func(*manifest.Manifest){
		"product":    func(m *manifest.Manifest) { m.Product = "toaster" },
		"no version": func(m *manifest.Manifest) { m.Version = "" },
		"control":    func(m *manifest.Manifest) { m.Version = "v1\n" },
		"no serial":  func(m *manifest.Manifest) { m.Serial = 0 },
		"floor":      func(m *manifest.Manifest) { m.Floor = m.Serial + 1 },
		"no images":  func(m *manifest.Manifest) { m.Images = nil },
		"twice":      func(m *manifest.Manifest) { m.Images = append(m.Images, m.Images[0]) },
		"path":       func(m *manifest.Manifest) { m.Images[0].Root.Name = "../root" },
		"absolute":   func(m *manifest.Manifest) { m.Images[0].MBR.Name = "/etc/passwd" },
		"size":       func(m *manifest.Manifest) { m.Images[0].Boot.Size = 0 },
		"hash":       func(m *manifest.Manifest) { m.Images[0].Boot.SHA256 = strings.Repeat("0F", 32) },
	} {
		m := release()
		change(m)
		if err := m.Validate(); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := manifest.Sign(m, key(t, 1)); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s is signed: %v", name, err)
		}
	}
}
