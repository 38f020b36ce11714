package admin

import (
	"net/netip"
	"testing"

	"kdht/appliance/admin/change"
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
		if got := unwell(c, x.r, x.was); got != x.want {
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
		if got := unwell(next, x.now, change.Before{Unserved: texts(lost), Missing: missing(lost, x.old)}); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	// A family that is new in the configuration has to be served.
	if got := unwell(next, listening(addr("0.0.0.0:7000")), change.Before{}); got != "[::]:7000 is not served" {
		t.Errorf("a new family: %q", got)
	}
}
