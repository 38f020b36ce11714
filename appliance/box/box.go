package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"kdht/appliance/disk"
	"kdht/appliance/durable"
	"kdht/appliance/update/bootdisk"
)

// Layout says where the parts of an appliance are. [Gokrazy] is the usual one.
type Layout struct {
	// Perm is where the persistent partition is mounted. The state is in its directory kdht.
	Perm string
	// Prepare looks after the file system of Perm before anything uses it, and says what there is to know, one sentence
	// each; meanwhile, where it takes long, tell how far it is, one line each. nil: nobody need look after it.
	Prepare func(ctx context.Context, log *slog.Logger, tell func(line string)) []string
	// Memory is a directory in memory for the state while Perm cannot be used.
	Memory string
	// Boot is the boot partition; nil if there is none, and BootErr then says why.
	Boot    Volume
	BootErr error
	// BootID tells the file systems apart that take turns on the boot partition, since every kernel comes with its own; "" if that
	// cannot be told. nil: there is but one.
	BootID func() string
	// NICs is the directory of the network interfaces in sysfs.
	NICs string
	// Console is the file that the console shows lines from, one for each write.
	Console string
	// LinkLocal says that interfaces for which there is no DHCP server get an address by themselves.
	LinkLocal bool
	// SetHostname changes the name of the machine.
	SetHostname func(name string) error
}

// ErrNotGokrazy says that the machine is not an appliance, and better left alone.
var ErrNotGokrazy = errors.New("this machine does not run gokrazy")

// Gokrazy is the layout of this machine if it runs gokrazy, else the error is [ErrNotGokrazy]: partitions of others are
// none of our business.
func Gokrazy() (Layout, error) {
	if _, err := os.Stat("/gokrazy/init"); err != nil {
		return Layout{}, fmt.Errorf("%w: %w", ErrNotGokrazy, err)
	}
	l := Layout{
		Perm:        "/perm",
		Prepare:     preparePerm,
		Memory:      "/tmp/kdht", // init has mounted a tmpfs there
		NICs:        "/sys/class/net",
		Console:     "/dev/kmsg",
		LinkLocal:   true,
		SetHostname: setHostname,
	}
	// The kernel's command line is not asked: during the trial of an update it names another root than the one mounted.
	if place, err := bootdisk.Find("/"); err != nil {
		l.BootErr = err
	} else {
		fat := FAT{Device: place.Parts[1]}
		l.Boot, l.BootID = fat, fat.ID
		if _, tried := place.RunningTrial(bootdisk.CommandLine(), bootdisk.ThisPlatform()); tried {
			// The version before must find what it left. If /perm is broken, that one mends it, and this one is not well.
			l.Prepare = nil
		}
	}
	return l, nil
}

// preparePerm mends, grows and mounts /perm. Whether it can be written then shows by itself.
func preparePerm(ctx context.Context, log *slog.Logger, tell func(string)) []string {
	r, _ := disk.Perm(ctx, log, func(what string, done, all int64) { // its sentences have the error
		tell(fmt.Sprintf("Files of the persistent partition are being %s: %d of %d MiB.", what, done>>20, all>>20))
	})
	return r.Sentences
}

// Box is an appliance that has booted.
type Box struct {
	layout  Layout
	log     *slog.Logger
	console *console

	state     string // directory, in Perm or in Memory
	permanent bool   // it is in Perm
	config    []byte // the configuration that was taken over, nil if there is none

	later chan []string // gives what there is to know of Perm once it can be used; nil: it is known

	mu       sync.Mutex
	problems []string
	progress string    // how far the work on Perm is
	shown    time.Time // when that was on the console
}

// Boot does what is to be done before anything is served. It always gives a Box that can serve; [Box.Problems] has what
// went wrong. It takes moments: a file system of /perm beyond repair whose files are saved is worked on until [Box.Serve]
// returns or ctx ends, and the state is in memory meanwhile.
func Boot(ctx context.Context, l Layout, log *slog.Logger) *Box {
	b := &Box{layout: l, log: log, console: newConsole(l.Console)}
	b.prepare(ctx)
	b.chooseState()
	var found inbox
	if l.Boot == nil {
		b.problem("The boot partition was not found, so nothing is taken from it: %v.", l.BootErr)
	} else if err := l.Boot.Use(false, func(dir string) (err error) { found, err = look(dir); return err }); err != nil {
		b.problem("The boot partition cannot be read, so nothing is taken from it: %v.", err)
	}
	b.reset(&found)
	b.takeSecret(found.key, keyFile, "auth key")
	b.takeSecret(found.password, PasswordFile, "password")
	b.takeConfig(&found)
	b.tidy(&found)
	return b
}

// State is the directory of the state.
func (b *Box) State() string { return b.state }

// Configuration is the text of the configuration file that was taken over, without a fault, and the name under which
// faults are reported; nil if there is none.
func (b *Box) Configuration() (name string, text []byte) { return configFile, b.config }

// Problems is what the owner should know, one sentence each.
func (b *Box) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := append([]string(nil), b.problems...)
	if b.later != nil && b.progress != "" {
		all = append(all, b.progress)
	}
	return all
}

// problem records something that the owner should know: for the status page, the log, and the console.
func (b *Box) problem(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	b.mu.Lock()
	b.problems = append(b.problems, line)
	b.mu.Unlock()
	b.log.Error("appliance", "problem", line)
	b.console.problem(line)
}

// removeAll removes a directory and what is in it, durably.
func removeAll(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return durable.SyncParent(path)
}
