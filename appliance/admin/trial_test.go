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
