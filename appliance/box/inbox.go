package box

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"kdht/appliance/durable"
)

// Files on the boot partition. Upper and lower case are alike there, and names may end in .txt, which Windows adds and
// hides.
const (
	configFile    = "kdht.hujson"
	keyFile       = "tailnet.key"
	passwordFile  = "gokr-pw" // its name is gokr-pw.txt, as gokrazy has it
	resetFile     = "factory-reset"
	resetFileToo  = "factory-reset-identity" // the identity, too
	maxConfigFile = 256 << 10                // more than package config accepts
	maxKeyFile    = 4 << 10
)

// inbox is what was found on the boot partition.
type inbox struct {
	config, key     *letter
	password        *letter
	reset, resetToo *letter
	odd             []string // names that look as if they were meant for us
}

// letter is one file for us.
type letter struct {
	name    string // as it is on the boot partition
	content []byte // nil for a file to be noticed only
	done    action // what is to be done about it on the boot partition
}

// action is what becomes of a file on the boot partition once what it says is durable.
type action int

const (
	keep action = iota
	take        // remove it
	burn        // overwrite and remove it
)

// look reads what is there for us in the root of the boot partition.
func look(dir string) (in inbox, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return in, err
	}
	for _, e := range entries {
		place, limit := (**letter)(nil), int64(0)
		name := strings.ToLower(e.Name())
		switch strings.TrimSuffix(name, ".txt") {
		case configFile:
			place, limit = &in.config, maxConfigFile
		case keyFile:
			place, limit = &in.key, maxKeyFile
		case passwordFile:
			place, limit = &in.password, maxKeyFile
		case resetFile:
			place = &in.reset
		case resetFileToo:
			place = &in.resetToo
		}
		switch {
		case place == nil:
			// Names with a dot in front are what macOS puts beside every file that it writes.
			if strings.HasPrefix(name, "kdht") || strings.HasPrefix(name, "tailnet") || strings.HasPrefix(name, resetFile) {
				in.odd = append(in.odd, fmt.Sprintf("%s is none of %s, %s, %s and %s", e.Name(), configFile, keyFile, resetFile, resetFileToo))
			}
			continue
		case !e.Type().IsRegular():
			in.odd = append(in.odd, e.Name()+" is no file")
			continue
		case *place != nil:
			in.odd = append(in.odd, fmt.Sprintf("%s is there as %s already", e.Name(), (*place).name))
			continue
		}
		l := &letter{name: e.Name()}
		if limit > 0 {
			if l.content, err = readUpTo(filepath.Join(dir, e.Name()), limit); err != nil {
				return in, err
			}
		}
		*place = l
	}
	return in, nil
}

// readUpTo reads a file, and of one that is too long a byte more than the limit.
func readUpTo(path string, limit int64) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// text is a file's content in UTF-8, whatever its editor wrote: UTF-16 is what PowerShell makes of a redirection. A
// byte order mark of UTF-8 is left to whoever parses the text.
func text(b []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return b
	}
	var units []uint16
	for b = b[2:]; len(b) > 1; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return []byte(string(utf16.Decode(units)))
}

// burnt says that a file was being overwritten when the power went: what it said was durable by then.
func burnt(b []byte) bool { return len(b) > 0 && b[0] == 0 }

// tidy takes from the boot partition what is done with, and says what was not understood there.
func (b *Box) tidy(in *inbox) {
	for _, odd := range in.odd {
		b.problem("On the boot partition, %s; it is not read.", odd)
	}
	for _, l := range []*letter{in.config, in.key, in.password} {
		if l != nil && l.done != keep {
			if err := b.discard(l); err != nil {
				b.problem("%s was taken over, but cannot be removed from the boot partition: %v.", l.name, err)
			}
		}
	}
}

// discard removes a file from the boot partition.
func (b *Box) discard(l *letter) error {
	return b.layout.Boot.Use(true, func(dir string) error {
		path := filepath.Join(dir, l.name)
		if l.done == burn {
			return durable.Scrub(path)
		}
		return durable.Remove(path)
	})
}
