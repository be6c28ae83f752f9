package history

import "slices"

// hold is one time for which a client held a lock.
type hold struct {
	acquire  *Op
	releases []*Op // every try
}

// released is the transaction with which the hold is known to have ended by its client's word; 0 when it is not known.
func (l *hold) released() int64 {
	for _, o := range l.releases {
		if o.done() {
			return o.Result.Zxid
		}
	}
	return 0
}

// mayBeOver tells whether a try without an answer may have come to pass before o was answered, or whether a later one
// found that there was nothing left to release.
func (l *hold) mayBeOver(o *Op) bool {
	return slices.ContainsFunc(l.releases, func(try *Op) bool {
		return !try.Known() && try.invoked < o.returned || try.Known() && try.Result.Code == NoNode
	})
}

// checkLocks judges the holders of each lock: their nodes (the fencing tokens) rise, and nobody holds it before the one
// before has let go or its session is gone.
func checkLocks(x *index) []Violation {
	locks := map[string][]hold{}
	releases := map[string][]*Op{}
	for _, o := range x.h.Ops {
		if o.Kind == Release {
			releases[o.Path] = append(releases[o.Path], o)
		}
	}
	var order []string
	for _, o := range x.h.Ops {
		if o.Kind == Acquire && o.done() {
			if locks[o.Path] == nil {
				order = append(order, o.Path)
			}
			locks[o.Path] = append(locks[o.Path], hold{o, releases[o.Result.Name]})
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
	for _, o := range a.releases {
		items = append(items, o)
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
	if a.mayBeOver(b.acquire) {
		return nil
	}
	// Its session must be gone: what it was answered as of a later transaction proves that it was not.
	for _, item := range x.seen[a.acquire.Session] {
		if o, ok := item.(*Op); ok && o.done() && o.Result.Zxid > held {
			return []Violation{violation("lock", append(items, o), "held by two: the first had not let go, and its session lived on after zxid %d:", held)}
		}
	}
	return nil
}
