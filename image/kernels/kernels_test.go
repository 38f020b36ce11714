package kernels_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"kdht/bpf/testenv"
	"kdht/image/kernels"
)

// TestPrograms runs the program tests of package bpf on every stock kernel:
// their verifiers and helpers differ from each other and from the host's.
func TestPrograms(t *testing.T) {
	t.Parallel()
	// Of parallel subtests the first and the last begin first. So the last should be the one that takes longest, arm64: if it began when
	// the others are done, it would have one of two cores alone, and the other would be idle.
	for _, kernel := range kernels.Stock() {
		t.Run(kernel.Name, func(t *testing.T) {
			t.Parallel() // an emulator uses one core
			testenv.NeedTool(t, kernel.QEMU())
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
			defer cancel()
			image, err := kernel.Image(ctx, "../builddir")
			if err != nil {
				t.Fatal(err)
			}
			scratch := t.TempDir()
			guest := kernels.Guest{
				Kernel:    kernel,
				Image:     image,
				Init:      build(ctx, t, kernel, filepath.Join(scratch, "init"), "build", "./guest"),
				Test:      build(ctx, t, kernel, filepath.Join(scratch, "test"), "test", "kdht/bpf"),
				Files:     map[string]string{"vectors.json": "../../router/krpc/testdata/vectors.json"},
				Args:      []string{"-test.v", "-test.short", "-test.timeout=23m"},
				Env:       []string{"KDHT_VECTORS=/vectors.json", "KDHT_PAIRS=600"},
				Dir:       "/",
				MemoryMiB: 512,
			}
			var console bytes.Buffer
			code, err := guest.Run(ctx, scratch, &console)
			if err != nil || code != 0 {
				t.Fatalf("exit code %d, error %v, console:\n%s", code, err, console.Bytes())
			}
			passed := regexp.MustCompile(`(?m)^--- PASS: .*$`).FindAll(console.Bytes(), -1)
			if len(passed) == 0 {
				t.Fatalf("no test ran, console:\n%s", console.Bytes())
			}
			t.Logf("%d tests passed: %s", len(passed), bytes.Join(passed, []byte(", ")))
			for _, line := range regexp.MustCompile(`(?m)^.*verifier:.*$`).FindAll(console.Bytes(), -1) {
				t.Logf("%s", bytes.TrimSpace(line))
			}
		})
	}
}

// build compiles a static program for the guest.
func build(ctx context.Context, t *testing.T, kernel kernels.Kernel, out, verb, pkg string) string {
	t.Helper()
	args := []string{verb, "-o", out, "-ldflags=-s -w"}
	if verb == "test" {
		args = append(args, "-c")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+kernel.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s %s: %v\n%s", verb, pkg, err, out)
	}
	return out
}
