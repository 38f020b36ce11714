package update

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"

	"kdht/appliance/status"
	"kdht/appliance/update/trial"
)

// before is what the box does now.
func (m *Manager) before() trial.Before {
	r := m.o.Report()
	link, address := m.o.Network()
	b := trial.Before{Kernel: r.XDP.Active, Memory: m.o.Memory, Failing: r.Store.Failure != "", NoLink: !link, NoAddress: !address, Tailnet: inTailnet(r)}
	for _, f := range r.Families {
		b.Good += f.Good
	}
	for _, t := range r.Tasks {
		if !t.Running {
			b.Tasks = append(b.Tasks, t.Name)
		}
	}
	return b
}

// Health checks what a version must do to be committed: what the one before did.
func (m *Manager) Health() trial.Health {
	r, now := m.o.Report(), m.before()
	was, _, _ := trial.FindBefore(m.o.CommandLine)
	var t trial.Trial
	if ok, err := trial.Read(m.dir, trial.TrialFile, &t); err == nil && ok {
		was = t.Before
	}
	var h trial.Health
	check := func(name string, ok bool, format string, args ...any) {
		c := trial.Check{Name: name, OK: ok}
		if !ok {
			c.Detail = fmt.Sprintf(format, args...)
		}
		h.Checks = append(h.Checks, c)
	}
	// A version that cannot read the database begins a new one, and would be well with that.
	check("store", (!now.Failing || was.Failing) && (!now.Memory || was.Memory) && r.Store.SetAside == "", "%s",
		cmp.Or(r.Store.Failure, r.Store.SetAsideReason, "the state is in memory, and was not before"))
	check("link", !now.NoLink || was.NoLink, "no interface is up")
	check("address", !now.NoAddress || was.NoAddress, "no interface has an address")
	r.Tasks = slices.DeleteFunc(r.Tasks, func(x status.Task) bool { return slices.Contains(was.Tasks, x.Name) })
	unhealthy := r.Unhealthy()
	check("tasks", len(unhealthy) == 0, "%s", strings.Join(unhealthy, ", "))
	check("kernel", r.XDP.Active || !was.Kernel, "the kernel half is not attached: %s", r.XDP.Reason)
	err := m.o.Ask()
	check("answers", err == nil, "the node does not answer: %v", err)
	check("answered", now.Good > 0 || was.Good == 0, "no node answers, and before there were %d", was.Good)
	check("tailnet", now.Tailnet || !was.Tailnet, "the admin plane is not in its tailnet, and was before")
	return h
}

// inTailnet says whether whoever looks after the box from afar reaches it.
func inTailnet(r status.Report) bool { return r.Tailnet != nil && r.Tailnet.State == "connected" }

// Network says whether a network interface is up, and one has an address that is not link-local.
func Network() (link, address bool) {
	all, err := net.Interfaces()
	if err != nil {
		return false, false
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		link = true
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				address = true
			}
		}
	}
	return link, address
}
