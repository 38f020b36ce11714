package admin

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"kdht/appliance/admin/change"
)

const (
	// wellEvery is how often a changed configuration is looked at while it is on trial, and wellTimes how often in a row it
	// must be well.
	wellEvery = time.Second
	wellTimes = 5
	// outageMax is for how long a trial waits for a cable, an address or all that is beyond the LAN, gone for reasons of its own.
	outageMax = time.Hour
)

// trial is the task that looks at a changed configuration. It runs whether or not the plane is on, since a change may have
// switched that off.
type trial struct {
	p     *plane
	ready chan struct{}
	begun atomic.Bool
	why   atomic.Pointer[string] // what a change on trial waits for
}

// newTrial makes the task. A change with which the program never comes as far as to run it is taken back as well.
func newTrial(p *plane) *trial {
	t := &trial{p: p, ready: make(chan struct{})}
	close(t.ready)
	if x := p.o.History.Trial(); x != nil {
		time.AfterFunc(x.Within, func() {
			if t.begun.Load() {
				return
			}
			if err := t.back(*x, "the program does not come to run with it"); err != nil {
				p.log.Error("a change of the configuration cannot be taken back", "err", err)
			}
		})
	}
	return t
}

func (t *trial) String() string         { return "trial of the configuration" }
func (t *trial) Ready() <-chan struct{} { return t.ready }

// Run keeps the change once it has proved well, or takes it back and has the program start anew.
func (t *trial) Run(ctx context.Context) error {
	h := t.p.o.History
	if said := h.Said(); said != "" && !t.begun.Load() { // nothing was served when it happened
		t.p.gate.note(Identity{Name: "the program"}, "change the configuration", said)
	}
	t.begun.Store(true)
	if x := h.Trial(); x != nil {
		if err := t.watch(ctx, *x); err != nil {
			return err
		}
	}
	<-ctx.Done()
	if t.p.h.Asked() {
		if err := h.Wanted(); err != nil {
			t.p.log.Warn("that this start was ended by somebody's wish cannot be noted: it counts for the change of the configuration on trial", "err", err)
		}
	}
	return nil
}

// watch judges the change. Its time begins anew when an outage is over that is not of its making, since that shows nothing of it, for better or
// worse, and the node finds back into its network only then: a cable or an address that is gone, or whoever is elsewhere being silent, the control
// server too, which answered before the change. A change that makes the DHT or the tailnet silent does not make him silent who answers a plain
// connection; one that may have, since it is about interfaces or XDP, does not wait. Nor does one where he answers: then it is taken for the culprit even if
// it is the network that lets him through alone. That costs the owner another try, and the configuration of before is always safe.
func (t *trial) watch(ctx context.Context, x change.Trial) error {
	tick := time.NewTicker(wellEvery)
	defer tick.Stop()
	began := time.Now()
	deadline, most := began.Add(x.Within), began.Add(outageMax)
	out := outside{addr: x.Before.Outside}
	for well := 0; ; {
		var now time.Time
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now = time.Now() // a tick may be old
		}
		c, r, came := t.p.h.Config, t.p.h.Report(), Role(t.p.gate.came.Load()) //nolint:gosec // it was one
		why := outage(r, x.Before)
		waits := why != ""
		if !waits {
			why = unwell(c, r, x.Before, came)
			if waits = why != "" && distant(c, r, x.Before, came) && out.gone(ctx); waits {
				why += "; but " + out.addr + " is silent as well, which the change has nothing to do with"
			}
		}
		if waits && now.Before(most) {
			deadline = now.Add(x.Within)
		}
		t.why.Store(&why)
		switch {
		case why == "":
			if well++; well < wellTimes {
				continue
			}
			if err := t.p.o.History.Keep(); err != nil {
				return err
			}
			t.p.gate.note(Identity{Name: x.By}, t.what(x), "kept")
			return nil
		case now.Before(deadline):
			well = 0
		default:
			return t.back(x, why)
		}
	}
}

// back takes a change back and has the program start anew.
func (t *trial) back(x change.Trial, reason string) error {
	said, err := t.p.o.History.Back(reason)
	if err != nil || said == "" {
		return err
	}
	t.p.log.Error("the program starts anew with the configuration of before", "why", said)
	t.p.gate.note(Identity{Name: x.By}, t.what(x), "taken back: "+reason)
	t.p.h.Restart(nil)
	return nil
}

func (t *trial) what(x change.Trial) string {
	return fmt.Sprintf("change the configuration: version %d", x.Version)
}

// says describes a change on trial, or that the last one was taken back; "" if there is nothing to be said.
func (t *trial) says() string {
	h := t.p.o.History
	if x := h.Trial(); x != nil {
		s := fmt.Sprintf("version %d is on trial", x.Version)
		if why := t.why.Load(); why != nil && *why != "" {
			s += ", and waits: " + *why
		}
		return s
	}
	if all := h.Versions(); len(all) > 0 && all[0].TakenBack() {
		return fmt.Sprintf("version %d was %s", all[0].ID, all[0].Outcome)
	}
	return ""
}
