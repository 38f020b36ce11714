package limit

import "time"

// Budget is what all unproven sources together have used up: the time at which nothing of it will be left.
type Budget uint64

// Spend takes out a cost in ns, if there is as much. There is never more than a second's worth.
func (b *Budget) Spend(cost uint64, t Time) bool {
	until := max(uint64(*b), uint64(t)) + cost
	if until > uint64(t)+uint64(time.Second) {
		return false
	}
	*b = Budget(until)
	return true
}

// Grow takes out growth by so many bytes.
func (b *Budget) Grow(p Params, by int, t Time) bool {
	return p.GrowthCost == 0 || by <= 0 || b.Spend(uint64(by)*p.GrowthCost>>10, t)
}
