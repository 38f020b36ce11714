package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Source is the checkout that an image is built from.
type Source struct {
	// Dir is the root of the repository.
	Dir string
	// Version names what is checked out, as in v1.2.3, v1.2.3-4-g0123456789ab or 0123456789ab; with "+changes"
	// when files differ from the commit.
	Version string
	// Time is when it was committed; SOURCE_DATE_EPOCH, in seconds since 1970, overrides it.
	Time time.Time
}

// Serial is the number by which boxes tell newer versions from older ones: the time in seconds since 1970.
func (s Source) Serial() uint64 { return uint64(s.Time.Unix()) }

// OpenSource describes the checkout that dir lies in. Without git, the version is "unknown".
func OpenSource(ctx context.Context, dir string) (Source, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return Source{}, err
	}
	for {
		if b, err := os.ReadFile(filepath.Join(root, "go.mod")); err == nil && bytes.HasPrefix(b, []byte("module kdht\n")) {
			break
		}
		if root == filepath.Dir(root) {
			return Source{}, fmt.Errorf("%s is not inside a checkout of kdht", dir)
		}
		root = filepath.Dir(root)
	}
	s := Source{Dir: root, Version: "unknown", Time: time.Unix(0, 0).UTC()}
	if v, err := git(ctx, root, "describe", "--tags", "--always", "--abbrev=12", "--dirty=+changes"); err == nil {
		s.Version = v
	}
	sec, err := git(ctx, root, "log", "-1", "--format=%ct")
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		sec, err = epoch, nil
	}
	if err == nil {
		n, err := strconv.ParseInt(sec, 10, 64)
		if err != nil {
			return Source{}, fmt.Errorf("time of the sources: %w", err)
		}
		s.Time = time.Unix(n, 0).UTC()
	}
	return s, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), withStderr(err)
}

// withStderr adds what a failed command printed to its error.
func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}
