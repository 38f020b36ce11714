package appliance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Bounds of the pause before a failed task runs again. A task that ran for the longer one begins with the shorter one.
const (
	restartPauseMin = time.Second
	restartPauseMax = time.Minute
)

// restarting runs a task again whenever it fails, after a pause that doubles: for tasks without which the node is
// worse but still serves.
type restarting struct {
	Task
	log *slog.Logger

	mu       sync.Mutex
	restarts int
	err      error // of the last run, nil while the task runs
}

// Restarting makes a task that never fails from one that may.
func Restarting(t Task, log *slog.Logger) Task { return &restarting{Task: t, log: log} }

// Run runs the task until ctx ends. A task that is an io.Closer keeps something from a failed run for the next; it is
// closed after the last.
func (r *restarting) Run(ctx context.Context) error {
	err := r.repeat(ctx)
	if c, ok := r.Task.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (r *restarting) repeat(ctx context.Context) error {
	pause := restartPauseMin
	for {
		began := time.Now()
		err := r.Task.Run(ctx)
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			err = ErrEnded
		}
		if time.Since(began) >= restartPauseMax {
			pause = restartPauseMin
		}
		r.log.Error("task failed, it is started again", "task", r.String(), "pause", pause, "err", err)
		r.note(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, restartPauseMax)
		r.note(nil)
	}
}

// note records a failure, or with nil the new start after it.
func (r *restarting) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err == nil {
		r.restarts++
	}
}

// failures tells how often the task was started again, and the error that keeps it from running now.
func (r *restarting) failures() (restarts int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.restarts, r.err
}
