package history

import "slices"

// hold is one time for which a client held a lock.
type hold struct {
	acquire *Op
	release *Op // nil when nobody tried
}

// released is the transaction with which the hold is known to have ended by its client's word; 0 when it is not known.
func (l *hold) released() int64 {
	if l.release != nil && l.release.done() {
		return l.release.Result.Zxid
	}
	return 0
}

// checkLocks judges the holders of each lock: their nodes (the fencing tokens) rise, and nobody holds it before the one
// before has let go or its session is gone.
func checkLocks(x *index) []Violation {
	locks := map[string][]hold{}
	release := map[string]*Op{}
	for _, o := range x.h.Ops {
		if o.Kind == Release {
			release[o.Path] = o
		}
	}
	var order []string
	for _, o := range x.h.Ops {
		if o.Kind == Acquire && o.done() {
			if locks[o.Path] == nil {
				order = append(order, o.Path)
			}
			locks[o.Path] = append(locks[o.Path], hold{o, release[o.Result.Name]})
		}
	}
	var violations []Violation
	for _, path := range order {
		holds := locks[path]
		slices.SortStableFunc(holds, func(a, b hold) int { return int(a.acquire.Result.Zxid - b.acquire.Result.Zxid) })
		for i := 1; i < len(holds); i++ {
			violations = append(violations, x.exclusive(&holds[i-1], &holds[i])...)
		}
	}
	return violations
}

// exclusive judges two holds, one behind the other by the zxids at which they were seen.
func (x *index) exclusive(a, b *hold) []Violation {
	items := []any{a.acquire, b.acquire}
	if a.release != nil {
		items = append(items, a.release)
	}
	if a.acquire.Result.Czxid >= b.acquire.Result.Czxid {
		return []Violation{violation("lock", items, "the lock went to a node that is not newer than the last holder's:")}
	}
	held := b.acquire.Result.Zxid
	if z := a.released(); z != 0 {
		if z > held {
			return []Violation{violation("lock", items, "held by two: the first let go with zxid %d, the second held it as of zxid %d:", z, held)}
		}
		return nil
	}
	if a.release != nil && a.release.invoked < b.acquire.returned {
		return nil // it may have come to pass
	}
	if a.release != nil && a.release.Known() && a.release.Result.Code == NoNode {
		return nil // the session ended, or an earlier try came to pass
	}
	// Its session must be gone: what it was answered as of a later transaction proves that it was not.
	for _, item := range x.seen[a.acquire.Session] {
		if o, ok := item.(*Op); ok && o.done() && o.Result.Zxid > held {
			return []Violation{violation("lock", append(items, o), "held by two: the first had not let go, and its session lived on after zxid %d:", held)}
		}
	}
	return nil
}
