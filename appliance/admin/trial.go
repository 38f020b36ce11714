package admin

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kdht/appliance/admin/change"
	"kdht/appliance/status"
	"kdht/config"
)

const (
	// wellEvery is how often a changed configuration is looked at while it is on trial, and wellTimes how often in a row it
	// must be well.
	wellEvery = time.Second
	wellTimes = 5
)

// before is what the node does now.
func (p *plane) before() change.Before {
	r := p.h.Report()
	lost := unserved(p.h.Config, r)
	b := change.Before{Unserved: texts(lost), Missing: missing(lost, r), Ready: r.Ready, Kernel: r.XDP.Active, Tailnet: r.Tailnet != nil && r.Tailnet.State == "connected"}
	for _, t := range r.Tasks {
		if !t.Running {
			b.Failing = append(b.Failing, t.Name)
		}
	}
	return b
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

// unwell says what the node does not do any more that it did before, or should do now and does not; "" if it does all.
func unwell(c config.Config, r status.Report, was change.Before) string {
	var what []string
	for _, a := range unserved(c, r) {
		// What the host does not have, no change of a port brings.
		if !slices.Contains(was.Unserved, a.String()) && !slices.Contains(was.Missing, familyOf(a.Addr())) {
			what = append(what, a.String()+" is not served")
		}
	}
	if was.Ready && !r.Ready {
		what = append(what, "the node has no place in the network")
	}
	if was.Kernel && !r.XDP.Active {
		what = append(what, "the kernel half is not active: "+r.XDP.Reason)
	}
	if was.Tailnet && (r.Tailnet == nil || r.Tailnet.State != "connected") {
		what = append(what, "the admin plane is not in the tailnet")
	}
	for _, t := range r.Tasks {
		if !t.Running && !slices.Contains(was.Failing, t.Name) {
			what = append(what, t.Name+": "+t.Error)
		}
	}
	return strings.Join(what, "; ")
}

// trial is the task that looks at a changed configuration. It runs whether or not the plane is on, since a change may have
// switched that off.
type trial struct {
	p     *plane
	ready chan struct{}
}

func (t *trial) String() string         { return "trial of the configuration" }
func (t *trial) Ready() <-chan struct{} { return t.ready }

// Run keeps the change once it has proved well, or takes it back and has the program start anew.
func (t *trial) Run(ctx context.Context) error {
	h := t.p.o.History
	if x := h.Trial(); x != nil {
		if err := t.watch(ctx, *x); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (t *trial) watch(ctx context.Context, x change.Trial) error {
	h, log := t.p.o.History, t.p.log
	who := Identity{Name: x.By}
	what := fmt.Sprintf("change the configuration: version %d", x.Version)
	deadline := time.NewTimer(x.Within)
	defer deadline.Stop()
	tick := time.NewTicker(wellEvery)
	defer tick.Stop()
	for well := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if unwell(t.p.h.Config, t.p.h.Report(), x.Before) != "" {
				well = 0
				continue
			}
			if well++; well < wellTimes {
				continue
			}
			if err := h.Keep(); err != nil {
				return err
			}
			t.p.gate.note(who, what, "kept")
			return nil
		case <-deadline.C:
			reason := unwell(t.p.h.Config, t.p.h.Report(), x.Before)
			if reason == "" {
				reason = "it was not well for long enough"
			}
			said, err := h.Back(reason)
			if err != nil {
				return err
			}
			log.Error("the program starts anew with the configuration of before", "why", said)
			t.p.gate.note(who, what, "taken back: "+reason)
			t.p.h.Restart(nil)
			return nil
		}
	}
}
