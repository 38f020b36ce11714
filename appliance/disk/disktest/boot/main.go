//go:build linux

// Command boot does in a test machine what gokrazy's init and then the appliance do
// with the persistent partitions of every virtio disk: mount, prepare, and once more, as at
// the next boot. The first disk is found as on a box, by the kernel's command line. It
// prints one line of JSON per call.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk"
)

// Fill is the name of a file which the program extends until the disk is full, before
// it prepares the partition.
const Fill = "fill"

func main() {
	disks, err := filepath.Glob("/dev/vd?")
	if err == nil && len(disks) == 0 {
		err = errors.New("no disks")
	}
	for n, d := range disks {
		if n == 0 {
			err = errors.Join(err, boot("/perm", func(ctx context.Context, log *slog.Logger) (disk.Report, error) { return disk.Perm(ctx, log, nil) }))
			continue
		}
		p := disk.Place{Disk: d, Partition: d + "4", Number: 4, Mountpoint: "/perm-" + filepath.Base(d)}
		err = errors.Join(err, boot(p.Mountpoint, p.Prepare, p))
	}
	if err != nil {
		fmt.Println("boot:", err)
		os.Exit(1)
	}
}

// boot prepares a partition twice.
func boot(dir string, prepare func(context.Context, *slog.Logger) (disk.Report, error), place ...disk.Place) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	p, err := disk.Locate()
	if err != nil {
		return err
	}
	if len(place) > 0 {
		p = place[0]
	}
	for n := range 2 {
		if err := p.Mount(); err != nil {
			fmt.Println("init:", err) // and goes on
		} else if n > 0 {
			// A disk is filled once.
		} else if err := fill(filepath.Join(dir, Fill)); err != nil {
			return err
		}
		r, err := prepare(context.Background(), slog.New(slog.NewTextHandler(os.Stdout, nil)))
		if err != nil {
			return err
		}
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Printf("report: %s\n", line)
		if err := os.WriteFile(filepath.Join(dir, "booted"), []byte("yes"), 0o600); err != nil {
			return err
		}
		if err := unix.Unmount(dir, 0); err != nil {
			return err
		}
	}
	return nil
}

// fill extends a file, if there is one, until there is no room.
func fill(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, zeros{})
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("fill %s: %w", name, err)
	}
	return f.Sync()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
