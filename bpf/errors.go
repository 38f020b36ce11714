package bpf

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Errors of this package, to be compared with errors.Is.
var (
	// ErrNotSupported says that the kernel or the interface has no XDP of the kind that was asked for.
	ErrNotSupported = errors.New("XDP is not supported")
	// ErrPermission says that the process may not load or attach XDP programs (CAP_NET_ADMIN and CAP_BPF, or root).
	ErrPermission = errors.New("no permission for XDP")
	// ErrBusy says that another XDP program is attached to the interface.
	ErrBusy = errors.New("another XDP program is attached")
	// ErrNoInterface says that no interface has that index.
	ErrNoInterface = errors.New("no such interface")
	// ErrSnapshot says that a snapshot breaks the rules of its type.
	ErrSnapshot = errors.New("invalid snapshot")
	// ErrEndpoint says that an endpoint is not a unicast address with a port, or that there are too many.
	ErrEndpoint = errors.New("invalid endpoint")
	// ErrLimits says that limits cannot be kept: an exempt prefix is none, or there are too many.
	ErrLimits = errors.New("invalid limits")
	// ErrClosed says that the program was closed.
	ErrClosed = errors.New("program is closed")
)

// classify wraps an error of the kernel so that it is one of this package's too.
func classify(op string, err error) error {
	class := error(nil)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !isVerifierError(err), errors.Is(err, fs.ErrPermission) && !isVerifierError(err):
		class = ErrPermission
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		class = ErrBusy
	case errors.Is(err, unix.ENODEV):
		class = ErrNoInterface
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		class = ErrNotSupported
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s: %w: %w", op, class, err)
}

func isVerifierError(err error) bool {
	var ve *ebpf.VerifierError
	return errors.As(err, &ve)
}
