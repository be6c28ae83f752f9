package catalog

import (
	"hash/maphash"
	"iter"
)

// ordered is a persistent map from strings to values in key order: a treap whose priorities are hashes of the keys, so
// that its shape depends on its keys alone. put and without copy only the path to the key; two versions share all the
// rest, which lets diff skip what did not change. A sorted slice would cost 10,000 copied pointers a change, a plain map
// would lose the order that DescribeTopicPartitions pages by.
type ordered[V any] struct {
	root *orderedNode[V]
	len  int
}

type orderedNode[V any] struct {
	key         string
	priority    uint64
	value       V
	left, right *orderedNode[V]
}

// prioritySeed need not be the same on every box: no order or content depends on it.
var prioritySeed = maphash.MakeSeed()

func (m ordered[V]) get(key string) (v V, ok bool) {
	for n := m.root; n != nil; {
		switch {
		case key < n.key:
			n = n.left
		case key > n.key:
			n = n.right
		default:
			return n.value, true
		}
	}
	return v, false
}

func (m ordered[V]) put(key string, value V) ordered[V] {
	if _, ok := m.get(key); !ok {
		m.len++
	}
	less, _, more := split(m.root, key)
	n := &orderedNode[V]{key: key, priority: maphash.String(prioritySeed, key), value: value}
	m.root = merge(merge(less, n), more)
	return m
}

func (m ordered[V]) without(key string) ordered[V] {
	less, found, more := split(m.root, key)
	if found == nil {
		return m
	}
	return ordered[V]{root: merge(less, more), len: m.len - 1}
}

// all yields the entries from the first key that is not below from, in order.
func (m ordered[V]) all(from string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { walk(m.root, from, yield) }
}

func walk[V any](n *orderedNode[V], from string, yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	if n.key < from {
		return walk(n.right, from, yield)
	}
	return walk(n.left, from, yield) && yield(n.key, n.value) && walk(n.right, from, yield)
}

// split cuts n at key into what is below, the node of the key itself (or nil), and what is above.
func split[V any](n *orderedNode[V], key string) (less, found, more *orderedNode[V]) {
	switch {
	case n == nil:
		return nil, nil, nil
	case key < n.key:
		l, f, r := split(n.left, key)
		if l == nil && f == nil {
			return nil, nil, n // nothing was cut off: keep sharing this subtree
		}
		c := *n
		c.left = r
		return l, f, &c
	case key > n.key:
		l, f, r := split(n.right, key)
		if r == nil && f == nil {
			return n, nil, nil
		}
		c := *n
		c.right = l
		return &c, f, r
	}
	return n.left, n, n.right
}

func merge[V any](a, b *orderedNode[V]) *orderedNode[V] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority || (a.priority == b.priority && a.key < b.key):
		c := *a
		c.right = merge(a.right, b)
		return &c
	}
	c := *b
	c.left = merge(a, b.left)
	return &c
}

// diff calls f for every key whose entry is not the very same node in both maps, in key order. It costs the number of
// changed nodes times the depth.
func diff[V any](a, b *orderedNode[V], f func(key string, before, after *V)) {
	switch {
	case a == b:
		return
	case b == nil:
		diff(a.left, nil, f)
		f(a.key, &a.value, nil)
		diff(a.right, nil, f)
		return
	}
	less, same, more := split(a, b.key)
	diff(less, b.left, f)
	if same == nil {
		f(b.key, nil, &b.value)
	} else {
		f(b.key, &same.value, &b.value)
	}
	diff(more, b.right, f)
}
