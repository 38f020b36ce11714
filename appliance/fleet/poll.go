package fleet

import (
	"context"
	"fmt"
	"time"
)

// Poll calls f until it returns true or an error, at intervals, or until ctx ends. It is for programs that offer no
// other way to learn that something has happened.
func Poll(ctx context.Context, interval time.Duration, f func() (bool, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("still waiting: %w", context.Cause(ctx))
		}
	}
}
