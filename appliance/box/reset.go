package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"kdht/appliance"
	"kdht/appliance/durable"
	"kdht/store"
)

// A factory reset replaces the directory of the state by a new one that has nothing but the node's identity, if that is
// to be kept. The new one is made under another name, so that the identity is durable before anything is removed:
//
//	1. PERM/kdht.making   is made, with the identity in its database
//	2. PERM/kdht.fresh    is its name once it is durable: from here on the reset is finished whatever happens
//	3. PERM/kdht          is removed, and the new one gets its name
//	4. the file that asked for it is removed from the boot partition
//
// Only then is anything taken over from there. A loss of power before 2 leaves everything as it was, and the file asks
// again; after 2, the next start goes on with 3; between 3 and 4, the reset is done once more, which changes nothing since
// nothing was stored.

func (b *Box) making() string { return filepath.Join(b.layout.Perm, "kdht.making") }
func (b *Box) fresh() string  { return filepath.Join(b.layout.Perm, "kdht.fresh") }

// reset does what a file on the boot partition asks for.
func (b *Box) reset(in *inbox) {
	if in.reset == nil && in.resetToo == nil {
		return
	}
	if !b.permanent {
		b.problem("The factory reset that is asked for on the boot partition cannot be done now: there is nothing to reset in memory.")
		return
	}
	b.dropOldConfig(in)
	if err := b.makeFresh(in.resetToo == nil); err != nil {
		b.problem("The factory reset that is asked for on the boot partition cannot be done: %v.", err)
		return
	}
	if err := b.finishReset(); err != nil {
		b.problem("The factory reset cannot be finished: %v.", err)
		return
	}
	b.log.Warn("factory reset done", "identity kept", in.resetToo == nil)
	b.console.print("factory reset done")
	for _, l := range []*letter{in.reset, in.resetToo} {
		if l == nil {
			continue
		}
		if err := b.discard(l); err != nil {
			b.problem("%s cannot be removed from the boot partition, so the next start resets the box again: %v.", l.name, err)
		}
	}
}

// dropOldConfig has the configuration on the boot partition go, too, unless it is another one than that in use: then it
// was put there to be used after the reset.
func (b *Box) dropOldConfig(in *inbox) {
	if in.config == nil {
		return
	}
	old, err := os.ReadFile(filepath.Join(b.state, configFile))
	if err != nil || string(old) != string(text(in.config.content)) {
		return
	}
	// At once: after the reset nothing tells that it is the old one.
	if err := b.discard(in.config); err != nil {
		b.problem("%s cannot be removed from the boot partition for the factory reset: %v.", in.config.name, err)
		return
	}
	in.config = nil
}

// makeFresh makes the new directory and gives it the name that says that it is complete.
func (b *Box) makeFresh(keepIdentity bool) error {
	var ids [2]*store.Identity // IPv4, IPv6
	if keepIdentity {
		var err error
		if ids, err = identities(b.state); err != nil {
			b.problem("The node's identity cannot be kept through the factory reset: %v.", err)
		}
	}
	err := b.fill(ids)
	if errors.Is(err, unix.ENOSPC) {
		// A full disk is a good reason for a reset. In this one case a loss of power within the next moment costs the
		// identity.
		if err = removeAll(b.state); err == nil {
			err = b.fill(ids)
		}
	}
	if err != nil {
		return err
	}
	if err := os.Rename(b.making(), b.fresh()); err != nil {
		return err
	}
	return durable.SyncParent(b.fresh())
}

// fill makes a directory with a new database that has an identity.
func (b *Box) fill(ids [2]*store.Identity) (err error) {
	if err := removeAll(b.making()); err != nil {
		return err
	}
	s, err := store.Open(filepath.Join(b.making(), appliance.StoreFile), store.Options{Logger: b.log})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if id != nil {
			err = errors.Join(err, s.SetIdentity(i == 1, *id))
		}
	}
	return errors.Join(err, s.Close())
}

// finishReset puts a new directory that is complete in the place of the old one.
func (b *Box) finishReset() error {
	if _, err := os.Stat(b.fresh()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := removeAll(b.state); err != nil {
		return err
	}
	if err := os.Rename(b.fresh(), b.state); err != nil {
		return err
	}
	return durable.SyncParent(b.state)
}

// identities reads the node's identity from the database of a state directory.
func identities(state string) (ids [2]*store.Identity, err error) {
	path := filepath.Join(state, appliance.StoreFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ids, nil // there never was one
	}
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return ids, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for i := range ids {
		id, err := s.Identity(i == 1)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return ids, err
		}
		ids[i] = &id
	}
	if _, why := s.SetAside(); why != "" {
		return ids, fmt.Errorf("the database is damaged: %s", why)
	}
	return ids, nil
}
