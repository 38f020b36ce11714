package pack

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Instances are the names of the gokrazy instances below image/.
func Instances() []string { return []string{"amd64", "arm64", "rpi"} }

// HostInstance is the one for machines of this architecture, "" if there is none.
func HostInstance() string {
	if slices.Contains(Instances(), runtime.GOARCH) {
		return runtime.GOARCH
	}
	return ""
}

// work is where copies of instances with changed configurations live; the path becomes part of the SBOM.
const work = "image/.work"

// instance is a copy of a gokrazy instance with settings of its own.
type instance struct {
	src    Source
	name   string
	config map[string]any
	gok    string // the built packer
	log    *os.File
	tee    io.Writer // gets what goes to the log instead, if set
	unlock func()
}

// openInstance makes the copy of an instance, whose config.json change may change; only one process at a time has it.
func openInstance(ctx context.Context, src Source, name string, logPath string, change func(config map[string]any) error) (*instance, error) {
	if !slices.Contains(Instances(), name) {
		return nil, fmt.Errorf("there is no instance %q; there are %s", name, strings.Join(Instances(), ", "))
	}
	dir := filepath.Join(src.Dir, work, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(src.Dir, work, name+".lock"))
	if err != nil {
		return nil, err
	}
	in := &instance{src: src, name: name, unlock: unlock}
	if err := in.prepare(ctx, dir, logPath, change); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

func (in *instance) prepare(ctx context.Context, dir, logPath string, change func(map[string]any) error) (err error) {
	b, err := os.ReadFile(filepath.Join(in.src.Dir, "image", in.name, "config.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &in.config); err != nil {
		return fmt.Errorf("image/%s/config.json: %w", in.name, err)
	}
	if err := change(in.config); err != nil {
		return err
	}
	if b, err = json.MarshalIndent(in.config, "", "    "); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		return err
	}
	if err := os.Symlink("../../builddir", filepath.Join(dir, "builddir")); err != nil && !os.IsExist(err) {
		return err
	}
	if in.log, err = os.Create(logPath); err != nil {
		return err
	}
	in.gok = filepath.Join(in.src.Dir, "bin", "gok")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", in.gok, "github.com/gokrazy/tools/cmd/gok")
	cmd.Dir = filepath.Join(in.src.Dir, "image", "gok")
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath -tags=netgo -buildvcs=false", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = in.log, in.log
	if err := cmd.Run(); err != nil {
		return in.failed("building gok", err)
	}
	return nil
}

// Close lets others have the instance.
func (in *instance) Close() {
	if in.log != nil {
		_ = in.log.Close()
	}
	_ = os.Remove(filepath.Join(in.src.Dir, work, in.name, "config.json")) // it may hold a password
	in.unlock()
}

// run runs gok; its output goes to stdout and the log.
func (in *instance) run(ctx context.Context, stdout io.Writer, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, in.gok, append([]string{"-i", in.name, "--parent_dir", work}, args...)...)
	cmd.Dir = in.src.Dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false '-ldflags=-s -w'"), env...)
	cmd.Stdout, cmd.Stderr = stdout, in.log
	if in.tee != nil {
		cmd.Stderr = in.tee
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if in.tee != nil { // it was seen
			return fmt.Errorf("gok %s: %w", args[0], err)
		}
		return in.failed("gok "+args[0], err)
	}
	return nil
}

//go:embed go.sh
var goWrapper []byte

// reproducible runs gok so that what it builds depends neither on the place nor on the time.
func (in *instance) reproducible(ctx context.Context, stdout io.Writer, args ...string) error {
	dir, err := os.MkdirTemp("", "kdht-go-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "go"), goWrapper, 0o755); err != nil {
		return err
	}
	realGo, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	return in.run(ctx, stdout, []string{
		"PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH"),
		"KDHT_GO=" + realGo, "KDHT_TIMESTAMP=" + in.src.Time.Format(time.RFC3339),
	}, args...)
}

// env returns a variable that the configuration sets for the build.
func (in *instance) env(name string) string {
	list, _ := in.config["Environment"].([]any)
	for _, kv := range list {
		if kv, ok := kv.(string); ok {
			if v, found := strings.CutPrefix(kv, name+"="); found {
				return v
			}
		}
	}
	return ""
}

// kernel returns the version of the kernel's module.
func (in *instance) kernel(ctx context.Context) (string, error) {
	module, _ := in.config["KernelPackage"].(string)
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module)
	cmd.Dir = filepath.Join(in.src.Dir, "image", "builddir", filepath.FromSlash(module))
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("version of the kernel: %w", withStderr(err))
	}
	return strings.TrimSpace(string(out)), nil
}

// failed adds the end of the log to an error.
func (in *instance) failed(what string, err error) error {
	b, _ := os.ReadFile(in.log.Name())
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return fmt.Errorf("%s: %w; the end of %s:\n%s", what, err, in.log.Name(), strings.Join(lines[max(0, len(lines)-15):], "\n"))
}
