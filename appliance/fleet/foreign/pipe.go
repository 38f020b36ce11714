package foreign

import (
	"fmt"
	"os"
)

// pipe is os.Pipe with an error that says what failed.
func pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, fmt.Errorf("foreign: pipe: %w", err)
	}
	return r, w, nil
}
