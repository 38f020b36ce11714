package admin

import (
	"errors"
	"path/filepath"
	"sync"

	"tailscale.com/ipn"
	"tailscale.com/ipn/store"
	"tailscale.com/types/logger"
)

// errSealed says that the state belongs to another node by now.
var errSealed = errors.New("another node has the state of this one")

// sealable is the state of a node, in a file that another node is to have while this one may not have ended.
type sealable struct {
	ipn.StateStore

	mu     sync.Mutex
	sealed bool
}

// openState opens the state in the plane's directory.
func openState(logf logger.Logf, dir string) (*sealable, error) {
	s, err := store.NewFileStore(logf, filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	return &sealable{StateStore: s}, nil
}

// WriteState implements [ipn.StateStore].
func (s *sealable) WriteState(id ipn.StateKey, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return errSealed
	}
	return s.StateStore.WriteState(id, b)
}

// seal has nothing written any more. Nothing is being written when it returns.
func (s *sealable) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
}
