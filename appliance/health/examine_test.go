package health_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/link"
)

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func addrs(all ...string) (list []netip.Addr) {
	for _, a := range all {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

// well is a node with which all is well.
func well() health.Input {
	return health.Input{
		Now: now, Started: now.Add(-time.Hour), Bootstrap: 4, Joined: true,
		Links: []health.NetLink{
			{Name: "eth0", Role: link.Port, Up: true, Addrs: addrs("192.0.2.7", "2001:db8::7", "fe80::1")},
			{Name: "eth1", Role: link.Port},
			{Name: "docker0", Up: true, Addrs: addrs("172.17.0.1")},
			{Name: "wg0", Role: link.Tunnel, Up: true, Addrs: addrs("10.9.0.1", "fd00::9")},
			{Name: "sit0", Role: link.Tunnel},
		},
		Families: []health.Family{
			{Name: "IPv4", Contacts: 100, Good: 90, Answered: now.Add(-time.Minute)},
			{Name: "IPv6", IPv6: true, Contacts: 20, Good: 10, Answered: now.Add(-time.Second)},
		},
		Probe:  health.Probe{At: now.Add(-time.Second), Some: true, Took: time.Millisecond},
		Tasks:  []health.Task{{Name: "node", Running: true}, {Name: "kernel half", Running: true}},
		Store:  health.StoreInput{Bytes: 50, MaxBytes: 100},
		Kernel: health.KernelInput{Settled: true, Active: true, JIT: true, NICs: []health.NIC{{Name: "eth0", Mode: "native"}}},
	}
}

// Each case changes one thing of a node that is well, and says all checks that are not good any more, with their state and what
// they wait for, the state of the whole, and words of the headline.
func TestExamine(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*health.Input)
		bad      string
		state    health.State
		ready    bool
		headline string
	}{
		"well": {func(*health.Input) {}, "", health.Good, true, "Well. The node answers, and is answered by 100 others."},
		"first of its network": {func(in *health.Input) {
			in.Bootstrap = 0
			in.Families[0] = v4(0, 0)
			in.Families[1].Contacts, in.Families[1].Good = 0, 0
		}, "", health.Good, true, "is the first of its network"},
		"first, and left alone": {func(in *health.Input) { in.Bootstrap = 0; in.Families = []health.Family{v4(3, 0)} }, "routing table degraded", health.Degraded, true, "None of the 3 contacts answers"},
		"cable out":             {func(in *health.Input) { in.Links[0].Up = false }, "link failed, address waiting link, bootstrap waiting link, routing table waiting link, kernel half waiting link", health.Failed, false, "Not working. eth0 and eth1 are down: is the cable in"},
		"no interface at all":   {func(in *health.Input) { in.Links = nil }, "link degraded, address degraded", health.Degraded, true, "only its own programs"},
		"tunnels that are down": {func(in *health.Input) { in.Links = in.Links[4:] }, "link degraded, address degraded", health.Degraded, true, "only its own programs"},
		"a tunnel alone":        {func(in *health.Input) { in.Links = in.Links[3:] }, "", health.Good, true, "Well."},
		"a VLAN has the address": {func(in *health.Input) {
			in.Links[0].Addrs = nil
			in.Links = append(in.Links, health.NetLink{Name: "eth0.5", Role: link.Upper, Up: true, Addrs: addrs("192.0.2.7")})
		}, "", health.Good, true, "Well."},
		"cable out, a port of a bridge is up": {func(in *health.Input) {
			in.Links[0].Up = false
			in.Links = append(in.Links, health.NetLink{Name: "br0", Role: link.Upper, Up: true, Addrs: addrs("192.0.2.7")})
		}, "link failed, address waiting link, bootstrap waiting link, routing table waiting link, kernel half waiting link", health.Failed, false, "Not working. eth0 and eth1 are down"},
		"IPv6 by a tunnel, IPv4 not served": {func(in *health.Input) {
			in.Families, in.Links[0].Addrs = in.Families[1:], addrs("192.0.2.7")
		}, "", health.Good, true, "Well."},
		"a tunnel that nothing carries": {func(in *health.Input) {
			in.Families, in.Links[0].Addrs = in.Families[1:], addrs("fe80::1")
		}, "address failed, bootstrap waiting address, routing table waiting address", health.Failed, false, "leads out of this machine"},
		"serves its containers alone": {func(in *health.Input) { in.Bound, in.Links[0].Up = addrs("172.17.0.1"), false }, "", health.Good, true, "Well."},
		"listens on one of two ports": {func(in *health.Input) { in.Bound, in.Links[0].Up, in.Links[1].Up = addrs("192.0.2.7"), false, true },
			"link failed, address waiting link, bootstrap waiting link, routing table waiting link, kernel half waiting link", health.Failed, false, "Not working. eth0 is down"},
		"listens on an address that is gone": {func(in *health.Input) { in.Bound = addrs("192.0.2.8") }, "address failed, bootstrap waiting address, routing table waiting address", health.Failed, false, "192.0.2.8: the key listen"},
		"listens on an address of a service": {func(in *health.Input) { in.Bound, in.Hosted = addrs("192.0.2.8"), addrs("192.0.2.9", "192.0.2.8") }, "", health.Good, true, "Well."},
		"listens there, and the cable is out": {func(in *health.Input) {
			in.Bound, in.Hosted, in.Links[0].Up, in.Links[1].Up = addrs("192.0.2.8"), addrs("192.0.2.8"), false, false
		},
			"link failed, address waiting link, bootstrap waiting link, routing table waiting link, kernel half waiting link", health.Failed, false, "Not working. "},
		"interfaces unknown":         {func(in *health.Input) { in.LinksError = "not permitted" }, "link degraded, address degraded", health.Degraded, true, "not permitted"},
		"serves itself alone":        {func(in *health.Input) { in.OnlyLocal, in.Links = true, nil }, "", health.Good, true, "Well."},
		"no DHCP server":             {func(in *health.Input) { in.Links[0].Addrs = addrs("fe80::1") }, "address failed, bootstrap waiting address, routing table waiting address", health.Failed, false, "is there a DHCP server?"},
		"DHCP server takes its time": {func(in *health.Input) { in.Links[0].Addrs, in.Started = nil, now.Add(-9*time.Second) }, "address waiting, bootstrap waiting address, routing table waiting address", health.Waiting, false, "Starting. No interface has an address yet."},
		"link-local, public":         {func(in *health.Input) { in.Links[0].Addrs = addrs("169.254.7.7") }, "address failed, bootstrap waiting address, routing table waiting address", health.Failed, false, "Only the link-local address 169.254.7.7"},
		"link-local, private":        {func(in *health.Input) { in.Links[0].Addrs, in.Private = addrs("169.254.7.7"), true }, "address degraded", health.Degraded, true, "beyond this LAN"},
		"address of another family": {func(in *health.Input) {
			in.Families, in.Links[0].Addrs, in.Links = in.Families[:1], addrs("2001:db8::7"), in.Links[:3]
		}, "address failed, bootstrap waiting address, routing table waiting address", health.Failed, false, "leads out of this machine"},
		"just started":               {func(in *health.Input) { in.Joined, in.Started, in.Probe = false, now.Add(-time.Second), health.Probe{} }, "bootstrap waiting, routing table waiting bootstrap, answers waiting", health.Waiting, false, "Starting. Looking for the node's place in the network."},
		"bootstrap nodes silent":     {func(in *health.Input) { in.Joined = false }, "bootstrap failed, routing table waiting bootstrap", health.Failed, false, "None of the 4 bootstrap nodes answers"},
		"one bootstrap node silent":  {func(in *health.Input) { in.Joined, in.Bootstrap = false, 1 }, "bootstrap failed, routing table waiting bootstrap", health.Failed, false, "The bootstrap node does not answer"},
		"all contacts gone":          {func(in *health.Input) { in.Families = []health.Family{v4(9, 0)} }, "routing table failed", health.Failed, false, "None of the 9 contacts answers, the last did 2 min ago"},
		"table empty":                {func(in *health.Input) { in.Families = []health.Family{v4(0, 0)} }, "routing table failed", health.Failed, false, "table is empty"},
		"nobody answers any more":    {func(in *health.Input) { in.Families = []health.Family{v4(9, 8)}; in.Families[0].Silence = 9 }, "routing table failed", health.Failed, false, "None of the 9 contacts answers"},
		"dead nodes in a lookup":     {func(in *health.Input) { in.Families[1].Silence = 50 }, "", health.Good, true, "Well."},
		"nothing to ask for a while": {func(in *health.Input) { in.Families[0].Answered = now.Add(-14 * time.Minute) }, "", health.Good, true, "Well."},
		"IPv6 broken":                {func(in *health.Input) { in.Families[1].Good = 0 }, "routing table degraded", health.Degraded, true, "Nobody answers over IPv6"},
		"no IPv6":                    {func(in *health.Input) { in.Families[1] = health.Family{Name: "IPv6", IPv6: true} }, "", health.Good, true, "Well."},
		"does not answer":            {func(in *health.Input) { in.Probe.Some, in.Probe.Error = false, "127.0.0.1:6881: no answer within 2s" }, "answers failed", health.Failed, false, "Not working. The node does not answer: 127.0.0.1:6881"},
		"one socket does not":        {func(in *health.Input) { in.Probe.Error = "[::1]:6881: no answer within 2s" }, "answers degraded", health.Degraded, true, "does not answer everywhere"},
		"cannot be asked":            {func(in *health.Input) { in.Probe.Some, in.Probe.None = false, true }, "answers degraded", health.Degraded, true, "loopback interface is down"},
		"asked long ago":             {func(in *health.Input) { in.Probe.At = now.Add(-time.Minute) }, "answers failed", health.Failed, false, "overloaded"},
		"never asked":                {func(in *health.Input) { in.Probe = health.Probe{} }, "answers failed", health.Failed, false, "overloaded"},
		"disk full":                  {func(in *health.Input) { in.Store.Failure, in.Store.FailedSince = "no space left on device", now }, "store failed", health.Degraded, true, "Degraded. Nothing can be stored since 2026-11-27 12:00:00 UTC: no space left on device."},
		"database set aside":         {func(in *health.Input) { in.Store.SetAside = "/x/kdht.db.damaged" }, "store degraded", health.Degraded, true, "/x/kdht.db.damaged"},
		"store full":                 {func(in *health.Input) { in.Store.Bytes, in.Store.MaxBytes = 99<<20, 100<<20 }, "store degraded", health.Degraded, true, "store is full"},
		"kernel half off":            {func(in *health.Input) { in.Kernel = health.KernelInput{Off: true} }, "", health.Good, true, "Well."},
		"kernel half not permitted":  {func(in *health.Input) { in.Kernel = health.KernelInput{Settled: true, Reason: "no permission"} }, "kernel half degraded", health.Degraded, true, "All is answered from user space: no permission."},
		"kernel half being attached": {func(in *health.Input) { in.Kernel.Settled = false }, "kernel half waiting", health.Good, true, "Well."},
		"kernel half nowhere":        {func(in *health.Input) { in.Kernel.NICs = nil }, "kernel half degraded", health.Degraded, true, "attached nowhere"},
		"another program on one card": {func(in *health.Input) {
			in.Kernel.NICs = append(in.Kernel.NICs, health.NIC{Name: "eth1", Mode: "none", Reason: "busy"})
		}, "kernel half degraded", health.Degraded, true, "at eth0 (native), and not at eth1 (busy)"},
		"kernel half lacks keys":  {func(in *health.Input) { in.Kernel.Missing = 3 }, "kernel half degraded", health.Degraded, true, "does not know 3"},
		"interpreted":             {func(in *health.Input) { in.Kernel.JIT = false }, "", health.Good, true, "Well."},
		"a task is down":          {func(in *health.Input) { in.Tasks[1] = health.Task{Name: "kernel half", Error: "netlink is gone"} }, "tasks failed", health.Degraded, true, "Kernel half does not run and will be started again: netlink is gone."},
		"tailnet fine":            {func(in *health.Input) { in.More = tailnet(health.Good) }, "", health.Good, true, "Well."},
		"tailnet fails":           {func(in *health.Input) { in.More = tailnet(health.Failed) }, "tailnet failed", health.Degraded, true, "Degraded. The key has expired."},
		"tailnet waits for login": {func(in *health.Input) { in.More = tailnet(health.Waiting) }, "tailnet waiting", health.Good, true, "Well."},
		"tailnet without a cable": {func(in *health.Input) { in.More, in.Links[0].Up = tailnet(health.Failed), false }, "link failed, address waiting link, bootstrap waiting link, routing table waiting link, kernel half waiting link, tailnet waiting link", health.Failed, false, "Not working. eth0"},
		"two things":              {func(in *health.Input) { in.Store.SetAside, in.Kernel.Missing = "x", 1 }, "store degraded, kernel half degraded", health.Degraded, true, "kept as x. Also not as it should be: kernel half."},
		"the worst comes first":   {func(in *health.Input) { in.Tasks[0].Running, in.Joined, in.Kernel.Missing = false, false, 1 }, "tasks failed, bootstrap failed, routing table waiting bootstrap, kernel half degraded", health.Failed, false, "Not working. None of the 4 bootstrap nodes answers: check that UDP leaves this network, and the key bootstrap. Also not as they should be: tasks and 1 more."},
	} {
		t.Run(name, func(t *testing.T) {
			in := well()
			c.change(&in)
			tree := health.Examine(in)
			var bad []string
			for _, x := range tree.Checks {
				if x.State != health.Good {
					bad = append(bad, strings.TrimSpace(x.Name+" "+string(x.State)+" "+x.Because))
				}
				if !strings.HasSuffix(x.Sentence, ".") && !strings.HasSuffix(x.Sentence, "?") || strings.Contains(x.Sentence, "..") {
					t.Errorf("%s: %q is no sentence", x.Name, x.Sentence)
				}
			}
			if got := strings.Join(bad, ", "); got != c.bad {
				t.Errorf("not good are %s\nwant %s", got, c.bad)
			}
			if tree.State != c.state || tree.Ready != c.ready || !strings.Contains(tree.Headline, c.headline) {
				t.Errorf("%s, ready %t, %q\nwant %s, %t, %q", tree.State, tree.Ready, tree.Headline, c.state, c.ready, c.headline)
			}
		})
	}
}

// v4 is a family whose last answer came two minutes ago.
func v4(contacts, good int) health.Family {
	return health.Family{Name: "IPv4", Contacts: contacts, Good: good, Answered: now.Add(-2 * time.Minute)}
}

func tailnet(s health.State) []health.Check {
	return []health.Check{{Name: "tailnet", After: []string{health.Address}, State: s, Sentence: "The key has expired."}}
}

// Every check comes after what it depends on, so that one pass finds the cause.
func TestParentsComeFirst(t *testing.T) {
	var seen []string
	for _, c := range health.Examine(well()).Checks {
		for _, p := range c.After {
			if !slices.Contains(seen, p) {
				t.Errorf("%s comes before %s", c.Name, p)
			}
		}
		seen = append(seen, c.Name)
	}
}

func TestSinceIsTheTimeOfTheChange(t *testing.T) {
	var tracker health.Tracker
	at := func(seconds int, broken bool) health.Tree {
		in := well()
		in.Now = now.Add(time.Duration(seconds) * time.Second)
		in.Probe.At = in.Now
		if broken {
			in.Store.Failure = "full"
		}
		return tracker.Date(health.Examine(in), in.Now)
	}
	for i, c := range []struct {
		at     int
		broken bool
		store  int
	}{{0, false, 0}, {5, false, 0}, {10, true, 10}, {9, false, 10}, {20, true, 10}, {30, false, 30}, {31, true, 31}} {
		tree := at(c.at, c.broken)
		if got := tree.Check(health.Store).Since; !got.Equal(now.Add(time.Duration(c.store) * time.Second)) {
			t.Errorf("%d: the store is so since %s", i, got)
		}
		if got := tree.Check(health.Link).Since; !got.Equal(now) {
			t.Errorf("%d: the link is so since %s", i, got)
		}
	}
}

func TestTextHasALineForEachCheck(t *testing.T) {
	in := well()
	in.Links[0].Up = false
	text := health.Examine(in).Text()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 9 || lines[0] != health.Examine(in).Headline {
		t.Errorf("%d lines:\n%s", len(lines), text)
	}
	for _, want := range []string{"failed    link           eth0 and eth1 are down", "waiting   kernel half    Waits for the link.", "good      store          "} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}
