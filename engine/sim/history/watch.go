package history

import "slices"

// armed is a watch that a client believes to be there.
type armed struct {
	op *Op
	// zxid of the tree as of which it was set: what came later must be told of.
	zxid  int64
	child bool
	path  string
	// absent: it waits for a node that was not there. again: it was asked for again on another connection.
	absent, again bool
}

// checkWatches judges the events of each session: they come before any answer that could show what they tell of, once
// for each watch, and they do come. A client that does not ask for its watches again on a new connection has none there.
func checkWatches(x *index) []Violation {
	var violations []Violation
	for _, session := range x.sessions() {
		w := &watching{x: x}
		for _, item := range x.seen[session] {
			switch i := item.(type) {
			case *Op:
				violations = append(violations, w.answer(i)...)
			case *Event:
				violations = append(violations, w.event(i)...)
			}
		}
	}
	return violations
}

// watching is one session, followed through what it saw.
type watching struct {
	x *index
	// live are in force on the connection that there is; asleep are those of the last connection, until they are asked
	// for again or something else is answered.
	live, asleep []armed
	seen         int64
}

// answer judges what had to be told before this answer, and takes note of the watch that it leaves.
func (w *watching) answer(o *Op) []Violation {
	r := &o.Result
	var violations []Violation
	for _, a := range w.live {
		if c, ok := w.due(a, r.Zxid); ok {
			violations = append(violations, violation("watch", []any{a.op, c.by, o}, "a watch on %s set as of zxid %d was not told of zxid %d before an answer as of zxid %d:",
				a.path, a.zxid, c.zxid, r.Zxid))
			w.drop(a.path, a.child)
		}
	}
	w.seen = max(w.seen, r.Zxid)
	stays := r.Code == OK || o.Kind == Exists && r.Code == NoNode
	if o.Watch != NoWatch && stays && r.Zxid > 0 {
		child := o.Watch == ChildWatch
		w.drop(o.Path, child)
		w.live = append(w.live, armed{op: o, zxid: r.Zxid, child: child, path: o.Path, absent: r.Code == NoNode})
	}
	return violations
}

// due is a known change that a watch must have told of by the time the session sees zxid shown.
func (w *watching) due(a armed, shown int64) (change, bool) {
	list := w.x.data[a.path]
	if a.child {
		list = w.x.children[a.path]
	}
	c, ok := latest(list, shown)
	if a.absent && a.again && ok && (!c.there || w.x.mayHaveBeenDeleted(a.path)) {
		// A node that came and went while the client was away is told to nobody: setWatches knows no zxid of it.
		return c, false
	}
	return c, ok && c.zxid > a.zxid
}

// event follows connections, and judges a notification: there must be a watch for it, set before what it tells of.
func (w *watching) event(e *Event) []Violation {
	switch e.Kind {
	case Disconnected:
		w.asleep, w.live = append(w.asleep, w.live...), nil
	case Connected:
		if len(w.live) > 0 {
			w.asleep, w.live = append(w.asleep, w.live...), nil
		}
	case Rearmed:
		for i := range w.asleep {
			w.asleep[i].again = true
		}
		w.live, w.asleep = w.asleep, nil
	case Expired, Closed:
		w.live, w.asleep = nil, nil
	case Fired:
		return w.fired(e)
	}
	return nil
}

func (w *watching) fired(e *Event) []Violation {
	var told []armed
	w.live = slices.DeleteFunc(w.live, func(a armed) bool {
		hit := a.path == e.Path && a.tells(e.Type)
		if hit {
			told = append(told, a)
		}
		return hit
	})
	if len(told) == 0 {
		return []Violation{violation("watch", []any{e}, "an event without a watch:")}
	}
	for _, a := range told {
		if e.Zxid > 0 && e.Zxid <= a.zxid {
			return []Violation{violation("watch", []any{a.op, e}, "an event tells of zxid %d, which the watch was set behind:", e.Zxid)}
		}
	}
	return nil
}

// tells tells whether a watch can give such an event.
func (a armed) tells(t EventType) bool {
	if a.child {
		return t == NodeChildrenChanged || t == NodeDeleted
	}
	return t == NodeCreated || t == NodeDeleted || t == NodeDataChanged
}

func (w *watching) drop(path string, child bool) {
	w.live = slices.DeleteFunc(w.live, func(a armed) bool { return a.path == path && a.child == child })
}
