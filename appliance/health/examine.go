package health

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"kdht/appliance/link"
)

const (
	// startTime is how long an address, the network or the first answer may take before it counts as failed.
	startTime = time.Minute
	// quiet is how long nobody need have answered before silence counts, and silent how many queries in a row: a lookup
	// may meet so many dead nodes within seconds.
	quiet  = 30 * time.Second
	silent = 8
	// probeLife is how long the result of a query to ourselves counts.
	probeLife = 3 * ProbeEvery
	// fullShare is the share of its bound above which the store counts as full, in percent.
	fullShare = 98
)

// Examine says how a node is. The Since of all checks is left zero, see [Tracker].
func Examine(in Input) Tree {
	checks := []Check{
		check(Tasks, in.tasks),
		check(Link, in.link),
		check(Address, in.address, Link),
		check(Bootstrap, in.bootstrap, Address),
		check(Table, in.table, Bootstrap),
		check(Answers, in.answers),
		check(Store, in.store),
		check(Kernel, in.kernel, Link),
	}
	return whole(append(checks, in.More...), in.well())
}

func check(name string, f func() (State, string), after ...string) Check {
	state, sentence := f()
	return Check{Name: name, After: after, State: state, Sentence: sentence}
}

func (in Input) tasks() (State, string) {
	var bad []string
	for _, t := range in.Tasks {
		if !t.Running {
			bad = append(bad, t.Name+" does not run and will be started again: "+t.Error)
		}
	}
	if bad != nil {
		return Failed, sentence(strings.Join(bad, "; "))
	}
	return Good, "All " + strconv.Itoa(len(in.Tasks)) + " parts of the program run."
}

// uplinks are the interfaces by which the node reaches others: those with an address that it listens on, else those that lead
// out of the machine. What leads to containers or virtual machines is always up, and a tunnel is whatever the cable is. On a machine
// that has nothing but such interfaces they are all there is.
func (in Input) uplinks() []NetLink {
	if bound := in.bound(); bound != nil {
		return bound
	}
	out := slices.DeleteFunc(slices.Clone(in.Links), func(l NetLink) bool { return l.Role < link.Port })
	if len(out) > 0 {
		return out
	}
	return slices.DeleteFunc(slices.Clone(in.Links), func(l NetLink) bool { return !l.Up })
}

// bound are the interfaces with an address that the node listens on.
func (in Input) bound() (links []NetLink) {
	for _, l := range in.Links {
		if slices.ContainsFunc(in.Bound, func(a netip.Addr) bool { return slices.Contains(l.Addrs, a.WithZone("")) }) {
			links = append(links, l)
		}
	}
	return links
}

func (in Input) link() (State, string) {
	if in.OnlyLocal {
		return Good, "None is needed: the node serves this machine alone."
	}
	if in.LinksError != "" {
		return Degraded, sentence("the interfaces are not known: " + in.LinksError)
	}
	var up, down []string
	for _, l := range in.uplinks() {
		if l.Up {
			up = append(up, l.Name)
		} else {
			down = append(down, l.Name)
		}
	}
	switch {
	case up != nil:
		return Good, list(up) + are(up) + "up."
	case down != nil:
		return Failed, list(down) + are(down) + "down: is the cable in, and the other end switched on?"
	}
	return Degraded, "This machine has no network interface: only its own programs reach the node."
}

// addresses are those that others can reach the node at, the link-local ones of IPv4 apart.
func (in Input) addresses() (global, local []string) {
	bound := in.bound()
	reached := slices.ContainsFunc(in.Links, func(l NetLink) bool {
		return l.Up && l.Role >= link.Upper && slices.ContainsFunc(l.Addrs, netip.Addr.IsGlobalUnicast)
	})
	ports := slices.ContainsFunc(in.Links, func(l NetLink) bool { return l.Role == link.Port })
	for _, l := range in.Links {
		for _, a := range l.Addrs {
			switch {
			case !l.Up || !in.serves(a):
			case bound != nil && !slices.Contains(in.Bound, a):
			case bound == nil && ports && l.Role < link.Upper && (l.Role != link.Tunnel || !reached):
			case a.IsLinkLocalUnicast() && a.Is4():
				local = append(local, a.String())
			case a.IsGlobalUnicast():
				global = append(global, a.String())
			}
		}
	}
	return global, local
}

func (in Input) address() (State, string) {
	if in.OnlyLocal {
		return Good, "None is needed: the node serves this machine alone."
	}
	if in.LinksError != "" {
		return Degraded, "The addresses are not known."
	}
	global, local := in.addresses()
	var hosted []string // of those that the node listens on
	for _, a := range in.Bound {
		if slices.Contains(in.Hosted, a) {
			hosted = append(hosted, a.String())
		}
	}
	switch {
	case in.bound() == nil && hosted != nil:
		return Good, few(hosted) + ", which the loopback interface has."
	case in.Bound != nil && in.bound() == nil && !in.starting():
		var all []string
		for _, a := range in.Bound {
			all = append(all, a.String())
		}
		return Failed, "No interface has the address that the node listens on, " + few(all) + ": the key listen names one that there is, or 0.0.0.0 for all."
	case global != nil:
		return Good, few(global) + "."
	case local != nil && in.Private:
		return Degraded, "Only the link-local address " + few(local) + ": there is no DHCP server, and nodes beyond this LAN are out of reach."
	case len(in.uplinks()) == 0:
		return Degraded, "This machine has no address but its own loopback ones."
	case in.starting():
		return Waiting, "No interface has an address yet."
	case local != nil:
		return Failed, "Only the link-local address " + few(local) + ": is there a DHCP server?"
	}
	return Failed, "No interface that leads out of this machine has an address: is there a DHCP server?"
}

// serves says whether the node has a socket of the family of an address.
func (in Input) serves(a netip.Addr) bool {
	for _, f := range in.Families {
		if f.IPv6 == a.Is6() {
			return true
		}
	}
	return len(in.Families) == 0
}

func (in Input) bootstrap() (State, string) {
	switch {
	case in.Joined && in.Bootstrap > 0:
		return Good, "The node has found its place in the network."
	case in.Joined:
		return Good, "The node has its place in the network, and names no node to join through."
	case in.Bootstrap == 0 || in.starting():
		return Waiting, "Looking for the node's place in the network."
	case in.Bootstrap == 1:
		return Failed, "The bootstrap node does not answer: check that UDP leaves this network, and the key bootstrap."
	}
	return Failed, fmt.Sprintf("None of the %d bootstrap nodes answers: check that UDP leaves this network, and the key bootstrap.", in.Bootstrap)
}

// mute says that nobody answers the node in a family.
func (in Input) mute(f Family) bool {
	return f.Contacts > 0 && (f.Good == 0 || f.Silence > silent && in.Now.Sub(f.Answered) > quiet)
}

func (in Input) table() (State, string) {
	var well, mute []string
	contacts := 0
	for _, f := range in.Families {
		contacts += f.Contacts
		switch {
		case in.mute(f):
			mute = append(mute, f.Name)
		case f.Good > 0:
			well = append(well, fmt.Sprintf("%d of %d %s contacts", f.Good, f.Contacts, f.Name))
		}
	}
	switch {
	case well != nil && mute != nil:
		return Degraded, "Nobody answers over " + list(mute) + "; good are " + list(well) + "."
	case well != nil:
		return Good, "Good are " + list(well) + "."
	case contacts == 0 && in.Bootstrap == 0:
		return Good, "There are no other nodes yet."
	case in.Bootstrap == 0:
		return Degraded, fmt.Sprintf("None of the %s answers%s.", plural(contacts, "contact"), in.lastAnswer())
	case contacts == 0:
		return Failed, "The routing table is empty: no other node is known."
	}
	return Failed, fmt.Sprintf("None of the %s answers%s: check that UDP leaves this network.", plural(contacts, "contact"), in.lastAnswer())
}

// lastAnswer says when there was one.
func (in Input) lastAnswer() string {
	var last time.Time
	for _, f := range in.Families {
		if f.Answered.After(last) {
			last = f.Answered
		}
	}
	if last.IsZero() {
		return ""
	}
	return ", the last did " + span(in.Now.Sub(last)) + " ago"
}

func (in Input) answers() (State, string) {
	p := in.Probe
	old := in.Now.Sub(p.At) > probeLife
	switch {
	case p.At.IsZero() && in.Now.Sub(in.Started) < probeLife:
		return Waiting, "The node was not asked yet."
	case p.At.IsZero() || old:
		return Failed, "Nobody has asked the node lately, and whether it answers is not known: the program is overloaded."
	case p.None:
		return Degraded, "The node cannot be asked from this machine, because its loopback interface is down."
	case p.Error != "" && p.Some:
		return Degraded, sentence("the node does not answer everywhere: " + p.Error)
	case p.Error != "":
		return Failed, sentence("the node does not answer: " + p.Error)
	}
	return Good, "The node answers this machine's own query."
}

func (in Input) store() (State, string) {
	s := in.Store
	switch {
	case s.Failure != "":
		return Failed, sentence("nothing can be stored since " + s.FailedSince.UTC().Format(time.DateTime+" MST") + ": " + s.Failure)
	case s.SetAside != "":
		return Degraded, "The database could not be used, and a new one was begun; the old file is kept as " + s.SetAside + "."
	case s.MaxBytes > 0 && s.Bytes >= s.MaxBytes/100*fullShare:
		return Degraded, "The store is full: what would exceed store.maxBytes is refused."
	}
	return Good, fmt.Sprintf("The store takes what it is given; it is filled to %d %%.", percent(s.Bytes, s.MaxBytes))
}

func (in Input) kernel() (State, string) {
	k := in.Kernel
	if k.Off {
		return Good, "It is off by configuration: all is answered from user space."
	}
	if !k.Settled {
		return Waiting, "It is being attached."
	}
	if !k.Active {
		return Degraded, sentence("all is answered from user space: " + k.Reason)
	}
	var attached, not []string
	for _, n := range k.NICs {
		if n.Mode == "none" {
			not = append(not, n.Name+" ("+n.Reason+")")
		} else {
			attached = append(attached, n.Name+" ("+n.Mode+")")
		}
	}
	switch {
	case attached == nil:
		return Degraded, sentence("it is attached nowhere: " + list(not))
	case not != nil:
		return Degraded, sentence("it answers at " + list(attached) + ", and not at " + list(not))
	case k.Missing > 0:
		return Degraded, fmt.Sprintf("It does not know %d of the keys held here, and passes every get on.", k.Missing)
	case !k.JIT:
		return Good, "It answers at " + list(attached) + ", interpreted, since this kernel has no JIT for BPF."
	}
	return Good, "It answers at " + list(attached) + "."
}

// well is the headline of a node with which all is well.
func (in Input) well() string {
	good := 0
	for _, f := range in.Families {
		good += f.Good
	}
	if good == 0 {
		return "The node answers, and is the first of its network."
	}
	return "The node answers, and is answered by " + plural(good, "other") + "."
}

func (in Input) starting() bool { return in.Now.Sub(in.Started) < startTime }

// list joins words.
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return "none"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// few is a list that is cut.
func few(words []string) string {
	if n := len(words); n > 3 {
		return strings.Join(words[:3], ", ") + " and " + strconv.Itoa(n-3) + " more"
	}
	return list(words)
}

func are(words []string) string {
	if len(words) == 1 {
		return " is "
	}
	return " are "
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// sentence gives a text a capital and a full stop.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

func percent(part, all int64) int64 {
	if all <= 0 {
		return 0
	}
	return part * 100 / all
}

// span writes a duration in one unit.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
