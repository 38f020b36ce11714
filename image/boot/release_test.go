package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"kdht/image/pack"
)

// TestRelease makes the files of a release and compares them with what is said of them, and with the image.
func TestRelease(t *testing.T) {
	t.Parallel()
	img, dir := image(t, "amd64"), t.TempDir()
	entry, err := pack.Release(img, dir)
	must(t, err)
	if entry.Arch != "amd64" || entry.Instance != "amd64" || entry.Kernel == "" || entry.Root.SHA256 != img.RootSHA256 || entry.Root.Size != img.RootSize {
		t.Errorf("described as %+v", entry)
	}
	for _, f := range append(entry.Extra, entry.Root, entry.Boot, entry.MBR) {
		path := filepath.Join(dir, f.Name)
		info, err := os.Stat(path)
		must(t, err)
		hash, err := fileHash(path)
		must(t, err)
		if info.Size() != f.Size || hash != f.SHA256 {
			t.Errorf("%s has %d bytes and hash %s, described as %+v", f.Name, info.Size(), hash, f)
		}
	}

	packed, err := os.Open(filepath.Join(dir, "kdht-amd64.img.zst"))
	must(t, err)
	defer packed.Close()
	z, err := zstd.NewReader(packed)
	must(t, err)
	defer z.Close()
	h := sha256.New()
	_, err = io.Copy(h, z)
	must(t, err)
	if want, err := fileHash(img.Path); err != nil || hex.EncodeToString(h.Sum(nil)) != want {
		t.Errorf("the compressed image unpacks to something else: %v", err)
	}

	var sbom struct {
		Hash string `json:"sbom_hash"`
		SBOM struct {
			Packages []struct{ Path, BuildID string } `json:"go_packages"`
		} `json:"sbom"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "kdht-amd64.sbom.json"))
	must(t, err)
	must(t, json.Unmarshal(b, &sbom))
	ids := make(map[string]string)
	for _, p := range sbom.SBOM.Packages {
		ids[p.Path] = p.BuildID
	}
	for _, path := range []string{"/user/kdht", "/user/guard", "/gokrazy/dhcp", "/gokrazy/ntp"} {
		if ids[path] == "" {
			t.Errorf("the SBOM does not have %s with a build ID: %v", path, ids)
		}
	}
}
