package router

import (
	"context"
	"errors"

	"kdht/router/krpc"
)

// errNoAddress says why a node does not announce itself to itself.
var errNoAddress = errors.New("router: external address not known")

// storeSpread is how many of the closest nodes are considered for storing.
const storeSpread = 3 * bucketSize

// storers returns the nodes to store at in one family, of the closest that gave a token: the k closest, because that is
// where others look, and as many more as it takes to have k whose IDs follow BEP 42, because the others may have
// chosen theirs for the sake of this very target.
func (l *lookup) storers(list *shortlist) (found []*candidate) {
	secure, seen := 0, 0
	for _, c := range list.closest(len(list.all)) {
		if c.token == nil {
			continue
		}
		if seen++; seen > storeSpread || secure == bucketSize {
			break
		}
		safe := list.table.secure(c.Contact)
		if safe {
			secure++
		}
		if safe || seen <= bucketSize {
			found = append(found, c)
		}
	}
	return found
}

// amongClosest reports whether this node would itself be one of the k closest to the target.
func (l *lookup) amongClosest(list *shortlist) bool {
	found := list.closest(bucketSize)
	return len(found) < bucketSize || Closer(l.target, l.n.ID(list.family), found[bucketSize-1].ID)
}

// writeOutcome is what became of one write.
type writeOutcome struct {
	to  Contact
	r   *reply
	err error
}

// write stores something at the nodes closest to the target of a finished lookup: m is sent to each of them with the
// token it gave, and local is called if this node is among them or stores it anyway.
func (l *lookup) write(ctx context.Context, m krpc.Message, local func(Family) error) (*StoreResult, error) {
	res := &StoreResult{Target: l.target}
	outcomes := make(chan writeOutcome)
	pending := 0
	var localErr error
	for f, list := range l.lists {
		if list == nil {
			continue
		}
		for _, c := range l.storers(list) {
			m := m
			m.Token = c.token
			if m.ImpliedPort { // for nodes that do not know implied_port
				m.Port = l.n.primary[f].conn.LocalAddr().Port()
			}
			pending++
			if !l.n.spawn(func() {
				r, err := l.n.query(ctx, c.Contact, m, nil)
				outcomes <- writeOutcome{c.Contact, r, err}
			}) {
				pending--
			}
		}
		if l.n.store == nil || l.n.config.ReadOnly || !l.here && !l.amongClosest(list) {
			continue
		}
		switch err := local(Family(f)); {
		case err == nil:
			res.Local = true
		case !errors.Is(err, errNoAddress):
			localErr = krpcError(err)
		}
	}
	for ; pending > 0; pending-- {
		l.progress.InFlight = pending
		res.add(<-outcomes)
		l.progress.Stored, l.progress.Refused = len(res.Stored), len(res.Refused)
		if l.options.progress != nil {
			l.progress.InFlight = pending - 1
			l.options.progress(l.progress)
		}
	}
	res.Stats = l.stats()
	if err := ctx.Err(); err != nil && len(res.Stored) == 0 {
		return res, err
	}
	return res, res.err(localErr)
}

func (s *StoreResult) add(o writeOutcome) {
	switch {
	case o.err != nil:
		s.Silent++
	case o.r.Type == krpc.TypeError:
		s.Refused = append(s.Refused, Refusal{Node: o.to, Code: o.r.Err.Code, Text: o.r.Err.Text})
	default:
		s.Stored = append(s.Stored, o.to)
	}
}

// err returns nil if it was stored, and was not refused by as many for a conflict; else why not: the refusal with the
// most frequent code.
func (s *StoreResult) err(local error) error {
	conflicts, stored := 0, len(s.Stored)
	for _, r := range s.Refused {
		if r.Code == krpc.ErrCodeCAS || r.Code == krpc.ErrCodeSeq {
			conflicts++
		}
	}
	if s.Local {
		stored++
	}
	if stored > conflicts {
		return nil
	}
	if len(s.Refused) == 0 {
		if local != nil {
			return local
		}
		return ErrNoNodes
	}
	votes := make(map[int]int)
	var most Refusal
	for _, r := range s.Refused {
		votes[r.Code]++
		if votes[r.Code] > votes[most.Code] {
			most = r
		}
	}
	return &krpc.Error{Code: most.Code, Text: most.Text}
}
