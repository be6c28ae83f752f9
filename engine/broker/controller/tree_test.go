package controller

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"cairn/engine/broker/catalog"
)

// memoryTree is a catalog.Tree of one box: multis are applied when deliver is called, so that tests decide when.
type memoryTree struct {
	nodes      map[string]*memoryNode
	children   map[string]int
	zxid       int64
	queue      []func()
	subscriber func(catalog.Batch)
	leadership func(catalog.Leadership)
	term       uint64
	multis     int
	largest    int // operations of the largest multi
	// fail, when it is set, decides about every multi before it is applied: apply says whether it is applied anyhow.
	fail func(ops []catalog.Op) (err error, apply bool)
}

type memoryNode struct {
	data    []byte
	version int32
	czxid   int64
	mzxid   int64
}

func newMemoryTree() *memoryTree {
	return &memoryTree{nodes: map[string]*memoryNode{}, children: map[string]int{}}
}

func (t *memoryTree) Read(p string) ([]byte, int32, bool) {
	n := t.nodes[p]
	if n == nil {
		return nil, 0, false
	}
	return n.data, n.version, true
}

func (t *memoryTree) Multi(ops []catalog.Op, done func([]catalog.OpResult, error)) {
	t.queue = append(t.queue, func() {
		t.multis++
		t.largest = max(t.largest, len(ops))
		if t.fail != nil {
			if err, apply := t.fail(ops); err != nil {
				if apply {
					t.apply(ops)
				}
				done(nil, err)
				return
			}
		}
		done(t.apply(ops))
	})
}

func (t *memoryTree) apply(ops []catalog.Op) ([]catalog.OpResult, error) {
	saved, savedChildren := maps.Clone(t.nodes), maps.Clone(t.children)
	t.zxid++
	b := catalog.Batch{Zxid: t.zxid}
	results := make([]catalog.OpResult, len(ops))
	for i, op := range ops {
		c, err := t.applyOne(op)
		if err != nil {
			for j := range results {
				results[j].Err = catalog.ErrRolledBack
			}
			results[i].Err = err
			t.nodes, t.children = saved, savedChildren
			return results, fmt.Errorf("%v %s: %w", op.Kind, op.Path, err)
		}
		results[i].Version = c.Version
		if op.Kind != catalog.OpCheck {
			b.Changes = append(b.Changes, c)
		}
	}
	if t.subscriber != nil {
		t.subscriber(b)
	}
	return results, nil
}

func (t *memoryTree) applyOne(op catalog.Op) (catalog.Change, error) {
	n := t.nodes[op.Path]
	if op.Kind == catalog.OpCreate {
		if n != nil {
			return catalog.Change{}, catalog.ErrNodeExists
		}
		if parent := path.Dir(op.Path); parent != "/" && t.nodes[parent] == nil {
			return catalog.Change{}, catalog.ErrNoNode
		}
		t.nodes[op.Path] = &memoryNode{data: op.Data, czxid: t.zxid, mzxid: t.zxid}
		t.children[path.Dir(op.Path)]++
		return catalog.Change{Kind: catalog.Created, Path: op.Path, Data: op.Data, Czxid: t.zxid}, nil
	}
	switch {
	case n == nil:
		return catalog.Change{}, catalog.ErrNoNode
	case op.Version != catalog.AnyVersion && op.Version != n.version:
		return catalog.Change{}, catalog.ErrBadVersion
	case op.Kind == catalog.OpSet:
		t.nodes[op.Path] = &memoryNode{data: op.Data, version: n.version + 1, czxid: n.czxid, mzxid: t.zxid}
		return catalog.Change{Kind: catalog.Changed, Path: op.Path, Data: op.Data, Version: n.version + 1, Czxid: n.czxid}, nil
	case op.Kind == catalog.OpDelete:
		if t.children[op.Path] > 0 {
			return catalog.Change{}, catalog.ErrNotEmpty
		}
		delete(t.nodes, op.Path)
		t.children[path.Dir(op.Path)]--
		return catalog.Change{Kind: catalog.Deleted, Path: op.Path}, nil
	}
	return catalog.Change{}, nil
}

func (t *memoryTree) ReadIndex(done func(error)) {
	t.queue = append(t.queue, func() { done(nil) })
}

func (t *memoryTree) Subscribe(prefix string, f func(catalog.Batch)) {
	t.subscriber = f
	b := catalog.Batch{Zxid: t.zxid, Reset: true}
	for _, p := range slices.Sorted(maps.Keys(t.nodes)) {
		if strings.HasPrefix(p, prefix) {
			n := t.nodes[p]
			b.Changes = append(b.Changes, catalog.Change{Path: p, Data: n.data, Version: n.version, Czxid: n.czxid, Mzxid: n.mzxid})
		}
	}
	f(b)
}

func (t *memoryTree) Leadership(f func(catalog.Leadership)) { t.leadership = f }

func (t *memoryTree) lead(leader bool) {
	t.term++
	t.leadership(catalog.Leadership{Leader: leader, Term: t.term})
}

// Register replaces the registration in one transaction, with a new czxid.
func (t *memoryTree) Register(r catalog.Registration, done func(error)) {
	for p := path.Dir(r.Path); p != "/"; p = path.Dir(p) {
		if t.nodes[p] == nil {
			t.nodes[p] = &memoryNode{}
		}
	}
	var ops []catalog.Op
	if t.nodes[r.Path] != nil {
		ops = append(ops, remove(r.Path))
	}
	_, err := t.apply(append(ops, create(r.Path, r.Data)))
	done(err)
}

// deliver applies what is queued, and says whether there was anything.
func (t *memoryTree) deliver() bool {
	queue := t.queue
	t.queue = nil
	for _, f := range queue {
		f()
	}
	return len(queue) > 0
}
