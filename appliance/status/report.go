package status

import (
	"net/netip"
	"slices"
	"time"

	"kdht/appliance/health"
)

// Report is the state of the process at one moment: what the status page shows, and what it gives as JSON. Times are
// RFC 3339, durations seconds, counts since the process began unless said otherwise.
type Report struct {
	Version string    `json:"version"` // of the program
	Time    time.Time `json:"time"`    // of this report
	Started time.Time `json:"started"`
	PID     int       `json:"pid"`
	Host    Host      `json:"host"`
	// BuildTimestamp is when the image of the appliance was built, in the form and under the name that gokrazy's clients
	// wait for after an update.
	BuildTimestamp string `json:"BuildTimestamp,omitempty"`
	// Tools is what the page's forms for /lookup send along, to show that they are its own; empty: there are none.
	Tools string `json:"-"`

	// Ready says that the DHT answers and is answered: it is Health.Ready.
	Ready bool `json:"ready"`
	// Health says how the node is, and why.
	Health health.Tree `json:"health"`
	// Problems is what the owner should know, one sentence each: fallbacks, failures, a store that was set aside.
	Problems []string `json:"problems"`
	Tasks    []Task   `json:"tasks"`

	Network  string    `json:"network"` // "public" or "private"
	Families []Family  `json:"families"`
	Lookups  int       `json:"lookups"`  // lookups under way
	InFlight int       `json:"inFlight"` // our queries that wait for an answer
	Node     []Counter `json:"node"`     // counters of the user-space half

	Recursion Recursion `json:"recursion"`
	// Hottest are the keys held here that are asked for most, at most 10, the most wanted first.
	Hottest []HotKey `json:"hottest"`

	XDP   XDP   `json:"xdp"`
	Store Store `json:"store"`
	// Update is which root file system runs; missing where there are no updates.
	Update *Update `json:"update,omitempty"`
	// Log counts the lines of the log.
	Log Log `json:"log"`
	// Events are the last lines of the log that are worth a look, the newest first.
	Events []Event `json:"events"`
	// Changes are the last entries of the audit log, the newest first, at most 10.
	Changes []Change `json:"changes"`

	// Tailnet is the state of the admin plane; missing while it is off.
	Tailnet *Tailnet `json:"tailnet,omitempty"`

	// Sections is what parts of the process beside the node have to say, such as updates and discovery.
	Sections []Section `json:"sections"`
}

// Tailnet is the node of a tailnet that serves the admin plane.
type Tailnet struct {
	// State is "starting", "needs login", "needs approval" (by the administrator of the tailnet), "connected", or "refused": the box
	// serves nobody there, and Error says why.
	State    string    `json:"state"`
	Since    time.Time `json:"since"`
	LoginURL string    `json:"loginURL,omitempty"` // where somebody has to log in
	// LoginHidden says that there is a URL where the owner has to log in, and that it is not shown to everybody.
	LoginHidden bool       `json:"loginHidden,omitempty"`
	Error       string     `json:"error,omitempty"`   // the last thing that went wrong, while it matters
	Tailnet     string     `json:"tailnet,omitempty"` // its name
	Name        string     `json:"name,omitempty"`    // of the box there
	Addrs       []string   `json:"addrs"`
	URLs        []string   `json:"urls"`                // under which it serves there
	Expiry      *time.Time `json:"keyExpiry,omitempty"` // when somebody must log in again; missing: never
}

// Change is something that somebody with authority has changed, or tried to.
type Change struct {
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	What    string    `json:"what"`
	Outcome string    `json:"outcome"`
}

// Section is a titled list of facts.
type Section struct {
	Title string `json:"title"`
	Facts []Fact `json:"facts"`
}

// Fact is a name and what there is to say of it. Values that belong to fields of their own do not belong here: it is
// for people.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// fill makes empty lists of those that are missing, so that programs find lists, never null.
func (r *Report) fill() {
	r.Families = slices.Clone(r.Families) // they are the caller's
	for i := range r.Families {
		r.Families[i].Listen = orEmpty(r.Families[i].Listen)
		r.Families[i].Levels = orEmpty(r.Families[i].Levels)
		r.Families[i].Buckets = orEmpty(r.Families[i].Buckets)
	}
	r.Sections = slices.Clone(r.Sections)
	for i := range r.Sections {
		r.Sections[i].Facts = orEmpty(r.Sections[i].Facts)
	}
	r.Sections = orEmpty(r.Sections)
	r.Health.Checks = orEmpty(r.Health.Checks)
	r.Problems, r.Tasks, r.Families, r.Node = orEmpty(r.Problems), orEmpty(r.Tasks), orEmpty(r.Families), orEmpty(r.Node)
	r.Recursion.Allow, r.Recursion.Times, r.Recursion.Hops = orEmpty(r.Recursion.Allow), orEmpty(r.Recursion.Times), orEmpty(r.Recursion.Hops)
	r.Host.Temperatures, r.Hottest, r.Events, r.Changes = orEmpty(r.Host.Temperatures), orEmpty(r.Hottest), orEmpty(r.Events), orEmpty(r.Changes)
	if r.Tailnet != nil {
		t := *r.Tailnet
		t.Addrs, t.URLs = orEmpty(t.Addrs), orEmpty(t.URLs)
		r.Tailnet = &t
	}
	x := &r.XDP
	x.Endpoints, x.NICs, x.Counters, x.Events = orEmpty(x.Endpoints), orEmpty(x.NICs), orEmpty(x.Counters), orEmpty(x.Events)
	if x.Recursion != nil {
		x.Recursion = &KernelRecursion{x.Recursion.Replied, x.Recursion.Late, orEmpty(x.Recursion.Hops)}
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Host is the machine.
type Host struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"` // release, as uname -r has it
	Arch   string `json:"arch"`
	// Uptime is how long the machine runs, which may be longer than the process does.
	Uptime float64 `json:"uptime"`
	// Memory is all that the kernel manages, MemoryAvailable what programs could still have of it, both in bytes
	// (MemTotal and MemAvailable of /proc/meminfo); 0 if unknown.
	Memory          int64 `json:"memory"`
	MemoryAvailable int64 `json:"memoryAvailable"`
	// Resident is what this process has of it.
	Resident int64 `json:"resident"`
	// Disk is the file system that has the state.
	Disk Disk `json:"disk"`
	// Temperatures are those that the machine measures, none where it does not.
	Temperatures []Temperature `json:"temperatures"`
}

// Disk is a file system, sizes in bytes; 0 if unknown.
type Disk struct {
	Path string `json:"path"` // what lies there
	Size int64  `json:"size"`
	Free int64  `json:"free"` // for programs without privileges
}

// Temperature is what one sensor says.
type Temperature struct {
	Name    string  `json:"name"`
	Celsius float64 `json:"celsius"`
}

// Update is the state of the root file systems, of which a box has two.
type Update struct {
	Root  int    `json:"root"`  // number of the partition that runs
	Trial bool   `json:"trial"` // it is not committed: if it does not prove well, the box goes back by itself
	Other string `json:"other"` // version in the other one, empty if not known
	// Next is what the next restart will try; empty: nothing.
	Next string `json:"next,omitempty"`
	// Offered is a newer release that the update URL has; empty: none is known.
	Offered string `json:"offered,omitempty"`
}

// Log counts the lines of the log by severity, and those that are not kept any more.
type Log struct {
	Debug     uint64 `json:"debug"`
	Info      uint64 `json:"info"`
	Warn      uint64 `json:"warn"`
	Error     uint64 `json:"error"`
	Forgotten uint64 `json:"forgotten"`
}

// Event is a line of the log.
type Event struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // "INFO", "WARN" or "ERROR"
	Message string    `json:"message"`
	Detail  string    `json:"detail,omitempty"` // its attributes, as key=value
}

// HotKey is a key that is asked for often.
type HotKey struct {
	Key    string  `json:"key"`    // target or infohash, hex
	Rate   float64 `json:"rate"`   // queries per second, smoothed over half a minute
	Method string  `json:"method"` // "get" or "get_peers"
	Kernel bool    `json:"kernel"` // the kernel half answers
}

// Task is a part of the process.
type Task struct {
	Name     string `json:"name"`
	Running  bool   `json:"running"`
	Restarts int    `json:"restarts"`        // since the process began
	Error    string `json:"error,omitempty"` // that stopped it, while it does not run
}

// Family is the node in the DHT of one address family.
type Family struct {
	Family   string           `json:"family"` // "IPv4" or "IPv6"
	ID       string           `json:"id"`     // our node ID, hex
	Listen   []netip.AddrPort `json:"listen"`
	External *netip.Addr      `json:"external,omitempty"` // as others see us
	Votes    int              `json:"votes"`              // of others for that address
	Secure   bool             `json:"secure"`             // the ID follows BEP 42

	Contacts    int     `json:"contacts"`
	Good        int     `json:"good"`
	Bits        int     `json:"bits"`        // b: a level of the routing table has 2^(b-1) buckets
	Levels      []Level `json:"levels"`      // of the routing table, those that are not empty
	RTT         float64 `json:"rtt"`         // mean of our queries, seconds
	NetworkSize float64 `json:"networkSize"` // nodes in the network, 0 if unknown
	// Buckets are those of the levels that are not empty, in order.
	Buckets []Bucket `json:"buckets"`
}

// Bucket is one bucket of a routing table.
type Bucket struct {
	PrefixLen    int `json:"prefixLen"` // of its level
	Number       int `json:"number"`    // within the level, from 0
	Good         int `json:"good"`
	Questionable int `json:"questionable"`
	Bad          int `json:"bad"`
	Replacement  int `json:"replacement"`
}

// Level is one level of a routing table.
type Level struct {
	PrefixLen    int `json:"prefixLen"` // leading bits that its contacts share with our ID
	Buckets      int `json:"buckets"`   // that have contacts
	Full         int `json:"full"`      // that have as many as they can
	Good         int `json:"good"`
	Questionable int `json:"questionable"`
	Bad          int `json:"bad"`
	Replacement  int `json:"replacement"` // in the replacement cache
}

// Recursion is the state of the lookups for clients that have no DHT logic.
type Recursion struct {
	Allow      []netip.Prefix `json:"allow"`      // clients for whom it is done; none: it is switched off
	UnderWay   int            `json:"underWay"`   // lookups, each for one client or several
	Cached     int            `json:"cached"`     // fetched items that are kept
	CacheBytes int64          `json:"cacheBytes"` // what they take, about
	// Times counts those that were answered by how long they took, and TimeSum is all their times together, seconds.
	Times   []TimeBucket `json:"times"`
	TimeSum float64      `json:"timeSum"`
	// Hops counts the same by the referrals followed, from 0 on; the last stands for as many or more.
	Hops []uint64 `json:"hops"`
}

// TimeBucket counts what took so long, and longer than what the one before counts.
type TimeBucket struct {
	Within float64 `json:"within"` // seconds; 0 in the last, for all that took longer
	Count  uint64  `json:"count"`
}

// UsedBuckets is how many buckets of the routing table have contacts.
func (f Family) UsedBuckets() (n int) {
	for _, l := range f.Levels {
		n += l.Buckets
	}
	return n
}

// LevelBuckets is how many buckets a level of the routing table has.
func (f Family) LevelBuckets() int { return 1 << max(f.Bits-1, 0) }

// Counter is one counter of the user-space half.
type Counter struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// XDP is the state of the kernel half.
type XDP struct {
	Mode   string `json:"mode"`   // as configured: "auto", "native", "generic" or "off"
	Active bool   `json:"active"` // loaded, and attached somewhere
	// Reason says why it is not active; empty if it is.
	Reason string `json:"reason,omitempty"`
	// Execution says how the kernel runs BPF programs: "JIT", "interpreter", or "unknown".
	Execution string `json:"execution"`
	// Pinned says that links and maps survive the process; PinReason why they do not.
	Pinned    bool   `json:"pinned"`
	PinDir    string `json:"pinDir,omitempty"`
	PinReason string `json:"pinReason,omitempty"`
	// TakenOver says that a predecessor's links and maps were found.
	TakenOver bool             `json:"takenOver"`
	Lease     float64          `json:"lease"`  // seconds that it answers on after a crash
	Linger    float64          `json:"linger"` // seconds that it answers on after a stop
	Endpoints []netip.AddrPort `json:"endpoints"`
	NICs      []NIC            `json:"nics"`
	Held      Held             `json:"held"`
	Hot       Hot              `json:"hot"`
	// Recursion is what became of clients' queries that the kernel half has sent on; nil: it sends none on.
	Recursion *KernelRecursion `json:"recursion,omitempty"`
	// Counters and Events are counted since the maps were made, by whatever process.
	Counters []KernelCounter `json:"counters"`
	Events   []KernelEvent   `json:"events"`
}

// Held is what the kernel half knows of the keys (targets and infohashes) that are held here.
type Held struct {
	Known int `json:"known"` // keys that it knows
	Room  int `json:"room"`  // keys that it can know
	// Missing is how many keys held here it does not know, for want of room or memory. While there are any, every get
	// and get_peers goes up to user space. Since is when that began; missing while all is well.
	Missing int        `json:"missing"`
	Since   *time.Time `json:"since,omitempty"`
	// Overflows is how often that began.
	Overflows uint64 `json:"overflows"`
}

// Hot is how full the hot map is, from which the kernel half answers for keys that are asked for often.
type Hot struct {
	Keys      int `json:"keys"`
	Small     int `json:"small"` // entries for values of up to 189 bytes, and how many there can be
	SmallRoom int `json:"smallRoom"`
	Large     int `json:"large"` // entries for longer ones
	LargeRoom int `json:"largeRoom"`
	Bytes     int `json:"bytes"` // memory of all entries, used or not
}

// KernelRecursion counts the queries of clients that the kernel half has carried through the network until user space took
// them over, since the process began.
type KernelRecursion struct {
	Replied uint64 `json:"replied"` // with the last reply
	Late    uint64 `json:"late"`    // without, because it did not come in time
	// Hops counts them by the number of nodes that the kernel half has asked.
	Hops []uint64 `json:"hops"`
}

// NIC is a network interface, as far as the kernel half is concerned.
type NIC struct {
	Name   string `json:"name"`
	Index  int    `json:"index"`
	Kind   string `json:"kind,omitempty"` // of a virtual interface
	Driver string `json:"driver,omitempty"`
	Up     bool   `json:"up"`
	MTU    int    `json:"mtu"`
	Wanted string `json:"wanted"` // mode asked for: "auto", "native", "generic", or "none" for an unsuitable interface
	Mode   string `json:"mode"`   // mode got: "native", "generic" or "none"
	// Reason says why the mode got is not the best or not the one wanted; empty if it is.
	Reason string `json:"reason,omitempty"`
	// ProgramID is the kernel's ID of the attached XDP program, ours or another; 0 if there is none.
	ProgramID uint32 `json:"programID"`
	// Paths is on how many paths at a time a recursion goes on that begins here, in the kernel, and OnePath why it is one; 0 if
	// nothing is attached.
	Paths   int    `json:"paths,omitempty"`
	OnePath string `json:"onePath,omitempty"`
}

// KernelCounter counts datagrams that left the XDP program for one reason.
type KernelCounter struct {
	Reason  string `json:"reason"`
	Query   string `json:"query,omitempty"` // method, of those that were answered
	Packets uint64 `json:"packets"`
}

// KernelEvent counts what the XDP program did beside passing or answering datagrams.
type KernelEvent struct {
	Event string `json:"event"`
	Count uint64 `json:"count"`
}

// Store is the state of the database.
type Store struct {
	Path       string  `json:"path"`
	Items      int     `json:"items"`
	OwnItems   int     `json:"ownItems"`
	Infohashes int     `json:"infohashes"`
	Peers      int     `json:"peers"`
	Sources    int     `json:"sources"`   // addresses that are charged for something
	Bytes      int64   `json:"bytes"`     // of items and peers
	MaxBytes   int64   `json:"maxBytes"`  // bound of that
	FileBytes  int64   `json:"fileBytes"` // size of the file
	Writes     int64   `json:"writes"`
	Commits    int64   `json:"commits"`
	CommitTime float64 `json:"commitTime"` // seconds, all commits together
	Expired    int64   `json:"expired"`
	OldestItem float64 `json:"oldestItem"` // seconds since the last put of the item that was not put again for longest; 0: none
	// Checked says that the structure of the whole file was found sound when it was opened; else a part of it was.
	Checked bool `json:"checked"`
	// Failure is why nothing can be stored at the moment, and FailedSince when that began; missing while all is well.
	Failure     string     `json:"failure,omitempty"`
	FailedSince *time.Time `json:"failedSince,omitempty"`
	// SetAside is where an unusable file was moved, and SetAsideReason what was wrong with it.
	SetAside       string `json:"setAside,omitempty"`
	SetAsideReason string `json:"setAsideReason,omitempty"`
}
