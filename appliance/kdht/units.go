package main

import (
	"strconv"
	"time"
)

// withUnit writes a member of the status document for people: what counts seconds or bytes with its unit, times without
// fractions of seconds. Everything else, and what is not as expected, stays as it is.
func withUnit(key, scalar string) string {
	f, err := strconv.ParseFloat(scalar, 64)
	number := err == nil
	switch key {
	case "time", "started", "failedSince":
		if t, err := time.Parse(time.RFC3339Nano, scalar); err == nil {
			return t.Format(time.RFC3339)
		}
	case "rtt", "commitTime", "lease", "linger", "timeSum", "oldestItem":
		if number {
			return seconds(f)
		}
	case "bytes", "maxBytes", "fileBytes", "size", "free", "resident", "memory", "memoryAvailable", "cacheBytes":
		if number {
			return size(f)
		}
	}
	return scalar
}

// seconds writes a duration.
func seconds(f float64) string {
	if f > 0 && f < 1 {
		return strconv.FormatFloat(f*1000, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(f, 'f', -1, 64) + " s"
}

// size writes a number of bytes.
func size(f float64) string {
	unit := "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			return strconv.FormatFloat(f, 'f', min(1, len(unit)-1), 64) + " " + unit
		}
		f, unit = f/1024, next
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + unit
}
