package catalog

import (
	"sync/atomic"
)

// Catalog publishes the newest Snapshot of a tree. Current may be called from anywhere; everything else happens on the
// goroutine that applies entries.
type Catalog struct {
	current   atomic.Pointer[Snapshot]
	listeners []func(before, after *Snapshot)
	problem   func(Problem)
}

// New makes a catalog that shows an empty cluster until it follows a tree. problem is told of every znode that made no
// sense; nil means that nobody wants to know.
func New(base Base, problem func(Problem)) *Catalog {
	c := &Catalog{problem: problem}
	c.current.Store(Empty(base))
	return c
}

// OnChange has f called after every published snapshot, in order, on the goroutine that applies entries: f must not
// block, it posts. It must be called before Follow.
func (c *Catalog) OnChange(f func(before, after *Snapshot)) { c.listeners = append(c.listeners, f) }

// Follow subscribes to the tree.
func (c *Catalog) Follow(tree Tree) { tree.Subscribe(Root, c.Apply) }

// Apply projects one batch and publishes the result. Follow calls it; tests may. Never from two goroutines.
func (c *Catalog) Apply(b Batch) {
	before := c.current.Load()
	after := Project(before, b)
	c.current.Store(after)
	if c.problem != nil {
		for _, p := range after.Problems {
			c.problem(p)
		}
	}
	for _, f := range c.listeners {
		f(before, after)
	}
}

// Current is the newest snapshot. Never nil.
func (c *Catalog) Current() *Snapshot { return c.current.Load() }
