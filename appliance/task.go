package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Task is a part of the process.
type Task interface {
	// Run works until ctx ends, and then returns nil. Any other return is a failure.
	Run(ctx context.Context) error
	// Ready is closed once what starts after the task may rely on it.
	Ready() <-chan struct{}
	// String names the task.
	String() string
}

// Errors of tasks.
var (
	// ErrEnded says that a task ended by itself.
	ErrEnded = errors.New("ended by itself")
	// ErrStuck says that a task did not end within StopTimeout.
	ErrStuck = errors.New("does not stop")
)

// StopTimeout is how long [Supervise] waits for a task to end once it was told to; then it goes on without it.
const StopTimeout = 15 * time.Second

// Supervise starts tasks in order, each once the one before it is ready, runs them until ctx ends or one fails, and
// stops them in the opposite order, each once the one after it has ended. The error is that of the task that failed
// first, with those of the stop; nil after a clean stop.
func Supervise(ctx context.Context, log *slog.Logger, tasks ...Task) error {
	type running struct {
		Task
		cancel context.CancelFunc
		ended  chan struct{}
	}
	var (
		group   errgroup.Group
		started []running
		errs    = &errorList{}
		failed  = make(chan struct{}, len(tasks))
	)
start:
	for _, t := range tasks {
		// Not a child of ctx: the end of ctx must not stop all of them at once.
		taskCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{t, cancel, make(chan struct{})}
		started = append(started, r)
		log.Debug("task starts", "task", t.String())
		group.Go(func() error {
			defer close(r.ended)
			err := t.Run(taskCtx)
			if err == nil && taskCtx.Err() == nil {
				err = ErrEnded
			}
			if err != nil {
				errs.add(fmt.Errorf("%s: %w", t, err))
				failed <- struct{}{}
			}
			return err
		})
		select {
		case <-t.Ready():
		case <-ctx.Done():
			break start
		case <-failed:
			failed <- struct{}{}
			break start
		}
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	stuck := false
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		log.Debug("task stops", "task", r.String())
		r.cancel()
		timeout := time.NewTimer(StopTimeout)
		select {
		case <-r.ended:
		case <-timeout.C:
			errs.add(fmt.Errorf("%s: %w", r, ErrStuck))
			stuck = true
		}
		timeout.Stop()
	}
	if !stuck {
		_ = group.Wait() // the errors are in errs, in the order in which they happened
	}
	return errs.join()
}

// errorList collects errors of several goroutines.
type errorList struct {
	mu   sync.Mutex
	errs []error
}

func (l *errorList) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *errorList) join() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs...)
}
