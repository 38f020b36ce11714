package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// busy is the CPU time that the node's side has used: its receive threads, which
// also run the XDP program, and, where it counts, the process that answers, if there is one. Other
// work on the same core is not counted.
func (r *rig) busy(process bool) (time.Duration, error) {
	pids, err := threadsNamed("napi/" + nodeIf)
	if err != nil {
		return 0, err
	}
	if process && r.process != nil {
		pids = append(pids, r.process.Pid)
	}
	var sum time.Duration
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			// Time on the CPU, time in the run queue, time slices (Documentation/scheduler/sched-stats.rst).
			b, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the thread has ended
			}
			if err != nil {
				return 0, err
			}
			field, _, _ := strings.Cut(string(b), " ")
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			sum += time.Duration(n)
		}
	}
	return sum, nil
}
