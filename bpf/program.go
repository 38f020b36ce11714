package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// Bounds of the kernel half.
const (
	// BucketSize is the number of contacts of one bucket, and of one reply (Kademlia's k).
	BucketSize = 8
	// Levels is the number of lengths of prefix that a contact can share with our node ID.
	Levels = 160
	// MaxBits bounds the bits of an ID that a level of the table tells apart (Kademlia's b).
	MaxBits = 5
	// MaxBuckets bounds the buckets of a family that have contacts. With the most bits these are the buckets of 32 levels: a
	// node that shares more leading bits with us is to be expected in a network of 2^32 nodes.
	MaxBuckets = len(kdhtFamily{}.Buckets)
)

// DefaultVersion is the v of replies unless the configuration has another.
var DefaultVersion = [4]byte{'K', 'D', 0, 1}

// Config says how to load the program.
type Config struct {
	// PinDir is a directory on a BPF file system in which maps and links are pinned, so that they survive the
	// process. It is made if its parent exists. Empty: nothing is pinned.
	PinDir string
	// Version is the v of every reply; zero means [DefaultVersion], which is that of router/krpc.
	Version [4]byte
	// MaxHeld is how many keys held here the kernel half can know, 2^27 at most; zero means 262,144. It takes 16 bytes
	// of kernel memory for each key that it could know (rounded up to a power of two), and about 100 more for each
	// that is held.
	MaxHeld uint32
	// Looks is how many askers a CPU looks at in 34 ms to see whether they are to be reported; zero means 64. Those that
	// come after them are answered, but reported another time.
	Looks uint32
	// HotBytes is the memory of the hot map, from which keys that are asked often are answered; half of it is for
	// entries with at most 192 bytes of value, half for others. Zero means 4 MiB, a negative number that nothing is hot.
	HotBytes int64
}

// Program is a loaded kernel half. Its methods are safe for concurrent use.
type Program struct {
	version [4]byte
	maxHeld uint32
	looks   uint32
	hotSize int64
	pins    pins
	labels  labels

	done chan struct{} // closed by Close

	proving sync.Mutex // guards writing to the map "proofs": who does it must not wait for a snapshot to be published
	parted  bool       // no proofs are written any more
	taking  sync.Mutex // guards the taking over of recursions: an answer must not wait for a snapshot to be published either
	left    bool       // none is taken over any more
	seed    uint64     // of the hash of sources; set once

	mu       sync.Mutex
	closed   bool
	objs     kdhtObjects
	generic  *ebpf.Program // the variant for generic mode, once it is needed
	inner    [2]*buffer    // values of the map of maps, which this process alone writes
	next     int           // the one that is not published
	settings kdhtSettings  // what the map "live" holds
	held     held
	hot      hot
	links    map[int]*attachment
}

// Load loads the program and its maps. What an earlier process of the same version left pinned is used again: its
// counters, held keys, endpoints, lease and snapshot; anything else that is pinned is replaced. The program that is
// attached to interfaces stays the old one until [Program.Attach], so that the new one can be given all it needs
// before it takes over.
func Load(c Config) (*Program, error) {
	p := &Program{version: c.Version, maxHeld: c.MaxHeld, looks: c.Looks, hotSize: c.HotBytes, links: map[int]*attachment{}, done: make(chan struct{})}
	if p.version == [4]byte{} {
		p.version = DefaultVersion
	}
	spec, err := loadKdht()
	if err != nil {
		return nil, err
	}
	if p.labels, err = readLabels(spec); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, classify("raise the limit for locked memory", err)
	}
	if err := p.configure(spec); err != nil {
		return nil, err
	}
	if p.pins, err = openPins(c.PinDir); err != nil {
		return nil, err
	}
	inner := spec.Maps[kdhtMapSnapshots].InnerMap.Copy()
	if err := p.pins.load(spec, &p.objs); err != nil {
		return nil, classify("load the XDP program", err)
	}
	if err := p.adopt(inner); err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// adopt takes over what is in the maps.
func (p *Program) adopt(inner *ebpf.MapSpec) error {
	inner.Name = "snapshot"
	for i := range p.inner {
		b, err := newBuffer(inner)
		if err != nil {
			return err
		}
		p.inner[i] = b
	}
	p.held.keys, p.held.filter, p.held.missing = p.objs.Held, p.objs.HeldFilter, map[[20]byte]struct{}{}
	if err := p.held.adopt(); err != nil {
		return err
	}
	if err := p.adoptHot(); err != nil {
		return err
	}
	if err := p.objs.Live.Lookup(uint32(0), &p.settings); err != nil {
		return classify("read the settings", err)
	}
	if p.settings.HeldOverflow != 0 {
		p.held.unsure, p.held.since = true, time.Now()
	}
	// Those of a predecessor's key are still good: a new one only must not give the same again.
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	p.settings.Transaction = siphashState(key)
	p.settings.Recursion = 0 // nobody takes over yet what the program begins
	if p.settings.Seed == 0 {
		var seed [8]byte
		_, _ = rand.Read(seed[:]) // never fails
		p.settings.Seed = binary.LittleEndian.Uint64(seed[:]) | 1
	}
	p.seed = p.settings.Seed
	return p.putSettings()
}

// putSettings publishes p.settings.
func (p *Program) putSettings() error {
	return classify("write the settings", p.objs.Live.Put(uint32(0), &p.settings))
}

// lock makes p the caller's until it unlocks p.mu, unless p is closed: then it is not locked.
func (p *Program) lock() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Publish makes s what the program answers from. It is atomic for readers: a reply comes wholly from one snapshot.
// It returns once no reader uses the one before, some 10 ms later. A snapshot that breaks its rules is an
// [ErrSnapshot] and changes nothing.
func (p *Program) Publish(s *Snapshot) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if err := encodeSnapshot(p.inner[p.next].snapshot(), s, p.version); err != nil {
		return err
	}
	// The kernel waits for all readers before an update of a map of maps returns, so the map that was published until
	// now can be written next time.
	if err := p.objs.Snapshots.Put(uint32(0), p.inner[p.next].m); err != nil {
		return classify("publish a snapshot", err)
	}
	p.next ^= 1
	p.hot.awake()
	return nil
}

// Run runs the program once on an Ethernet frame (BPF_PROG_TEST_RUN) and returns the XDP verdict, such as XDP_TX (3)
// or XDP_PASS (2), and the frame as the program left it.
func (p *Program) Run(frame []byte) (verdict uint32, out []byte, err error) {
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+2048)}
	if err := p.lock(); err != nil {
		return 0, nil, err
	}
	prog, err := p.objs.Kdht.Clone()
	p.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	defer prog.Close() //nolint:errcheck // closing a descriptor of our own
	verdict, err = prog.Run(&opts)
	return verdict, opts.DataOut, classify("run the program", err)
}

// VerifierLogs returns what the kernel's verifier says of each program, by its name, and of the variant for generic mode, which is
// "kdht, generic": the last lines count instructions and states.
func VerifierLogs() (map[string]string, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, classify("raise the limit for locked memory", err)
	}
	logs := map[string]string{}
	for _, variant := range []string{"", ", generic"} {
		spec, err := loadKdht()
		if err != nil {
			return nil, err
		}
		if variant != "" {
			delete(spec.Programs, kdhtProgKdhtLaunch) // it has no variants
			if err := spec.Variables[kdhtVarGeneric].Set(uint32(1)); err != nil {
				return nil, fmt.Errorf("choose the variant for generic mode: %w", err)
			}
		}
		c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
			Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
		})
		if err != nil {
			return nil, classify("load the XDP program", err)
		}
		for name, program := range c.Programs {
			logs[name+variant] = program.VerifierLog
		}
		c.Close()
	}
	return logs, nil
}

// Close releases the program. With detach it is detached from every interface, and all pins are removed. Without,
// what is pinned stays for the next process; what is not pinned is detached all the same.
func (p *Program) Close(detach bool) error {
	if err := p.lock(); err != nil {
		return nil
	}
	defer p.mu.Unlock()
	p.closed = true
	close(p.done)
	p.proving.Lock()
	p.parted = true
	p.proving.Unlock()
	p.taking.Lock()
	p.left = true
	p.taking.Unlock()
	var errs []error
	for ifindex, a := range p.links {
		if detach {
			errs = append(errs, p.removeLauncher(ifindex, a.launcher), a.remove())
		} else {
			if a.launcher != nil {
				errs = append(errs, a.launcher.link.Close())
			}
			errs = append(errs, a.link.Close())
		}
		delete(p.links, ifindex)
	}
	if detach {
		errs = append(errs, p.pins.remove())
	}
	return errors.Join(append(errs, p.release())...)
}

// release closes all descriptors.
func (p *Program) release() error {
	return errors.Join(p.generic.Close(), p.objs.Close(), p.inner[0].close(), p.inner[1].close(), p.hot.barrier.Close(), p.hot.beyond.Close()) // nil can be closed
}

// labels are the names of the reasons and events, in the order of their counters.
type labels struct{ reasons, events []string }

// readLabels takes the labels from the object's type information, so that they are those of the C code.
func readLabels(spec *ebpf.CollectionSpec) (l labels, err error) {
	if l.reasons, err = enumLabels(spec, "reason", "REASON_", "REASONS"); err != nil {
		return l, err
	}
	l.events, err = enumLabels(spec, "event", "EVENT_", "EVENTS")
	return l, err
}

func enumLabels(spec *ebpf.CollectionSpec, name, prefix, end string) ([]string, error) {
	var enum *btf.Enum
	if err := spec.Types.TypeByName(name, &enum); err != nil {
		return nil, fmt.Errorf("types of the XDP program: %w", err)
	}
	return valueLabels(enum, prefix, end)
}
