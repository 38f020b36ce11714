package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"

	"golang.org/x/sys/unix"

	"kdht/appliance/link"
)

// dmesgBytes is how much of the end of the kernel's log is in a bundle.
const dmesgBytes = 256 << 10

// machine is what is the same whatever the program does.
func machine() []Part {
	parts := []Part{
		{"goroutines.txt", func(_ context.Context, w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 2) }},
		{"build.txt", func(_ context.Context, w io.Writer) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("the program does not know how it was built")
			}
			_, err := io.WriteString(w, info.String())
			return err
		}},
		{"interfaces.json", func(_ context.Context, w io.Writer) error {
			links, err := link.List()
			if err != nil {
				return err
			}
			return writeJSON(w, links)
		}},
		{"kernel.txt", kernel},
		{"dmesg.txt", dmesg},
	}
	for _, f := range []struct {
		name  string
		paths []string
	}{
		{"routes.txt", []string{"/proc/net/route", "/proc/net/ipv6_route", "/proc/net/arp"}},
		{"network.txt", []string{
			"/proc/net/dev", "/proc/net/snmp", "/proc/net/snmp6", "/proc/net/netstat", "/proc/net/sockstat", "/proc/net/sockstat6", "/proc/net/udp", "/proc/net/udp6",
			"/proc/net/softnet_stat", "/proc/interrupts",
		}},
		{"system.txt", []string{
			"/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/cpuinfo", "/proc/mounts", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory",
			"/proc/sys/net/core/bpf_jit_enable",
		}},
		{"process.txt", []string{"/proc/self/status", "/proc/self/limits", "/proc/self/io", "/proc/self/smaps_rollup"}},
	} {
		parts = append(parts, Part{f.name, func(_ context.Context, w io.Writer) error { return files(w, f.paths) }})
	}
	return parts
}

// files writes files one after another, each with its name. Those that the kernel does not have are left out.
func files(w io.Writer, paths []string) error {
	var errs []error
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err := fmt.Fprintf(w, "==> %s\n%s\n", p, text); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// kernel writes what uname says.
func kernel(_ context.Context, w io.Writer) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	for _, f := range [][]byte{u.Sysname[:], u.Release[:], u.Version[:], u.Machine[:]} {
		if _, err := fmt.Fprintln(w, unix.ByteSliceToString(f)); err != nil {
			return err
		}
	}
	return nil
}

// dmesg writes the end of the kernel's log, which not everybody may read (syslog(2), SYSLOG_ACTION_READ_ALL).
func dmesg(_ context.Context, w io.Writer) error {
	const readAll = 3
	buf := make([]byte, dmesgBytes)
	n, err := unix.Klogctl(readAll, buf)
	if err != nil {
		return fmt.Errorf("the kernel's log: %w", err)
	}
	text := string(buf[:n])
	if n == len(buf) { // not from the middle of a line
		_, text, _ = strings.Cut(text, "\n")
	}
	_, err = io.WriteString(w, text)
	return err
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
