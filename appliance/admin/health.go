package admin

import (
	"fmt"
	"strings"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/status"
)

// check is the part of the tailnet in the health of the node. The DHT does not depend on it.
func check(t *status.Tailnet, now time.Time) health.Check {
	c := health.Check{Name: "tailnet", After: []string{health.Address}, State: health.Good}
	reason := ""
	if t.Error != "" {
		reason = ": " + strings.TrimSuffix(t.Error, ".")
	}
	switch {
	case t.State == "connected" && t.Expiry != nil && t.Expiry.Sub(now) < soon:
		c.State, c.Sentence = health.Degraded, fmt.Sprintf("The key of the admin plane expires on %s: extend it at the control server, or log in anew then.", t.Expiry.UTC().Format(time.DateOnly))
	case t.State == "connected":
		c.Sentence = "The admin plane is in the tailnet" + named(t.Name) + "."
	case t.LoginURL != "":
		c.State, c.Sentence = health.Failed, "Somebody has to log in to the tailnet at "+t.LoginURL+" ."
	case t.LoginHidden:
		c.State, c.Sentence = health.Failed, "The owner of the box has to log in to the tailnet: the log has the URL."
	case t.State == "needs approval":
		c.State, c.Sentence = health.Failed, "The administrator of the tailnet has to approve of this box."
	case t.State == "starting" && now.Sub(t.Since) < joinTime:
		c.State, c.Sentence = health.Waiting, "The admin plane is joining the tailnet."
	default:
		c.State, c.Sentence = health.Failed, "The admin plane is not in the tailnet"+reason+"."
	}
	return c
}

// joinTime is how long joining may take before it is a failure.
const joinTime = time.Minute

func named(name string) string {
	if name == "" {
		return ""
	}
	return " as " + strings.TrimSuffix(name, ".")
}
