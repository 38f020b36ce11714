// Package boot tests the appliance as a whole: its images, in virtual machines. `make test-image` runs it; `go test ./...`
// and `make test` pass it by, because it takes minutes.
package boot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kdht/bpf/testenv"
	"kdht/image/pack"
	"kdht/image/vm"
)

func TestMain(m *testing.M) {
	if os.Getenv("KDHT_IMAGE") != "1" {
		fmt.Println("passed by: these tests boot images and take minutes; `make test-image` (KDHT_IMAGE=1) runs them")
		return
	}
	os.Exit(m.Run())
}

// images are built once.
var images sync.Map // instance → func() (pack.Image, error)

func image(t *testing.T, instance string) pack.Image {
	t.Helper()
	once, _ := images.LoadOrStore(instance, sync.OnceValues(func() (pack.Image, error) {
		src, err := pack.OpenSource(context.Background(), ".")
		if err != nil {
			return pack.Image{}, err
		}
		return pack.Build(context.Background(), src, instance, pack.Options{Dir: filepath.Join(src.Dir, "bin", "test-image"), SBOM: true})
	}))
	img, err := once.(func() (pack.Image, error))()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// need skips, or with KDHT_REQUIRE=1 fails, where a machine cannot run.
func need(t *testing.T, m vm.Machine) {
	t.Helper()
	testenv.NeedNetNS(t)
	testenv.NeedTool(t, m.QEMU())
	testenv.NeedTool(t, "dnsmasq")
}

// logFile is a file for a console that is kept if the test fails.
func logFile(t *testing.T, name string) *os.File {
	t.Helper()
	dir := os.Getenv("KDHT_LOGS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "kdht-test-image")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.Close()
		if t.Failed() {
			t.Logf("console: %s", f.Name())
		} else {
			_ = os.Remove(f.Name())
		}
	})
	return f
}

// fileHash returns the SHA-256 of a file.
func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
