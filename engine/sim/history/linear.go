package history

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// node is the state of one register in the model. mzxid is 0 where no answer has told it yet.
type node struct {
	there   bool
	version int32
	value   string
	mzxid   int64
}

// call is an operation as the model sees it: its parts by the number of their register, and the answer, nil when there
// was none.
type call struct {
	op     *Op
	parts  []modelPart
	result *Result
}

type modelPart struct {
	Part
	register int
	read     bool
}

// checkLinearizable searches for an order of the writes and the reads behind a sync that explains every answer. Registers
// that a multi joins are judged together, others each by itself.
func checkLinearizable(h *History, patience time.Duration) []Violation {
	var violations []Violation
	for _, g := range groups(h) {
		model := porcupine.Model{
			Init:  func() any { return make([]node, len(g.paths)) },
			Step:  step,
			Equal: func(a, b any) bool { return slices.Equal(a.([]node), b.([]node)) },
		}
		switch verdict, info := porcupine.CheckOperationsVerbose(model, g.operations, patience); verdict {
		case porcupine.Illegal:
			violations = append(violations, g.explain(info))
		case porcupine.Unknown:
			violations = append(violations, violation("linearizability", nil,
				"%s with %d operations is not decided after %v", strings.Join(g.paths, ", "), len(g.operations), patience))
		}
	}
	return violations
}

// group is a set of registers that are judged together.
type group struct {
	paths      []string
	operations []porcupine.Operation
}

// groups splits the history.
func groups(h *History) []*group {
	root := map[string]string{} // a forest: each path's parent in it
	var find func(string) string
	find = func(p string) string {
		if up, ok := root[p]; ok && up != p {
			root[p] = find(up)
			return root[p]
		}
		root[p] = p
		return p
	}
	for _, o := range h.Ops {
		for _, p := range o.registers() {
			root[find(p.Path)] = find(o.registers()[0].Path)
		}
	}
	byRoot := map[string]*group{}
	number := map[string]int{}
	var all []*group
	for _, o := range h.Ops {
		parts := o.registers()
		if len(parts) == 0 || !o.counts() {
			continue
		}
		g := byRoot[find(parts[0].Path)]
		if g == nil {
			g = &group{}
			byRoot[find(parts[0].Path)] = g
			all = append(all, g)
		}
		c := call{op: o}
		for _, p := range parts {
			if _, ok := number[p.Path]; !ok {
				number[p.Path] = len(g.paths)
				g.paths = append(g.paths, p.Path)
			}
			c.parts = append(c.parts, modelPart{p, number[p.Path], o.Kind == SyncRead})
		}
		end := int64(math.MaxInt64)
		if o.Known() {
			c.result, end = &o.Result, int64(o.returned)
		}
		g.operations = append(g.operations, porcupine.Operation{ClientId: o.Client, Input: c, Output: c, Call: int64(o.invoked), Return: end})
	}
	return all
}

// registers are the parts that the model looks into. Ephemeral nodes end with their sessions, at times that nobody is
// told: they are no registers.
func (o *Op) registers() []Part {
	switch o.Kind {
	case Create, Set, Delete, Multi:
		if o.Ephemeral {
			return nil
		}
		return o.parts()
	case SyncRead:
		return []Part{{Path: o.Path}}
	}
	return nil
}

// counts leaves out what says nothing: a read without an answer, a write that was refused for a reason beyond the model.
func (o *Op) counts() bool {
	if !o.Known() {
		return o.Kind != SyncRead
	}
	switch o.Result.Code {
	case OK, NoNode, BadVersion, NodeExists:
		return true
	}
	return false
}

// step is the model: whether the answer can be had in the state, and the state behind.
func step(state, input, _ any) (bool, any) {
	nodes, c := state.([]node), input.(call)
	if len(c.parts) == 1 && c.parts[0].read {
		return readStep(nodes, c)
	}
	next, code := apply(nodes, c)
	switch {
	case c.result == nil:
		return true, next
	case code != c.result.Code:
		return false, nil
	case code == OK && c.op.Kind == Set && next[c.parts[0].register].version != c.result.Version:
		return false, nil
	}
	return true, next
}

// readStep compares an answer with the state, and learns the mzxid of a write that had no answer.
func readStep(nodes []node, c call) (bool, any) {
	n, r := nodes[c.parts[0].register], c.result
	switch {
	case r.Code == NoNode:
		return !n.there, nodes
	case r.Code != OK || !n.there || n.value != r.Value || n.version != r.Version:
		return false, nil
	case r.Mzxid == 0 || n.mzxid == r.Mzxid:
		return true, nodes
	case n.mzxid != 0:
		return false, nil
	}
	nodes = slices.Clone(nodes)
	nodes[c.parts[0].register].mzxid = r.Mzxid
	return true, nodes
}

// apply does what the server would: all parts or none, and the first error.
func apply(nodes []node, c call) ([]node, Code) {
	next := slices.Clone(nodes)
	var zxid int64
	if c.result != nil {
		zxid = c.result.Zxid
	}
	for i := range c.parts {
		p := &c.parts[i]
		n := &next[p.register]
		switch {
		case p.Kind == Create && !p.Check:
			if n.there {
				return nodes, NodeExists
			}
			*n = node{there: true, value: p.Value, mzxid: zxid}
			continue
		case !n.there:
			return nodes, NoNode
		case p.Version != -1 && p.Version != n.version:
			return nodes, BadVersion
		case p.Check:
		case p.Kind == Delete:
			*n = node{}
		case p.Kind == Set:
			*n = node{there: true, value: p.Value, version: n.version + 1, mzxid: zxid}
		}
	}
	return next, OK
}

// explain tells how far a linearization comes and what cannot follow.
func (g *group) explain(info porcupine.LinearizationInfo) Violation {
	var best []int
	for _, linearization := range info.PartialLinearizations()[0] {
		if len(linearization) > len(best) {
			best = linearization
		}
	}
	state := make([]node, len(g.paths))
	taken := map[int]bool{}
	for _, id := range best {
		taken[id] = true
		if _, next := step(state, g.operations[id].Input, nil); next != nil {
			state = next.([]node)
		}
	}
	var items []any
	for _, id := range best[max(0, len(best)-6):] {
		items = append(items, g.operations[id].Input.(call).op)
	}
	first := int64(math.MaxInt64) // what has to come next is asked before the first of the rest is answered
	for id := range g.operations {
		if !taken[id] {
			first = min(first, g.operations[id].Return)
		}
	}
	for id := range g.operations {
		if !taken[id] && g.operations[id].Call <= first && len(items) < accountMax {
			items = append(items, g.operations[id].Input.(call).op)
		}
	}
	return violation("linearizability", items, "after %d of %d operations the state is %s, and none of those that must come next fits:",
		len(best), len(g.operations), g.describe(state))
}

func (g *group) describe(state []node) string {
	var parts []string
	for i, n := range state {
		if !n.there {
			parts = append(parts, g.paths[i]+" absent")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %q v%d mzxid %d", g.paths[i], n.value, n.version, n.mzxid))
	}
	return strings.Join(parts, ", ")
}

// checkZxids judges the zxids of all writes: each its own, and rising with real time.
func checkZxids(h *History) []Violation {
	var writes []*Op
	for _, o := range h.Ops {
		if o.Known() && o.Kind.writes() && o.numbered() && o.Result.Zxid > 0 {
			writes = append(writes, o)
		}
	}
	var violations []Violation
	owner := map[int64]*Op{}
	for _, o := range writes {
		if other := owner[o.Result.Zxid]; other != nil {
			violations = append(violations, violation("zxids", []any{o, other}, "two writes with zxid %d:", o.Result.Zxid))
		}
		owner[o.Result.Zxid] = o
	}
	ended := slices.Clone(writes)
	slices.SortFunc(ended, func(a, b *Op) int { return a.returned - b.returned })
	var newest *Op // of those answered before the one that is looked at was asked
	next := 0
	for _, o := range writes { // in the order of asking
		for ; next < len(ended) && ended[next].before(o); next++ {
			if newest == nil || ended[next].Result.Zxid > newest.Result.Zxid {
				newest = ended[next]
			}
		}
		if newest != nil && o.Result.Zxid < newest.Result.Zxid {
			violations = append(violations, violation("zxids", []any{newest, o}, "a write was asked for after another was answered, and has an older zxid:"))
		}
	}
	return violations
}

// numbered tells whether the answer's zxid is the write's own: it was applied, successfully or not.
func (o *Op) numbered() bool {
	switch o.Result.Code {
	case OK, NoNode, BadVersion, NodeExists, NotEmpty:
		return true
	}
	return false
}
