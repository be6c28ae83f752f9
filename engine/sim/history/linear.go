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

// state is that of a group of registers.
type state struct {
	nodes []node
	// zxid of the newest transaction that an answer has told of: writes happen in the order of their zxids, and a read shows
	// all up to its own.
	zxid int64
	// used is how many writes without an answer have happened, by class.
	used []int
}

func (s state) equal(t state) bool {
	return s.zxid == t.zxid && slices.Equal(s.nodes, t.nodes) && slices.Equal(s.used, t.used)
}

// call is an operation as the model sees it: its parts by the number of their register, and the answer, nil when there
// was none and nobody has seen what it wrote.
type call struct {
	op     *Op
	parts  []modelPart
	result *Result
	// class and rank: see unanswered and chain.
	class, rank int
}

type modelPart struct {
	Part
	register int
	read     bool
}

// checkLinearizable searches for an order of the writes and the reads behind a sync that explains every answer. Registers
// that a multi joins are judged together, others each by itself.
func checkLinearizable(x *index, patience time.Duration) []Violation {
	var violations []Violation
	for _, g := range groups(x) {
		model := porcupine.Model{
			Init:  func() any { return g.init() },
			Step:  step,
			Equal: func(a, b any) bool { return a.(state).equal(b.(state)) },
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
	classes    map[string]int // by number
	ranks      []int          // by class: how many it has
}

func (g *group) init() state {
	return state{nodes: make([]node, len(g.paths)), used: make([]int, len(g.ranks))}
}

// groups splits the history.
func groups(x *index) []*group {
	h := x.h
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
			g = &group{classes: map[string]int{}}
			byRoot[find(parts[0].Path)] = g
			all = append(all, g)
		}
		c := call{op: o, class: -1}
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
		} else if read := x.witness(o); read != nil {
			// It has happened: somebody read what it wrote, and when.
			c.result, end = &Result{Zxid: read.Result.Mzxid, Version: read.Result.Version}, int64(read.returned)
			g.chain(&c)
		} else if next := x.overtaken[o]; next != nil {
			// A request behind it on its connection has happened: by then it had, too.
			end = int64(next.returned)
			g.chain(&c)
		} else {
			g.unanswered(x, &c)
		}
		g.operations = append(g.operations, porcupine.Operation{ClientId: o.Client, Input: c, Output: c, Call: int64(o.invoked), Return: end})
	}
	return all
}

// witness is the first read that shows what a write without an answer wrote, where nobody else wrote the same.
func (x *index) witness(o *Op) *Op {
	for _, p := range o.parts() {
		if p.Check || p.Kind == Delete || x.writers[written{p.Path, p.Value}] != 1 {
			continue
		}
		if read := x.readers[written{p.Path, p.Value}]; read != nil && read.Result.Mzxid > 0 {
			return read
		}
	}
	return nil
}

// unanswered classes a write of which nobody can say whether it happened: those that do the same, but for values that
// nobody has read, are of one class, and happen in the order of asking or not at all. Any other order would explain no
// more: one that was asked for earlier could stand in the place of a later one. Without it the search would try all
// of their subsets.
func (g *group) unanswered(x *index, c *call) {
	key := ""
	for _, p := range c.parts {
		value := p.Value
		if x.readers[written{p.Path, value}] == nil {
			value = ""
		}
		key += fmt.Sprintf("%d %v %d %d %q;", p.Kind, p.Check, p.register, p.Version, value)
	}
	g.join(c, key)
}

// chain keeps the writes without an answer of one connection in their order, as far as they have happened.
func (g *group) chain(c *call) {
	g.join(c, fmt.Sprint("connection ", connection{c.op.Client, c.op.Session, c.op.Conn}))
}

// join makes a call the next of its class.
func (g *group) join(c *call, key string) {
	class, ok := g.classes[key]
	if !ok {
		class = len(g.ranks)
		g.classes[key] = class
		g.ranks = append(g.ranks, 0)
	}
	c.class, c.rank = class, g.ranks[class]
	g.ranks[class]++
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
func step(before, input, _ any) (bool, any) {
	s, c := before.(state), input.(call)
	if len(c.parts) == 1 && c.parts[0].read {
		return readStep(s, c)
	}
	if c.class >= 0 {
		if s.used[c.class] != c.rank {
			return false, nil
		}
		s.used = slices.Clone(s.used)
		s.used[c.class]++
	}
	next, code := apply(s.nodes, c)
	r := c.result
	switch {
	case r == nil:
	case code != r.Code || r.Zxid > 0 && r.Zxid <= s.zxid:
		return false, nil
	case code == OK && c.op.Kind == Set && next[c.parts[0].register].version != r.Version:
		return false, nil
	default:
		s.zxid = max(s.zxid, r.Zxid)
	}
	s.nodes = next
	return true, s
}

// readStep compares an answer with the state, and learns the mzxid of a write that had no answer.
func readStep(s state, c call) (bool, any) {
	n, r := s.nodes[c.parts[0].register], c.result
	switch {
	case r.Zxid > 0 && r.Zxid < s.zxid, r.Code == NoNode && n.there, r.Code != OK && r.Code != NoNode:
		return false, nil
	case r.Code == OK && (!n.there || n.value != r.Value || n.version != r.Version):
		return false, nil
	case r.Code == OK && r.Mzxid != 0 && n.mzxid != 0 && n.mzxid != r.Mzxid:
		return false, nil
	}
	s.zxid = max(s.zxid, r.Zxid)
	if r.Code == OK && r.Mzxid != n.mzxid && r.Mzxid != 0 {
		s.nodes = slices.Clone(s.nodes)
		s.nodes[c.parts[0].register].mzxid = r.Mzxid
	}
	return true, s
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
	end := g.init()
	taken := map[int]bool{}
	for _, id := range best {
		taken[id] = true
		if _, next := step(end, g.operations[id].Input, nil); next != nil {
			end = next.(state)
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
		len(best), len(g.operations), g.describe(end.nodes))
}

func (g *group) describe(nodes []node) string {
	var parts []string
	for i, n := range nodes {
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
