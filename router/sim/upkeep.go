package sim

import (
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// How long a table is kept up in virtual time: until it has no memory of how it began, and then to be counted.
const (
	settleFor = time.Hour
	countFor  = 2 * time.Hour
	// upkeepTick is how often the router looks what is due.
	upkeepTick = 5 * time.Second
)

// upkeep is what it took to keep one table for the time that counts, in which nobody comes or goes, and nobody asks.
type upkeep struct {
	pings, refreshes int
	cost             traffic // of both
}

// keep keeps the table of a node by the rules of [router.Table], whose pings and refreshes it carries out.
func (w *world) keep(node int) (upkeep, error) {
	t := w.newTable(node, 15*time.Minute)
	var u upkeep
	w.cost = traffic{}
	for now := time.Duration(0); now < settleFor+countFor; now += upkeepTick {
		if now == settleFor {
			u, w.cost = upkeep{}, traffic{}
		}
		for _, c := range t.Questionable(epoch.Add(now)) {
			if _, err := w.send(node, c, krpc.Message{Method: krpc.MethodPing}); err != nil {
				return upkeep{}, err
			}
			t.Responded(c, w.roundTrip(node, nodeAt(c.Addr)), epoch.Add(now))
			u.pings++
		}
		for _, target := range t.RefreshTargets(epoch.Add(now)) {
			s := router.NewSearch(t, addr(node), target)
			q := krpc.Message{Method: krpc.MethodFindNode, Target: target, HasTarget: true}
			err := w.search(node, s, q, now, func(c router.Contact, _ *krpc.Message) bool {
				t.Responded(c, w.roundTrip(node, nodeAt(c.Addr)), epoch.Add(now))
				return false
			})
			if err != nil {
				return upkeep{}, err
			}
			u.refreshes++
		}
	}
	u.cost = w.cost
	return u, nil
}
