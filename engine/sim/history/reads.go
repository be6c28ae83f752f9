package history

// checkReads judges what each session read: nothing older than what it had seen before, over all its connections, its own
// writes included, and no value that nobody wrote.
func checkReads(x *index) []Violation {
	var violations []Violation
	for _, session := range x.sessions() {
		var seen int64 // the newest zxid that a reply of the session has shown
		var from *Op
		for _, item := range x.seen[session] {
			o, ok := item.(*Op)
			if !ok {
				continue
			}
			r := &o.Result
			if r.Zxid > 0 && r.Zxid < seen && (r.Code == OK || o.numbered()) && !o.stamped() {
				violations = append(violations, violation("reads", []any{from, o}, "a session that had seen zxid %d was answered as of zxid %d:", seen, r.Zxid))
			}
			if r.Zxid > seen {
				seen, from = r.Zxid, o
			}
			switch o.Kind {
			case Read, SyncRead, Exists:
				violations = append(violations, x.stale(o, from, seen)...)
			}
			if o.Kind == Read || o.Kind == SyncRead {
				violations = append(violations, x.written(o)...)
			}
		}
	}
	return violations
}

// stamped tells whether the answer's zxid says nothing of the tree: that of a composite operation.
func (o *Op) stamped() bool { return o.Kind == Acquire || o.Kind == Other }

// stale judges one read by what is known of the path as of zxid seen, which the session saw no later than with this
// answer.
func (x *index) stale(o, from *Op, seen int64) []Violation {
	known, ok := latest(x.data[o.Path], seen)
	r := &o.Result
	switch {
	case !ok || r.Code != OK && r.Code != NoNode:
	case r.Code == OK && r.Mzxid > 0 && r.Mzxid < known.zxid:
		return []Violation{violation("reads", []any{known.by, from, o}, "a session that had seen zxid %d read %s as of zxid %d, and not as of zxid %d:",
			seen, o.Path, r.Mzxid, known.zxid)}
	case r.Code == NoNode && known.there && !x.mayBeGone(o, known):
		return []Violation{violation("reads", []any{known.by, from, o}, "a session that had seen zxid %d did not find %s, which was there as of zxid %d:",
			seen, o.Path, known.zxid)}
	}
	return nil
}

// mayBeGone tells whether somebody may have deleted the node between the state and the answer.
func (x *index) mayBeGone(o *Op, known change) bool {
	if known.by.Ephemeral {
		return true
	}
	for _, c := range x.data[o.Path] {
		if !c.there && c.zxid > known.zxid && (o.Result.Zxid == 0 || c.zxid <= o.Result.Zxid) {
			return true
		}
	}
	for _, w := range x.unknown[o.Path] {
		for _, p := range w.parts() {
			if p.Path == o.Path && p.Kind == Delete && !p.Check && w.invoked < o.returned {
				return true
			}
		}
	}
	return false
}

// written judges the value and the version that a read has shown.
func (x *index) written(o *Op) []Violation {
	r := &o.Result
	if r.Code != OK {
		return nil
	}
	if r.Mzxid > 0 {
		for _, c := range x.data[o.Path] {
			if c.zxid != r.Mzxid || c.by == o || c.by.Kind == Read || c.by.Kind == SyncRead {
				continue
			}
			if c.there && c.value == r.Value && (!c.exact || c.version == r.Version) {
				return nil
			}
			if c.exact || !c.there {
				return []Violation{violation("reads", []any{c.by, o}, "a read shows %s as of zxid %d with another value or version than that transaction gave it:",
					o.Path, r.Mzxid)}
			}
		}
	}
	for _, w := range x.h.Ops {
		if w.invoked > o.returned {
			break
		}
		for _, p := range w.parts() {
			if p.Path == o.Path && !p.Check && p.Kind != Delete && p.Value == r.Value && (!w.Known() || w.Result.Code == OK) {
				return nil
			}
		}
	}
	return []Violation{violation("reads", []any{o}, "a read shows a value that nobody wrote:")}
}
