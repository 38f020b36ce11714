package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ExitError is how a client command failed.
type ExitError struct {
	Args   []string
	Code   int
	Stderr string
}

// Error implements error.
func (e *ExitError) Error() string {
	return fmt.Sprintf("kdht %s: exit code %d: %s", strings.Join(e.Args, " "), e.Code, e.Stderr)
}

// Run runs a client command, such as `get`, on a host and returns its standard output. An [ExitError] says that it
// ran and failed.
func (f *Fleet) Run(ctx context.Context, h *Host, args ...string) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, f.Binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = f.Dir, &out, &errOut
	if err := h.NS.Start(cmd); err != nil {
		return nil, fmt.Errorf("fleet: kdht: %w", err)
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.Bytes(), &ExitError{args, exit.ExitCode(), strings.TrimSpace(errOut.String())}
	}
	return out.Bytes(), err
}
