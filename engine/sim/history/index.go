package history

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// change is one state of a node that is known to have begun with a transaction.
type change struct {
	zxid    int64
	there   bool
	value   string
	version int32
	// by is the write, or the read that showed it; exact tells that value and version are known.
	by    *Op
	exact bool
}

// index is a history in the orders that the rules need.
type index struct {
	h *History
	// data are the known states of each path, by zxid; children are the zxids at which nodes are known to have appeared
	// or gone below each path.
	data     map[string][]change
	children map[string][]change
	// unknown are the writes without an answer, by path.
	unknown map[string][]*Op
	// writers are how many operations write a value to a path, readers the first that has read it.
	writers map[written]int
	readers map[written]*Op
	// overtaken are writes without an answer that were sent before one, on the same connection, that somebody's read shows to
	// have happened; it is that read.
	overtaken map[*Op]*Op
	// seen is what each session saw, in its order: answered operations where they were answered, and events.
	seen map[int64][]any
}

// written is a value at a path.
type written struct{ path, value string }

func newIndex(h *History) *index {
	x := &index{h: h, data: map[string][]change{}, children: map[string][]change{}, unknown: map[string][]*Op{}, writers: map[written]int{}, readers: map[written]*Op{}, seen: map[int64][]any{}}
	for _, o := range h.Ops {
		if o.Kind != Acquire && o.Known() {
			x.seen[o.Session] = append(x.seen[o.Session], o)
		}
		x.note(o)
	}
	for _, e := range h.Events {
		x.seen[e.Session] = append(x.seen[e.Session], e)
	}
	x.overtaken = overtaken(x)
	for _, items := range x.seen {
		slices.SortFunc(items, func(a, b any) int { return cmp.Compare(seenAt(a), seenAt(b)) })
	}
	for _, states := range []map[string][]change{x.data, x.children} {
		for path, list := range states {
			slices.SortStableFunc(list, func(a, b change) int {
				if c := cmp.Compare(a.zxid, b.zxid); c != 0 {
					return c
				}
				return cmp.Compare(btoi(a.exact), btoi(b.exact))
			})
			states[path] = list
		}
	}
	return x
}

// sessions are those that saw anything, in a fixed order.
func (x *index) sessions() []int64 { return slices.Sorted(maps.Keys(x.seen)) }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func seenAt(item any) int {
	if o, ok := item.(*Op); ok {
		return o.returned
	}
	return item.(*Event).seq
}

// note keeps what an operation says of nodes.
func (x *index) note(o *Op) {
	for _, p := range o.parts() {
		if p.Check {
			continue
		}
		if p.Kind != Delete {
			x.writers[written{p.Path, p.Value}]++
		}
		if !o.Known() {
			x.unknown[p.Path] = append(x.unknown[p.Path], o)
			continue
		}
		if o.Result.Code != OK || o.Result.Zxid <= 0 {
			continue
		}
		c := change{zxid: o.Result.Zxid, there: p.Kind != Delete, value: p.Value, by: o, exact: p.Kind == Create && o.Kind != Multi}
		if p.Kind == Set && o.Kind == Set {
			c.version, c.exact = o.Result.Version, true
		}
		x.data[p.Path] = append(x.data[p.Path], c)
		if p.Kind != Set {
			x.children[parent(p.Path)] = append(x.children[parent(p.Path)], c)
		}
	}
	r := &o.Result
	if at := (written{o.Path, r.Value}); o.done() && (o.Kind == Read || o.Kind == SyncRead) {
		if first := x.readers[at]; first == nil || o.returned < first.returned {
			x.readers[at] = o
		}
	}
	if o.done() && (o.Kind == Read || o.Kind == SyncRead) && r.Mzxid > 0 {
		x.data[o.Path] = append(x.data[o.Path], change{zxid: r.Mzxid, there: true, value: r.Value, version: r.Version, by: o})
	}
}

// parts is what a write does, as the parts of a multi.
func (o *Op) parts() []Part {
	switch o.Kind {
	case Create, Set, Delete:
		return []Part{{Kind: o.Kind, Path: o.Path, Value: o.Value, Version: o.Version}}
	case Release:
		return []Part{{Kind: Delete, Path: o.Path, Version: o.Version}}
	case CreateSequential:
		if o.done() {
			return []Part{{Kind: Create, Path: o.Result.Name, Value: o.Value}}
		}
	case Multi:
		return o.Parts
	}
	return nil
}

// latest is the newest state of the path that is known to have begun with zxid or before; false when there is none.
func latest(list []change, zxid int64) (change, bool) {
	n, _ := slices.BinarySearchFunc(list, zxid, func(c change, z int64) int {
		if c.zxid <= z {
			return -1
		}
		return 1
	})
	if n == 0 {
		return change{}, false
	}
	return list[n-1], true
}

func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/"
	}
	return path[:i]
}
