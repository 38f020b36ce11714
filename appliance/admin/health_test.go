package admin

import (
	"strings"
	"testing"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/status"
)

// Every state of the plane is one of its health, with what helps.
func TestHealthOfThePlane(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { x := now.Add(d); return &x }
	for name, c := range map[string]struct {
		t     status.Tailnet
		state health.State
		want  string
	}{
		"connected":         {status.Tailnet{State: "connected", Name: "attic.example.ts.net."}, health.Good, "in the tailnet as attic.example.ts.net."},
		"key lasts":         {status.Tailnet{State: "connected", Expiry: at(90 * 24 * time.Hour)}, health.Good, "in the tailnet."},
		"key expires":       {status.Tailnet{State: "connected", Expiry: at(time.Hour)}, health.Degraded, "expires on 2026-11-27"},
		"starting":          {status.Tailnet{State: "starting", Since: now.Add(-time.Second)}, health.Waiting, "is joining"},
		"starting for long": {status.Tailnet{State: "starting", Since: now.Add(-time.Hour), Error: "no control server."}, health.Failed, "not in the tailnet: no control server."},
		"login":             {status.Tailnet{State: "needs login", LoginURL: "https://login.example.org/a"}, health.Failed, "log in to the tailnet at https://login.example.org/a ."},
		"hidden login":      {status.Tailnet{State: "needs login", LoginHidden: true}, health.Failed, "owner of the box has to log in"},
		"login without URL": {status.Tailnet{State: "needs login", Error: "the key was used"}, health.Failed, "not in the tailnet: the key was used."},
		"approval":          {status.Tailnet{State: "needs approval"}, health.Failed, "approve"},
		"refused":           {status.Tailnet{State: "refused", Error: "The policy has no tag."}, health.Failed, "not in the tailnet: The policy has no tag."},
	} {
		got := check(&c.t, now)
		if got.State != c.state || !strings.Contains(got.Sentence, c.want) || got.Name != "tailnet" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
