package admin

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kdht/appliance/admin/change"
	"kdht/appliance/health"
	"kdht/appliance/status"
	"kdht/config"
)

// tailnetCheck is the name of the plane's check in the health of the node.
const tailnetCheck = "tailnet"

// before is what a node does now by its report, and what of that a change to another configuration must not cost.
//
// What is not known yet, since the node has just started, counts as working: it has not failed, and where it turns out that it never would have
// worked, a good change is taken back, and can be made again. To have whoever makes it wait until all is known would keep a program that
// only runs for moments from ever being given another configuration.
func before(now, next config.Config, r status.Report, without []string) change.Before {
	lost := unserved(now, r)
	b := change.Before{
		Others: others(r), Kernel: attached(r), Tailnet: inTailnet(r), Unserved: texts(lost), Missing: missing(lost, r),
		Changes: config.Differences(&now, &next), Without: without,
	}
	if b.Others == 0 && r.Time.Sub(r.Started) < askTime {
		b.Others = contacts(r)
	}
	for _, c := range r.Health.Checks {
		unknown := c.State == health.Waiting && (c.Because == "" || r.Health.Check(c.Because).State == health.Waiting)
		if c.State.Works() || unknown && c.Essential() {
			b.Worked = append(b.Worked, c.Name)
		}
		b.Kernel = b.Kernel || unknown && c.Name == health.Kernel
	}
	for _, t := range r.Tasks {
		if !t.Running {
			b.Failing = append(b.Failing, t.Name)
		}
	}
	if next.XDP.Mode == config.XDPOff {
		b.Kernel = false // that is meant
	}
	if touches(b, "network") || touches(b, "networkName") {
		b.Others = 0 // it may be the first node there; that it finds others where some are named, the health says
	}
	return b
}

// askTime is within what time of a start the contacts that the node knew before have been asked whether they are still there.
const askTime = time.Minute

// contacts is how many other nodes are known, whether or not they answer.
func contacts(r status.Report) (n int) {
	for _, f := range r.Families {
		n += f.Contacts
	}
	return n
}

// others is how many other nodes answer.
func others(r status.Report) (n int) {
	for _, f := range r.Families {
		n += f.Good
	}
	return n
}

// attached reports whether the kernel half answers anywhere.
func attached(r status.Report) bool {
	return r.XDP.Active && slices.ContainsFunc(r.XDP.NICs, func(n status.NIC) bool { return n.Mode != "none" })
}

// inTailnet reports whether the plane is reached.
func inTailnet(r status.Report) bool { return r.Tailnet != nil && r.Tailnet.State == "connected" }

// touches reports whether a change gives a key another value, or with a dot at the end any key of a section.
func touches(was change.Before, key string) bool {
	return slices.ContainsFunc(was.Changes, func(k string) bool { return k == key || strings.HasSuffix(key, ".") && strings.HasPrefix(k, key) })
}

// reaches are the keys by which the box is found in the tailnet, and found by whoever may change it.
var reaches = []string{
	"tailnet.mode", "tailnet.authKey", "tailnet.authKeyFile", "tailnet.controlURL", "tailnet.hostname", "tailnet.tags", "tailnet.operators", "tailnet.updaters",
}

// mustCome gives the roles of whom a change is only proved by that he comes, 0 if nobody need: with a box in another tailnet, under another
// name, or with other tags, for which the policy has other rules, all may be well but that nobody gets at it who could change it back.
func mustCome(was change.Before) Role {
	switch {
	case !was.Tailnet || slices.Contains(was.Without, tailnetCheck) || !slices.ContainsFunc(reaches, func(k string) bool { return touches(was, k) }):
		return 0
	case len(was.Reserved) > 0:
		return Operator | Updater
	}
	return Operator
}

// nobodyCame says that the one who must come has not; came are the roles of whoever could change most of those who have.
func nobodyCame(must, came Role) string {
	switch {
	case came&must == must:
		return ""
	case came == 0 && must == Operator:
		return "nobody has come by the tailnet who may change the configuration, as with GET /admin"
	case came == 0:
		return "nobody has come by the tailnet who may change it back, an operator who is updater as well, as with GET /admin"
	}
	return "an operator has come by the tailnet, and nobody who may change it back: one who is updater as well, as with GET /admin"
}

// unserved lists the addresses that a node should serve on and does not.
func unserved(c config.Config, r status.Report) (all []netip.AddrPort) {
	for _, want := range c.Listen {
		served := false
		for _, f := range r.Families {
			served = served || slices.ContainsFunc(f.Listen, func(a netip.AddrPort) bool {
				return a.Addr() == want.Addr() && (a.Port() == want.Port() || want.Port() == 0)
			})
		}
		if !served {
			all = append(all, want)
		}
	}
	return all
}

// missing lists the families of addresses that are not served of which the node has no socket at all. It runs without one only if
// the host does not have the family.
func missing(lost []netip.AddrPort, r status.Report) (all []string) {
	for _, a := range lost {
		name := familyOf(a.Addr())
		served := slices.ContainsFunc(r.Families, func(f status.Family) bool {
			return slices.ContainsFunc(f.Listen, func(b netip.AddrPort) bool { return familyOf(b.Addr()) == name })
		})
		if !served && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

func familyOf(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func texts(addrs []netip.AddrPort) (all []string) {
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

// outage says that a cable or an address is gone that was there before a change which has nothing to do with that; "" else.
func outage(r status.Report, was change.Before) string {
	if touches(was, "listen") || touches(was, "interfaces") || touches(was, "xdp.") { // attaching a program may take a link down
		return ""
	}
	for _, name := range []string{health.Link, health.Address} {
		if c := r.Health.Check(name); c.State == health.Failed && slices.Contains(was.Worked, name) {
			return said(c)
		}
	}
	return ""
}

// distant says that all which is unwell has to do with who is elsewhere: nobody of the DHT answers, or the tailnet is not reached. That may be because
// the network beyond the LAN is gone, unless the change may have taken the box off the LAN.
func distant(c config.Config, r status.Report, was change.Before, came Role) bool {
	if touches(was, "interfaces") || touches(was, "xdp.") {
		return false
	}
	was.Without = append(slices.Clone(was.Without), health.Bootstrap, health.Table, tailnetCheck)
	return unwell(c, r, was, came) == ""
}

// unwell says what the node does not do any more that it did before a change, or should do now and does not, or of which that is not
// known yet; "" if it does all. came are the roles of the operator who has been there since, of several of the one with more; 0 if none has.
//
// What had failed before is not looked at, nor what waits for that. So a change that is made while no other node answers is kept when all
// the rest is well.
func unwell(c config.Config, r status.Report, was change.Before, came Role) string {
	var what []string
	matters := func(check string) bool { return !slices.Contains(was.Without, check) }
	// blamed says that a check waits for another one, which is in the list.
	blamed := func(k health.Check) bool {
		return k.Because != "" && slices.Contains(was.Worked, k.Because) && matters(k.Because)
	}
	networked := true // as far as the health knows
	for _, k := range r.Health.Checks {
		switch {
		case k.Name == health.Tasks || k.Name == health.Kernel || k.Name == tailnetCheck: // more is known of them, see below
			continue
		case !slices.Contains(was.Worked, k.Name) || !matters(k.Name) || k.State.Works():
			continue
		case k.State == health.Waiting && !k.Essential():
			continue
		}
		networked = networked && k.Name != health.Bootstrap && k.Name != health.Table
		if !blamed(k) {
			what = append(what, said(k))
		}
	}
	if matters(health.Address) {
		for _, a := range unserved(c, r) {
			// What the host does not have, no change of a port brings.
			if !slices.Contains(was.Unserved, a.String()) && !slices.Contains(was.Missing, familyOf(a.Addr())) {
				what = append(what, a.String()+" is not served")
			}
		}
	}
	if was.Others > 0 && others(r) == 0 && networked && matters(health.Table) {
		what = append(what, fmt.Sprintf("no other node answers, and %d did before", was.Others))
	}
	if k := r.Health.Check(health.Kernel); was.Kernel && !attached(r) && matters(health.Kernel) && !blamed(k) {
		what = append(what, said(k))
	}
	if matters(health.Tasks) {
		for _, t := range r.Tasks {
			if !t.Running && !slices.Contains(was.Failing, t.Name) {
				what = append(what, t.Name+" does not run: "+t.Error)
			}
		}
	}
	switch {
	case !was.Tailnet || !matters(tailnetCheck):
	case !inTailnet(r):
		why := ""
		if r.Tailnet != nil && r.Tailnet.Error != "" {
			why = ": " + strings.TrimSuffix(r.Tailnet.Error, ".")
		}
		what = append(what, "the admin plane is not in the tailnet"+why)
	default:
		if lacks := nobodyCame(mustCome(was), came); lacks != "" {
			what = append(what, lacks)
		}
	}
	return strings.Join(what, "; ")
}

// said is what a check says, for a list.
func said(c health.Check) string { return c.Name + ": " + strings.TrimSuffix(c.Sentence, ".") }
