package update

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"kdht/appliance"
	"kdht/appliance/audit"
	"kdht/appliance/status"
	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
	"kdht/appliance/update/trial"
	"kdht/config"
	"kdht/store"
)

// Log is where the history of updates is kept, and the audit log.
type Log interface {
	AddUpdate(store.Update) error
	Updates() ([]store.Update, error)
	AddAudit(store.Audit) error
}

// Options are what a Manager works with.
type Options struct {
	Root        string            // directory at which the root file system is mounted
	State       string            // directory for the records
	Platform    bootdisk.Platform // what starts the machine
	CommandLine string            // of the running kernel
	Gokrazy     string            // Unix socket of gokrazy's own interface
	Socket      string            // our own Unix socket, for the guard and for clients on the box; empty: none
	Passwords   []string          // files with the password, the first that exists counts
	Memory      bool              // the state is in memory, because it could not be kept elsewhere
	Config      config.Config
	Log         *slog.Logger
	History     Log
	Machine     Machine
	Version     string // of this program, for a root file system that does not name its own
	// Report is never called for a report: that is asked for Section and Problems.
	Report func() status.Report
	// Stop ends the node cleanly and then calls last.
	Stop func(last func())
	// Ask sends a query to this node and waits for the answer.
	Ask func() error
	// Network says whether an interface is up, and one has an address that other nodes can use: [Network].
	Network func() (link, address bool)
	// Uptime is how long the machine runs: [appliance.Uptime].
	Uptime func() time.Duration
	// LinkAddress gives the link address of a client that is on a link of this machine: [nexthop.LinkAddress]. nil: it is known of none.
	LinkAddress func(netip.Addr) (mac [6]byte, ok bool)
	// Dial opens connections to where releases are; nil: by the machine's network.
	Dial appliance.DialFunc
}

// Manager is the life of updates on one machine. Its methods may be called from any goroutine.
type Manager struct {
	o       Options
	dir     string
	place   bootdisk.Place
	noDisk  error // why there is nothing to update here
	running Release
	key     ed25519.PublicKey
	stamp   stamp

	guesses  guesses // at the password
	failures *audit.Repeated

	mu       sync.Mutex
	busy     string // what is under way
	progress Progress
	tried    *bootdisk.Target // running and not committed
	slots    slots
	staged   staged
	session  session
	armed    *trial.Trial
	offered  *manifest.Manifest // by the update URL, newer than what runs
	checked  time.Time
	checkErr error
	problem  string   // what went wrong last
	suspect  *suspect // the trial that has just ended
	leaving  sync.Once

	history sync.Mutex // over additions to the history
	pulling sync.Mutex // while a release is pulled
}

// staged is what was uploaded since the last trial.
type staged struct {
	manifest *manifest.Manifest
	image    manifest.Image
	root     *slotRecord
	boot     int    // where a new boot file system lies; 0: the one in force is to stay
	note     string // what else there is to know
	old      string // that the release is not newer, and was asked for by its version
}

// Progress is how far something is.
type Progress struct {
	What  string `json:"what"`
	Done  int64  `json:"done"`  // bytes
	Total int64  `json:"total"` // bytes, 0 if not known
}

// New makes a Manager, tidies up after a trial or a power cut, and writes to the history what became of a trial.
func New(o Options) (*Manager, error) {
	m := &Manager{o: o, dir: o.State, slots: slots{Slots: make(map[bootdisk.Slot]*slotRecord)}, failures: audit.Failures(o.History, o.Log), guesses: guesses{linkAddress: o.LinkAddress}}
	var err error
	if o.Config.Update.Key != "" {
		if m.key, err = manifest.PublicKey(o.Config.Update.Key); err != nil {
			return nil, fmt.Errorf("update.key: %w", err)
		}
	}
	if m.running, err = readRelease(o.Root); err != nil {
		o.Log.Warn("what this version is called cannot be read", "err", err)
	}
	if _, err := trial.Read(m.dir, slotsFile, &m.slots); err != nil || m.slots.Slots == nil {
		m.slots.Slots = make(map[bootdisk.Slot]*slotRecord)
		if err != nil {
			o.Log.Warn("the record of the slots is lost", "err", err)
		}
	}
	m.find()
	if m.noDisk == nil && !o.Memory {
		if err := trial.Reserve(m.dir); err != nil {
			o.Log.Warn("no room is kept for the records of updates", "err", err)
		}
	}
	return m, nil
}

// find finds the disk, and out what state it is in.
func (m *Manager) find() {
	if m.place, m.noDisk = bootdisk.Find(m.o.Root); m.noDisk != nil {
		m.o.Log.Info("no updates here", "reason", m.noDisk)
		return
	}
	if err := m.settle(); err != nil {
		m.problem = fmt.Sprintf("Tidying up after the last update failed: %v.", err)
		m.o.Log.Error("tidying up after an update failed", "err", err)
	}
}

// settle finds out what state the disk is in.
func (m *Manager) settle() error {
	var selected bootdisk.Selection
	err := m.disk(func(d *bootdisk.Disk) (err error) {
		selected, err = d.Selected()
		return err
	})
	target, tried := m.place.RunningTrial(m.o.CommandLine, m.o.Platform)
	if tried && (err != nil || selected.Slot != m.place.Running) {
		m.tried = &target
		m.o.Log.Warn("this version is on trial", "slot", target.To, "from", target.From)
		return err
	}
	if err != nil {
		return err
	}
	if err := m.disk(func(d *bootdisk.Disk) error { return d.Reconcile(m.place.Running) }); err != nil {
		return err
	}
	return m.conclude(selected)
}

// conclude writes to the history what became of the last trial.
func (m *Manager) conclude(selected bootdisk.Selection) error {
	var t trial.Trial
	if ok, err := trial.Read(m.dir, trial.TrialFile, &t); !ok {
		return err
	} else if err != nil { // it tells nothing any more
		return errors.Join(err, trial.Remove(m.dir, trial.TrialFile, trial.OutcomeFile))
	}
	var out trial.Outcome
	if _, err := trial.Read(m.dir, trial.OutcomeFile, &out); err != nil {
		m.o.Log.Warn("what the guard wrote cannot be read", "err", err)
	}
	when := time.Now()
	if when.Before(t.Armed) { // a machine without a clock that has just started
		when = t.Armed
	}
	u := store.Update{Time: when, From: named(t.From, t.Target.From), To: named(t.To, t.Target.To), By: t.By, Result: "committed", Reason: t.Note}
	if t.Target.To != m.place.Running {
		u.Result, u.Reason = "reverted", cmp.Or(out.Reason, "the machine restarted before a commit: a crash, or the power")
		if t.Note != "" {
			u.Reason = t.Note + "; " + u.Reason
		}
	}
	// What was learnt holds for this process also where it cannot be written.
	err := m.learn(&t, selected, &u, out)
	m.o.Log.Info("update", "result", u.Result, "from", u.From, "to", u.To, "by", u.By, "reason", u.Reason)
	if err := errors.Join(err, m.record(u)); err != nil {
		return err
	}
	return trial.Remove(m.dir, trial.TrialFile, trial.OutcomeFile)
}

// record adds to the history.
func (m *Manager) record(u store.Update) error {
	m.history.Lock()
	defer m.history.Unlock()
	return m.o.History.AddUpdate(u)
}

// learn notes what a trial has shown of a release and of the slots, and adds to the reason in the history what follows.
func (m *Manager) learn(t *trial.Trial, selected bootdisk.Selection, u *store.Update, out trial.Outcome) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.Result != "committed" {
		if t.Note != rollback { // which is about no release that is offered
			m.condemn(t, u, out)
		}
		m.problem = fmt.Sprintf("The last update, to %s, was taken back: %s.", u.To, u.Reason)
	} else {
		m.slots.Serial, m.slots.Floor = max(m.slots.Serial, t.Serial), max(m.slots.Floor, t.Floor)
		if r := m.slots.Slots[t.Target.To]; r != nil {
			r.Boot = selected.Boot
		}
	}
	return trial.Write(m.dir, slotsFile, m.slots)
}

// condemn notes that a version did not prove well. m.mu is held.
func (m *Manager) condemn(t *trial.Trial, u *store.Update, out trial.Outcome) {
	if follows := m.slots.judge(t.Serial, out, u.Time); follows != "" && m.polls() {
		u.Reason += "; " + follows
	}
	if out.Outside() {
		m.suspect = &suspect{failed: out.Failed, limit: time.Duration(t.Deadline * float64(time.Second)), to: u.To, serial: t.Serial}
	}
	if r := m.slots.Slots[t.Target.To]; r != nil {
		r.Reverted = true
	}
}

// named names a version and its slot.
func named(version string, s bootdisk.Slot) string {
	if version == "" {
		version = "unnamed"
	}
	return fmt.Sprintf("%s (slot %d)", version, s)
}

// version names what runs.
func (m *Manager) version() string {
	if m.running.Version != "" {
		return m.running.Version
	}
	return m.o.Version
}

// disk does something with the disk. Whoever has the boot partition mounted for a moment is waited for.
func (m *Manager) disk(do func(*bootdisk.Disk) error) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		d, done, err := m.place.Open(m.o.Platform)
		if errors.Is(err, bootdisk.ErrBusy) && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			return err
		}
		return errors.Join(do(d), done())
	}
}

// begin begins something that changes the disk; end ends it. It belongs to the update that a client is in the middle of, or
// begins one.
func (m *Manager) begin(what string, total int64, by client) (end func(), err error) {
	if m.noDisk != nil {
		return nil, m.noDisk
	}
	m.await(by)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.tried != nil:
		return nil, ErrTrial
	case m.busy != "":
		return nil, fmt.Errorf("%w (%s)", ErrBusy, m.busy)
	}
	if err := m.taken(by, time.Now()); err != nil {
		return nil, err
	}
	m.busy, m.progress = what, Progress{What: what, Total: total}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.busy, m.progress = "", Progress{}
		m.extend(by)
		if m.staged.manifest == nil && m.staged.root == nil && m.staged.boot == 0 && m.armed == nil {
			m.session = session{} // what follows is another attempt, of anybody
		}
	}, nil
}

// refuse records a failed attempt and gives its error back.
func (m *Manager) refuse(by client, to string, err error) error {
	if errors.Is(err, ErrTrial) || errors.Is(err, ErrBusy) || errors.Is(err, ErrSession) {
		return err
	}
	m.mu.Lock()
	m.problem = fmt.Sprintf("The last update was refused: %v.", err)
	m.mu.Unlock()
	m.o.Log.Warn("update refused", "by", by.name, "err", err)
	u := store.Update{Time: time.Now(), From: named(m.version(), m.place.Running), To: to, By: by.name, Result: "refused", Reason: err.Error()}
	if errHistory := m.record(u); errHistory != nil {
		m.o.Log.Warn("update not in the history", "err", errHistory)
	}
	return err
}
