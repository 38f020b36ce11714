package kernels_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kdht/bpf/testenv"
	"kdht/image/kernels"
)

// TestFlash has package flash write an image to a removable disk at a USB port, in a guest, and looks at what is on the disk then.
func TestFlash(t *testing.T) {
	t.Parallel()
	kernel := kernels.Stock()[0] // the quickest to boot
	testenv.NeedTool(t, kernel.QEMU())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	image, err := kernel.Image(ctx, "../builddir")
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	stick := filepath.Join(scratch, "stick")
	if err := os.WriteFile(stick, make([]byte, 48<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	guest := kernels.Guest{
		Kernel: kernel, Image: image,
		Init: build(ctx, t, kernel, filepath.Join(scratch, "init"), "build", "./guest"),
		Test: build(ctx, t, kernel, filepath.Join(scratch, "test"), "test", "kdht/image/flash"),
		Args: []string{"-test.v", "-test.run=^TestStick$"}, Env: []string{"KDHT_STICK=/dev/sda", "KDHT_REQUIRE=1"},
		Dir: "/", MemoryMiB: 256, Sticks: []string{stick},
	}
	var console bytes.Buffer
	code, err := guest.Run(ctx, scratch, &console)
	if err != nil || code != 0 || !bytes.Contains(console.Bytes(), []byte("--- PASS: TestStick")) {
		t.Fatalf("exit code %d, error %v, console:\n%s", code, err, console.Bytes())
	}
	b, err := os.ReadFile(stick)
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.Repeat([]byte("a stick "), 1<<20); !bytes.HasPrefix(b, want) || bytes.ContainsFunc(b[len(want):], func(r rune) bool { return r != 0 }) {
		t.Error("the disk does not hold the image and nothing else")
	}
}
