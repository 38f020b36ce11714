package appliance

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"kdht/appliance/buildinfo"
	"kdht/appliance/health"
	"kdht/appliance/history"
	"kdht/appliance/journal"
	"kdht/appliance/kernel"
	"kdht/appliance/status"
	"kdht/config"
	"kdht/router"
	"kdht/store"
)

// process is everything that the report is made from.
type process struct {
	cfg     config.Config
	log     *slog.Logger
	journal *journal.Journal // of log
	started time.Time
	release string // of the kernel

	store *store.Store
	node  *router.Node
	half  *kernel.Half
	past  *history.Recorder
	tasks atomic.Pointer[[]Task] // nil before they run
	host  Host                   // what extensions have added
	watch *healthWatch
	// tracker remembers since when all is as it is.
	tracker health.Tracker
	notes   []string // what went less than well at the start
}

// report describes the present state.
func (p *process) report() status.Report {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	n := p.node.Stats()
	memory, available := hostMemory()
	r := status.Report{
		Version: buildinfo.Read().String(),
		Time:    time.Now(),
		Started: p.started,
		PID:     os.Getpid(),
		Host: status.Host{
			Name: host, Kernel: p.release, Arch: runtime.GOARCH, Uptime: Uptime().Seconds(), Memory: memory, MemoryAvailable: available, Resident: resident(),
			Disk: diskOf(p.cfg.State), Temperatures: temperatures("/sys"),
		},
		Tasks:     p.taskReport(),
		Network:   string(p.cfg.Network),
		Families:  families(n),
		Lookups:   n.Lookups,
		InFlight:  n.InFlight,
		Recursion: recursionReport(n.Recursion),
		XDP:       p.half.Report(),
		Store:     p.storeReport(),
		Events:    p.events(),
		Changes:   p.changes(),
	}
	for _, k := range n.Hottest {
		method := "get"
		if k.Peers {
			method = "get_peers"
		}
		r.Hottest = append(r.Hottest, status.HotKey{Key: k.Key.String(), Rate: k.Rate, Method: method, Kernel: k.Kernel})
	}
	lines := p.journal.Counts()
	r.Log = status.Log{Debug: lines.Debug, Info: lines.Info, Warn: lines.Warn, Error: lines.Error, Forgotten: lines.Forgotten}
	for _, c := range n.Counters {
		r.Node = append(r.Node, status.Counter{Group: c.Group, Name: c.Name, Value: c.Value})
	}
	r.Problems = append(r.Problems, p.notes...)
	for _, f := range p.host.problems {
		r.Problems = append(r.Problems, f()...)
	}
	r.Problems = append(r.Problems, problems(r)...)
	for _, f := range p.host.sections {
		r.Sections = append(r.Sections, f())
	}
	for _, f := range p.host.amends {
		f(&r)
	}
	r.Health = p.health(r, n)
	r.Ready = r.Health.Ready
	return r
}

// families converts the router's statistics.
func families(n router.Stats) (all []status.Family) {
	for _, f := range n.Families {
		s := status.Family{
			Family: familyName(f.Family), ID: f.ID.String(), Listen: f.Listen, Votes: f.Votes, Secure: f.Secure,
			Contacts: f.Contacts, Good: f.Good, RTT: f.RTT.Seconds(), NetworkSize: f.NetworkSize, Bits: f.Bits,
		}
		if f.External.IsValid() {
			s.External = &f.External
		}
		for _, l := range f.Levels {
			s.Levels = append(s.Levels, status.Level(l))
		}
		for _, b := range f.Buckets {
			s.Buckets = append(s.Buckets, status.Bucket(b))
		}
		all = append(all, s)
	}
	return all
}

func recursionReport(s router.RecursionStats) status.Recursion {
	r := status.Recursion{
		Allow: s.Allow, UnderWay: s.UnderWay, Cached: s.Cached, CacheBytes: s.CacheBytes, TimeSum: s.TimeSum.Seconds(), Hops: s.Hops[:],
	}
	for i, n := range s.Times {
		b := status.TimeBucket{Count: n}
		if i < len(router.RecursionBounds) {
			b.Within = router.RecursionBounds[i].Seconds()
		}
		r.Times = append(r.Times, b)
	}
	return r
}

func familyName(f router.Family) string {
	if f == router.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// taskReport tells how the tasks fare. One that may not fail runs as long as the process does.
func (p *process) taskReport() (all []status.Task) {
	tasks := p.tasks.Load()
	if tasks == nil {
		return nil
	}
	for _, t := range *tasks {
		s := status.Task{Name: t.String(), Running: true}
		if r, ok := t.(*restarting); ok {
			var err error
			if s.Restarts, err = r.failures(); err != nil {
				s.Running, s.Error = false, err.Error()
			}
		}
		all = append(all, s)
	}
	return all
}

func (p *process) storeReport() status.Store {
	s := p.store.Stats()
	r := status.Store{
		Path:  filepath.Join(p.cfg.State, StoreFile),
		Items: s.Items, OwnItems: s.OwnItems, Infohashes: s.Infohashes, Peers: s.Peers, Sources: s.Sources,
		Bytes: s.Bytes, MaxBytes: p.cfg.Store.MaxBytes, FileBytes: s.FileBytes,
		Writes: s.Writes, Commits: s.Commits, CommitTime: s.CommitTime.Seconds(), Expired: s.Expired,
		OldestItem: s.OldestItem.Seconds(), Checked: s.Checked,
	}
	if s.Failure != nil {
		r.Failure, r.FailedSince = s.Failure.Error(), &s.FailedSince
	}
	r.SetAside, r.SetAsideReason = p.store.SetAside()
	return r
}

// problems says what the owner should know, in words.
func problems(r status.Report) (lines []string) {
	if s := r.Store; s.SetAside != "" {
		lines = append(lines, fmt.Sprintf("The database could not be used (%s) and a new one was begun; the old file is kept as %s.", s.SetAsideReason, s.SetAside))
	}
	if s := r.Store; s.Failure != "" {
		lines = append(lines, fmt.Sprintf("Nothing can be stored since %s: %s.", s.FailedSince.UTC().Format(time.DateTime+" MST"), s.Failure))
	}
	for _, t := range r.Tasks {
		if !t.Running {
			lines = append(lines, fmt.Sprintf("%s does not run and will be started again: %s.", t.Name, t.Error))
		}
	}
	x := r.XDP
	if x.Mode == string(config.XDPOff) {
		return lines
	}
	if !x.Active {
		lines = append(lines, fmt.Sprintf("The kernel half is not active, all queries are answered from user space: %s.", x.Reason))
	}
	for _, n := range x.NICs {
		switch {
		case n.Wanted == "none" || n.Reason == "":
		case n.Mode == "none":
			lines = append(lines, fmt.Sprintf("%s has no XDP program: %s.", n.Name, n.Reason))
		default:
			lines = append(lines, fmt.Sprintf("%s has its XDP program in %s mode: %s.", n.Name, n.Mode, n.Reason))
		}
	}
	if k := x.Held; x.Active && k.Missing > 0 {
		since := ""
		if k.Since != nil {
			since = " since " + k.Since.UTC().Format(time.DateTime+" MST")
		}
		lines = append(lines, fmt.Sprintf("Every get and get_peers goes up to user space%s: of the keys held here the kernel half could not take in %d (it knows %d and has room for %d); it tries again.", since, k.Missing, k.Known, k.Room))
	}
	if x.Active && x.PinReason != "" {
		lines = append(lines, fmt.Sprintf("The kernel half ends with the process: %s.", x.PinReason))
	}
	if x.Active && x.Execution == "interpreter" {
		lines = append(lines, "This kernel has no JIT for BPF, so the kernel half is slower than it could be.")
	}
	return lines
}
