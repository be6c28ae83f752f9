package keeper

import (
	"slices"
	"time"

	"cairn/engine/ensemble/znode"
)

// leases are the registrations of the boxes. There are few boxes: they are a list, sorted by box.
type leases struct{ list []lease }

type lease struct {
	box         uint64
	incarnation uint64
	session     int64
	until       time.Duration
	self        bool // never over
	over        bool // proposed: only a new registration helps
}

func (l *leases) find(box uint64) (int, bool) {
	return slices.BinarySearchFunc(l.list, box, func(a lease, box uint64) int {
		switch {
		case a.box < box:
			return -1
		case a.box > box:
			return 1
		}
		return 0
	})
}

func (l *leases) open(s znode.SessionInfo, until time.Duration, self uint64) {
	i, found := l.find(s.Box)
	if !found {
		l.list = slices.Insert(l.list, i, lease{})
	}
	l.list[i] = lease{
		box: s.Box, incarnation: s.Incarnation, session: s.ID, until: until, self: s.Box == self && self != 0,
	}
}

func (l *leases) close(session int64) {
	l.list = slices.DeleteFunc(l.list, func(a lease) bool { return a.session == session })
}

func (l *leases) heard(box uint64, until time.Duration) {
	if i, found := l.find(box); found && !l.list[i].over {
		l.list[i].until = until
	}
}

// expired appends an entry for every lease that is over, until there are most; again after another lease's time as long
// as it is not closed.
func (l *leases) expired(propose []*znode.Entry, most int, now, again time.Duration) []*znode.Entry {
	for i := range l.list {
		a := &l.list[i]
		if a.self || a.until > now || len(propose) == most {
			continue
		}
		a.over, a.until = true, now+again
		propose = append(propose, &znode.Entry{
			Kind: znode.KindExpireBox, Flags: znode.FlagInternal, Box: a.box, Incarnation: a.incarnation,
		})
	}
	return propose
}

func (l *leases) wake() time.Duration {
	var first time.Duration
	for _, a := range l.list {
		if !a.self && (first == 0 || a.until < first) {
			first = a.until
		}
	}
	return first
}
