package admin

import (
	"net/netip"
	"testing"
	"time"

	"kdht/appliance/admin/change"
	"kdht/appliance/health"
	"kdht/appliance/status"
	"kdht/config"
)

// A change that leaves an address without a socket is not well, unless it was so before.
func TestAddressThatIsNotServedAnyMore(t *testing.T) {
	four, six := netip.MustParseAddrPort("0.0.0.0:6881"), netip.MustParseAddrPort("[::]:6881")
	c := config.Config{Listen: []netip.AddrPort{four, six}}
	both := status.Report{Families: []status.Family{{Listen: []netip.AddrPort{four}}, {Listen: []netip.AddrPort{six}}}}
	one := status.Report{Families: []status.Family{{Listen: []netip.AddrPort{four}}}}
	for name, x := range map[string]struct {
		r    status.Report
		was  change.Before
		want string
	}{
		"all are served":              {both, change.Before{}, ""},
		"one is not":                  {one, change.Before{}, "[::]:6881 is not served"},
		"one is not, nor was before":  {one, change.Before{Unserved: []string{"[::]:6881"}}, ""},
		"it is again":                 {both, change.Before{Unserved: []string{"[::]:6881"}}, ""},
		"another one was not, before": {one, change.Before{Unserved: []string{"0.0.0.0:6881"}}, "[::]:6881 is not served"},
	} {
		if got := unwell(c, x.r, x.was, 0); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// A host without IPv6 has no IPv6 socket at another port either; that is no reason to take a change of the port back. That an address of
// the family it has is not served is one.
func TestPortChangedWithOneFamilyMissing(t *testing.T) {
	addr := netip.MustParseAddrPort
	listening := func(addrs ...netip.AddrPort) (r status.Report) {
		for _, a := range addrs {
			r.Families = append(r.Families, status.Family{Listen: []netip.AddrPort{a}})
		}
		return r
	}
	was := config.Config{Listen: []netip.AddrPort{addr("0.0.0.0:6881"), addr("[::]:6881")}}
	next := config.Config{Listen: []netip.AddrPort{addr("0.0.0.0:7000"), addr("[::]:7000")}}
	for name, x := range map[string]struct {
		old, now status.Report
		want     string
	}{
		"no IPv6, before and after":        {listening(addr("0.0.0.0:6881")), listening(addr("0.0.0.0:7000")), ""},
		"no IPv6, and the new port failed": {listening(addr("0.0.0.0:6881")), listening(), "0.0.0.0:7000 is not served"},
		"IPv6 got lost":                    {listening(addr("0.0.0.0:6881"), addr("[::]:6881")), listening(addr("0.0.0.0:7000")), "[::]:7000 is not served"},
		"no IPv4, before and after":        {listening(addr("[::]:6881")), listening(addr("[::]:7000")), ""},
	} {
		lost := unserved(was, x.old)
		if got := unwell(next, x.now, change.Before{Unserved: texts(lost), Missing: missing(lost, x.old)}, 0); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	// A family that is new in the configuration has to be served.
	if got := unwell(next, listening(addr("0.0.0.0:7000")), change.Before{}, 0); got != "[::]:7000 is not served" {
		t.Errorf("a new family: %q", got)
	}
}

// A change is judged by the health of the node: what worked before must work, unless that it does not is meant, or has come of something
// else. What had failed before is not looked at.
func TestJudgedByHealth(t *testing.T) {
	well := func() status.Report {
		r := status.Report{
			Tasks:    []status.Task{{Name: "node", Running: true}, {Name: "discovery", Running: true}},
			Families: []status.Family{{Good: 7}},
			XDP:      status.XDP{Active: true, NICs: []status.NIC{{Name: "eth0", Mode: "generic"}}},
			Tailnet:  &status.Tailnet{State: "connected"},
		}
		for _, name := range []string{health.Tasks, health.Link, health.Address, health.Bootstrap, health.Table, health.Answers, health.Store, health.Kernel, "tailnet", "updates"} {
			r.Health.Checks = append(r.Health.Checks, health.Check{Name: name, State: health.Good})
		}
		return r
	}
	set := func(r *status.Report, name string, s health.State, sentence, because string) {
		for i := range r.Health.Checks {
			if c := &r.Health.Checks[i]; c.Name == name {
				c.State, c.Sentence, c.Because = s, sentence, because
			}
		}
	}
	all := []string{health.Tasks, health.Link, health.Address, health.Bootstrap, health.Table, health.Answers, health.Store, health.Kernel, "tailnet", "updates"}
	was := func(changes ...string) change.Before {
		return change.Before{Worked: all, Others: 7, Kernel: true, Tailnet: true, Changes: changes}
	}
	reserved := func(changes ...string) change.Before {
		b := was(changes...)
		b.Reserved = changes
		return b
	}
	linkGone := func(r *status.Report) {
		set(r, health.Link, health.Failed, "Eth0 is down.", "")
		for _, name := range []string{health.Address, health.Bootstrap, health.Table, health.Kernel} {
			set(r, name, health.Waiting, "Waits for the link.", health.Link)
		}
		r.Families[0].Good, r.XDP.NICs[0].Mode, r.Tailnet.State = 0, "none", "starting"
	}
	for name, x := range map[string]struct {
		was    change.Before
		spoil  func(*status.Report)
		came   Role
		outage string // "" if there is none, and then
		want   string
	}{
		"all is well":          {was: was("store.maxBytes"), spoil: func(*status.Report) {}},
		"degraded is no fault": {was: was("store.maxBytes"), spoil: func(r *status.Report) { set(r, health.Store, health.Degraded, "The store is full.", "") }},
		"bootstrap nodes are silent": {was: was("bootstrap"), spoil: func(r *status.Report) {
			set(r, health.Bootstrap, health.Failed, "The bootstrap node does not answer.", "")
			set(r, health.Table, health.Waiting, "Waits for the bootstrap.", health.Bootstrap)
			r.Families[0].Good = 0
		}, want: "bootstrap: The bootstrap node does not answer"},
		"not in the network yet": {was: was("bootstrap"), spoil: func(r *status.Report) {
			set(r, health.Bootstrap, health.Waiting, "Looking for the node's place in the network.", "")
			set(r, health.Table, health.Waiting, "Waits for the bootstrap.", health.Bootstrap)
			r.Families[0].Good = 0
		}, want: "bootstrap: Looking for the node's place in the network"},
		"they were silent before": {was: change.Before{Worked: []string{health.Answers}, Changes: []string{"store.maxBytes"}}, spoil: func(r *status.Report) {
			set(r, health.Bootstrap, health.Failed, "The bootstrap node does not answer.", "")
			set(r, health.Table, health.Waiting, "Waits for the bootstrap.", health.Bootstrap)
			r.Families[0].Good = 0
		}},
		"nobody answers a node that names nobody": {was: was("listen"), spoil: func(r *status.Report) {
			set(r, health.Table, health.Degraded, "None of the 7 contacts answers.", "")
			r.Families[0].Good = 0
		}, want: "no other node answers, and 7 did before"},
		"that is meant": {was: change.Before{Worked: all, Others: 7, Changes: []string{"listen"}, Without: []string{health.Table}}, spoil: func(r *status.Report) {
			set(r, health.Table, health.Failed, "None of the 7 contacts answers.", "")
			r.Families[0].Good = 0
		}},
		"the node does not answer": {was: was("limits.perSource"), spoil: func(r *status.Report) { set(r, health.Answers, health.Failed, "The node does not answer.", "") }, want: "answers: The node does not answer"},
		"it was not asked yet":     {was: was("limits.perSource"), spoil: func(r *status.Report) { set(r, health.Answers, health.Waiting, "The node was not asked yet.", "") }, want: "answers: The node was not asked yet"},
		"nothing can be stored":    {was: was("store.maxBytes"), spoil: func(r *status.Report) { set(r, health.Store, health.Failed, "Nothing can be stored.", "") }, want: "store: Nothing can be stored"},
		"an update is on trial":    {was: was("store.maxBytes"), spoil: func(r *status.Report) { set(r, "updates", health.Waiting, "It is on trial.", "") }},
		"the address listened on has vanished": {was: was("listen"), spoil: func(r *status.Report) {
			set(r, health.Address, health.Failed, "No interface has the address that the node listens on, 192.0.2.8.", "")
			set(r, health.Bootstrap, health.Waiting, "Waits for the address.", health.Address)
			set(r, health.Table, health.Waiting, "Waits for the address.", health.Address)
		}, want: "address: No interface has the address that the node listens on, 192.0.2.8"},
		"somebody has pulled the cable": {was: was("store.maxBytes"), spoil: linkGone, outage: "link: Eth0 is down"},
		"attaching has taken the link down": {was: was("xdp.mode"), spoil: linkGone,
			want: "link: Eth0 is down; the admin plane is not in the tailnet"},
		"the cable was out before": {was: change.Before{Worked: []string{health.Tasks, health.Answers, health.Store, "updates"}, Changes: []string{"xdp.mode"}}, spoil: linkGone},
		"attached nowhere": {was: was("interfaces"), spoil: func(r *status.Report) {
			set(r, health.Kernel, health.Degraded, "It is attached nowhere: eth1 (no such interface).", "")
			r.XDP.NICs = nil
		}, want: "kernel half: It is attached nowhere: eth1 (no such interface)"},
		"a task does not run":          {was: was("discovery"), spoil: func(r *status.Report) { r.Tasks[1] = status.Task{Name: "discovery", Error: "no such interface"} }, want: "discovery does not run: no such interface"},
		"the control server is silent": {was: was("tailnet.controlURL"), spoil: func(r *status.Report) { r.Tailnet = &status.Tailnet{State: "starting", Error: "No control server."} }, want: "the admin plane is not in the tailnet: No control server"},
		"the tailnet is another one":   {was: was("tailnet.controlURL"), spoil: func(*status.Report) {}, want: "nobody has come by the tailnet who may change the configuration, as with GET /admin"},
		"and who may has come there":   {was: was("tailnet.controlURL"), spoil: func(*status.Report) {}, came: Operator},
		"an operator cannot change it back": {was: reserved("tailnet.controlURL"), spoil: func(*status.Report) {}, came: Operator,
			want: "an operator has come by the tailnet, and nobody who may change it back: one who is updater as well, as with GET /admin"},
		"and who can has come": {was: reserved("tailnet.controlURL"), spoil: func(*status.Report) {}, came: Operator | Updater},
		"other updaters": {was: reserved("tailnet.updaters"), spoil: func(*status.Report) {},
			want: "nobody has come by the tailnet who may change it back, an operator who is updater as well, as with GET /admin"},
		"other viewers lock nobody out": {was: was("tailnet.viewers"), spoil: func(*status.Report) {}},
		"it leaves the tailnet":         {was: change.Before{Worked: all, Tailnet: true, Changes: []string{"tailnet.mode"}, Without: []string{"tailnet"}}, spoil: func(r *status.Report) { r.Tailnet = nil }},
	} {
		r := well()
		x.spoil(&r)
		if got := outage(r, x.was); got != x.outage {
			t.Errorf("%s: outage %q, want %q", name, got, x.outage)
		} else if got != "" {
			continue
		}
		if got := unwell(config.Config{}, r, x.was, x.came); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// What a node that has just started does not know yet must be well after a change, as if it had worked; what has failed need not.
func TestJudgedRightAfterAStart(t *testing.T) {
	now := time.Now()
	report := func(up time.Duration, good int, states map[string]health.State) status.Report {
		r := status.Report{
			Time: now, Started: now.Add(-up), Families: []status.Family{{Contacts: 3, Good: good}}, XDP: status.XDP{Active: true, NICs: []status.NIC{{Mode: "native"}}},
			Health: health.Tree{Checks: []health.Check{{Name: health.Bootstrap}, {Name: health.Table}, {Name: health.Answers}, {Name: health.Kernel}, {Name: "updates"}}},
		}
		for i := range r.Health.Checks {
			c := &r.Health.Checks[i]
			if c.State = health.Good; states[c.Name] != "" {
				c.State, c.Sentence = states[c.Name], "It does not work."
			}
		}
		if c := &r.Health.Checks[1]; r.Health.Checks[0].State != health.Good {
			c.State, c.Because = health.Waiting, health.Bootstrap
		}
		return r
	}
	type states = map[string]health.State
	unknown := states{health.Bootstrap: health.Waiting, health.Answers: health.Waiting, health.Kernel: health.Waiting, "updates": health.Waiting}
	young := report(time.Second, 0, unknown)
	young.XDP = status.XDP{}
	var c config.Config
	for name, x := range map[string]struct {
		old, now status.Report
		want     string
	}{
		"all is well":                {young, report(time.Hour, 1, nil), ""},
		"the node does not answer":   {young, report(time.Hour, 1, states{health.Answers: health.Failed}), "answers: It does not work"},
		"the network is not found":   {young, report(time.Hour, 0, states{health.Bootstrap: health.Failed}), "bootstrap: It does not work"},
		"nobody answers any more":    {young, report(time.Hour, 0, nil), "no other node answers, and 3 did before"},
		"the update was taken back":  {young, report(time.Hour, 1, states{"updates": health.Failed}), ""},
		"the network was lost, once": {report(time.Hour, 0, states{health.Bootstrap: health.Failed}), report(time.Hour, 0, states{health.Bootstrap: health.Failed}), ""},
		"those asked do not count":   {report(time.Hour, 0, nil), report(time.Hour, 0, nil), ""},
	} {
		if got := unwell(c, x.now, before(c, c, x.old, nil), 0); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	detached := report(time.Hour, 1, nil)
	detached.XDP = status.XDP{}
	if got := unwell(c, detached, before(c, c, young, nil), 0); got == "" {
		t.Error("a kernel half that was being attached need not be after the change")
	}
}

// Only that nobody elsewhere answers may be the network's fault, and only where the change has not taken the box off the LAN.
func TestOutageIsNoExcuseForTheRest(t *testing.T) {
	silent := status.Report{
		Tailnet: &status.Tailnet{State: "starting"},
		Health: health.Tree{Checks: []health.Check{
			{Name: health.Bootstrap, State: health.Failed}, {Name: health.Table, State: health.Waiting, Because: health.Bootstrap}, {Name: health.Answers, State: health.Good},
		}},
	}
	broken := silent
	broken.Health.Checks = []health.Check{silent.Health.Checks[0], silent.Health.Checks[1], {Name: health.Answers, State: health.Failed}}
	was := func(changes ...string) change.Before {
		return change.Before{Worked: []string{health.Bootstrap, health.Table, health.Answers}, Others: 7, Tailnet: true, Changes: changes}
	}
	for name, x := range map[string]struct {
		r    status.Report
		was  change.Before
		want bool
	}{
		"nobody answers":                      {silent, was("bootstrap"), true},
		"nobody answers in another tailnet":   {silent, was("tailnet.controlURL"), true},
		"nobody answers, nor does the node":   {broken, was("bootstrap"), false},
		"nobody answers on another interface": {silent, was("interfaces"), false},
		"nobody answers another XDP mode":     {silent, was("xdp.mode"), false},
	} {
		if got := distant(config.Config{}, x.r, x.was, 0); got != x.want {
			t.Errorf("%s: %t, want %t", name, got, x.want)
		}
	}
}
