package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kdht/appliance/durable"
)

// maxStarts is how often the program may start with a change on trial, without those whose end was wanted: the restart that it takes, and one more,
// as after a loss of power, which looks like what a change may do to a machine.
const maxStarts = 2

// maxWanted is how many starts whose end was wanted do not count: who restarts a box that is not well, again and again, keeps no change for ever.
const maxWanted = 10

// Before is what the node did before a change, and must do again.
type Before struct {
	Worked  []string `json:"worked"`  // the checks of its health that were good or degraded, or not known yet, by name
	Others  int      `json:"others"`  // how many other nodes answered, or right after a start were known
	Kernel  bool     `json:"kernel"`  // the kernel half answered at some interface
	Tailnet bool     `json:"tailnet"` // the admin plane was reached
	Failing []string `json:"failing"` // tasks that did not run
	// Unserved are addresses that it should have served on and did not.
	Unserved []string `json:"unserved"`
	// Missing are families, "IPv4" or "IPv6", that it should have served and had no socket of, since the host has none.
	Missing []string `json:"missing,omitempty"`

	// Changes are the keys of the configuration that the change gives other values, and Without the checks that it may cost.
	Changes []string `json:"changes,omitempty"`
	Without []string `json:"without,omitempty"`
	// Reserved are the keys that it takes the role updater to change back.
	Reserved []string `json:"reserved,omitempty"`
	// Outside is the address, host and port, of somebody beyond the LAN who answered and is no part of the DHT; "" if nobody is known to.
	Outside string `json:"outside,omitempty"`
}

// Trial is a change that has to prove well.
type Trial struct {
	Version  int           `json:"version"`
	Previous int           `json:"previous"` // 0: there was no file
	By       string        `json:"by"`
	Within   time.Duration `json:"within"` // after a start, in nanoseconds
	Before   Before        `json:"before"`
	Starts   int           `json:"starts"` // of the program, since, but for those whose end was wanted
	Wanted   int           `json:"wanted"` // how many of those there were
}

// Begin puts a new text in force, on trial from the next start of the program on. ifMatch is the Sum of the text that it was
// made from; "" is any.
func (h *History) Begin(text []byte, ifMatch, by string, within time.Duration, before Before, now time.Time) (Version, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trial != nil {
		return Version{}, ErrTrial
	}
	old, err := h.Text()
	if err != nil {
		return Version{}, err
	}
	if ifMatch != "" && ifMatch != Sum(old) {
		return Version{}, ErrChanged
	}
	t := &Trial{By: by, Within: within, Before: before}
	if old != nil {
		v, err := h.add(old, Version{Time: now, Outcome: inForce})
		if err != nil {
			return Version{}, err
		}
		t.Previous = v.ID
	}
	v, err := h.add(text, Version{Time: now, By: by, Outcome: onTrial})
	if err != nil {
		return v, err
	}
	t.Version = v.ID
	if err := h.saveTrial(t); err != nil {
		h.set(v.ID, takenBack+"it could not be tried")
		return v, errors.Join(err, h.save())
	}
	if err := h.put(text); err != nil {
		h.set(v.ID, takenBack+"it could not be written")
		return v, errors.Join(err, h.saveTrial(nil), h.save())
	}
	return v, nil
}

// saveTrial writes the record of a trial; nil: there is none. h.mu is held.
func (h *History) saveTrial(t *Trial) error {
	path := filepath.Join(h.dir, "trial.json")
	if t == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		h.trial, h.counted = nil, false
		return durable.SyncParent(path)
	}
	b, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	if err := durable.Write(path, b, 0o600); err != nil {
		return err // one that is nowhere must not stand in the way of the next
	}
	h.trial = t
	return nil
}

// Trial is the change on trial, nil if there is none.
func (h *History) Trial() *Trial {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trial == nil {
		return nil
	}
	t := *h.trial
	return &t
}

// Start is to be called when the program starts, before it reads the file. A change on trial that it has been started with
// too often is taken back, and one that is not in the file any more forgotten; said is what happened, "" if nothing.
func (h *History) Start() (said string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.said = said }()
	if h.trial == nil {
		return "", h.err
	}
	t := *h.trial
	text, err := h.Text()
	if err != nil {
		return "", err
	}
	want, err := h.version(t.Version)
	if err != nil || Sum(want) != Sum(text) {
		h.set(t.Version, takenBack+"the file was changed meanwhile, or the power failed")
		return "A change of the configuration is not in the file any more, and not on trial.", errors.Join(h.saveTrial(nil), h.save())
	}
	if t.Starts++; t.Starts > maxStarts {
		return h.back(fmt.Sprintf("the program was started %d times with it and never proved well", maxStarts))
	}
	err = h.saveTrial(&t)
	h.counted = err == nil
	return "", err
}

// Wanted is to be called when the program is about to end because somebody who may has asked it to. That it was started with the change on
// trial, if it was, counts no more then: it has not failed.
func (h *History) Wanted() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trial == nil || !h.counted || h.trial.Wanted >= maxWanted {
		return nil
	}
	h.counted = false
	t := *h.trial
	t.Starts--
	t.Wanted++
	return h.saveTrial(&t)
}

// Keep ends a trial: the change stays.
func (h *History) Keep() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trial == nil {
		return nil
	}
	h.set(h.trial.Version, inForce)
	return errors.Join(h.save(), h.saveTrial(nil))
}

// Back ends a trial: the file is what it was before. It does nothing if there is no trial. said is what happened, for the owner.
func (h *History) Back(reason string) (said string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trial == nil {
		return "", nil
	}
	return h.back(reason)
}

func (h *History) back(reason string) (said string, err error) {
	var text []byte
	if h.trial.Previous != 0 {
		if text, err = h.version(h.trial.Previous); err != nil {
			return "", err
		}
	}
	if err := h.put(text); err != nil {
		return "", err
	}
	version := h.trial.Version
	h.set(version, takenBack+reason)
	h.set(h.trial.Previous, inForce)
	h.said = fmt.Sprintf("Version %d of the configuration was taken back: %s.", version, strings.TrimSuffix(reason, "."))
	return h.said, errors.Join(h.save(), h.saveTrial(nil))
}
