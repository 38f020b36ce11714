package box

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kdht/appliance/durable"
	"kdht/config"
)

// PasswordFile is the name of the file in the state directory with the password for updates over the network.
const PasswordFile = "gokr-pw.txt"

// takeSecret keeps a secret that lies on the boot partition: the auth key of the tailnet, for the admin plane to join with,
// or the password for updates over the network. It is removed from there, since anybody who gets hold of the card could
// read it. It is never shown.
func (b *Box) takeSecret(l *letter, name, what string) {
	if l == nil {
		return
	}
	saved := filepath.Join(b.state, name)
	if burnt(l.content) {
		if _, err := os.Stat(saved); err == nil {
			l.done = take
			return
		}
	}
	key := bytes.TrimSpace(bytes.TrimPrefix(text(l.content), []byte("\ufeff")))
	if fault := faultOfSecret(key, len(l.content), what); fault != "" {
		b.problem("%s on the boot partition is not used: %s.", l.name, fault)
		return
	}
	if err := durable.Write(saved, append(bytes.Clone(key), '\n'), 0o600); err != nil {
		b.problem("%s on the boot partition cannot be taken over: %v.", l.name, err)
		return
	}
	b.log.Info(what+" taken over", "from", l.name)
	if b.permanent { // else it is needed there at the next start
		l.done = burn
	}
}

// faultOfSecret says what is wrong with a secret, without saying anything of it.
func faultOfSecret(secret []byte, size int, what string) string {
	switch {
	case size > maxKeyFile:
		return fmt.Sprintf("it is larger than %d bytes; it should hold one %s", maxKeyFile, what)
	case len(secret) == 0:
		return "it is empty; it should hold one " + what
	}
	for _, c := range secret {
		if c <= ' ' || c > '~' {
			return "it should hold one " + what + " and nothing else"
		}
	}
	return ""
}

// takeConfig chooses the configuration: that on the boot partition if it has no fault, else the last good one. The file
// stays where it is, to be changed there; what is kept of it tells a new one.
func (b *Box) takeConfig(in *inbox) {
	saved := filepath.Join(b.state, configFile)
	old, err := os.ReadFile(saved)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.problem("The configuration that was taken over cannot be read: %v.", err)
	}
	s := b.readSeen()
	if l := in.config; l != nil {
		next := text(l.content)
		err := checkConfig(l.name, next)
		switch {
		case err != nil:
			b.faults(err, "%s on the boot partition is not used", l.name)
		case old != nil && !bytes.Equal(next, old) && s.has(next):
			b.problem("%s on the boot partition is an earlier one: the configuration was changed since, over the tailnet, or before this kernel came back. What came later is used. Change the file, if only by a blank, to have it used.", l.name)
			err = errEarlier
		case !bytes.Equal(next, old):
			if err := durable.Write(saved, next, 0o600); err != nil {
				b.problem("%s on the boot partition is used, but cannot be kept: %v.", l.name, err)
			}
			b.log.Info("configuration taken over", "from", l.name)
		}
		if err == nil {
			s.note(next)
			b.config = next
			return
		}
	} else {
		s.note(nil)
	}
	if old == nil {
		return
	}
	if err := checkConfig(saved, old); err != nil {
		b.faults(err, "The configuration that was taken over before is not used")
		return
	}
	b.config = old
}

// Reject has the configuration that was taken over not be used, and the defaults in its place.
func (b *Box) Reject(err error) {
	b.config = nil
	b.faults(err, "The configuration cannot be used")
}

// checkConfig says what is wrong with a configuration.
func checkConfig(name string, data []byte) error {
	_, err := config.Parse(name, data)
	return err
}

// faults records what is wrong with a configuration, each fault with its line and column.
func (b *Box) faults(err error, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	var faults config.Errors
	if !errors.As(err, &faults) {
		b.problem("%s: %v.", what, err)
		return
	}
	for _, f := range faults {
		b.problem("%s: %v.", what, f)
	}
}
