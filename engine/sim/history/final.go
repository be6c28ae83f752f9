package history

import (
	"maps"
	"slices"
)

// Node is what one box holds at a path when everything is over.
type Node struct {
	Value   string
	Version int32
	Czxid   int64
	Mzxid   int64
}

// Final judges the tree of one box, by path, after all clients have ended and the box has caught up: every acknowledged
// write is there, or what came after it.
func Final(h *History, tree map[string]Node) []Violation {
	x := newIndex(h)
	var violations []Violation
	for _, path := range slices.Sorted(maps.Keys(x.data)) {
		last, ok := latestWrite(x.data[path])
		if !ok || last.by.Ephemeral {
			continue
		}
		n, there := tree[path]
		switch {
		case last.there && !there && !x.mayHaveBeenDeleted(path):
			violations = append(violations, violation("final", []any{last.by}, "%s is not there; the last acknowledged write, with zxid %d, is:", path, last.zxid))
		case !last.there && there && n.Czxid <= last.zxid:
			violations = append(violations, violation("final", []any{last.by}, "%s, created with zxid %d, is there after its delete with zxid %d:", path, n.Czxid, last.zxid))
		case last.there && there && n.Mzxid < last.zxid:
			violations = append(violations, violation("final", []any{last.by}, "%s is as of zxid %d; the last acknowledged write, with zxid %d, is:", path, n.Mzxid, last.zxid))
		case last.there && there && n.Mzxid == last.zxid && last.by.Kind != Multi && n.Value != last.value:
			violations = append(violations, violation("final", []any{last.by}, "%s is %q, the write with zxid %d was another:", path, n.Value, last.zxid))
		case there && n.Mzxid > last.zxid && !x.mayHaveWritten(path, n.Value):
			violations = append(violations, violation("final", []any{last.by}, "%s is %q as of zxid %d, which nobody wrote; the last acknowledged write is:", path, n.Value, n.Mzxid))
		}
	}
	return violations
}

// latestWrite is the newest state that a write with an answer gave.
func latestWrite(list []change) (change, bool) {
	for _, c := range slices.Backward(list) {
		if c.by.Kind.writes() {
			return c, true
		}
	}
	return change{}, false
}

func (x *index) mayHaveBeenDeleted(path string) bool {
	for _, w := range x.unknown[path] {
		for _, p := range w.parts() {
			if p.Path == path && p.Kind == Delete && !p.Check {
				return true
			}
		}
	}
	return false
}

func (x *index) mayHaveWritten(path, value string) bool {
	for _, w := range x.unknown[path] {
		for _, p := range w.parts() {
			if p.Path == path && p.Kind != Delete && !p.Check && p.Value == value {
				return true
			}
		}
	}
	return false
}
