package ensemble

import (
	"fmt"
	"strings"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// subscription is one follower of a part of the tree.
type subscription struct {
	prefix string // without a slash at its end; empty is the whole tree
	f      func(Batch)
	// changes of the batch that is being applied.
	changes []znode.Change
}

// subscribe tells the present state and enlists, under one hold of the lock.
func (e *Ensemble) subscribe(prefix string, f func(Batch)) (cancel func(), err error) {
	if prefix != "/" && !jute.ValidPath(prefix) {
		return nil, fmt.Errorf("subscribe to %q: not a path", prefix)
	}
	s := &subscription{prefix: strings.TrimSuffix(prefix, "/"), f: f}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.subscribers) >= e.cfg.Limits.SubscribersMax {
		return nil, fmt.Errorf("subscribe to %q: %d subscribers: %w", prefix, len(e.subscribers), ErrFull)
	}
	e.subscribers = append(e.subscribers, s)
	s.tellAll(e.tree, e.appliedIndex)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for i, other := range e.subscribers {
			if other == s {
				// A new slice: the old one may be in use by the batch that is being told.
				e.subscribers = append(append([]*subscription{}, e.subscribers[:i]...), e.subscribers[i+1:]...)
				return
			}
		}
	}, nil
}

// tellAll tells the whole present state.
func (s *subscription) tellAll(t *znode.Tree, index uint64) {
	b := Batch{Zxid: t.Zxid(), Index: index, Initial: true, Tree: t}
	top := s.prefix
	if top == "" {
		top = "/"
	}
	t.Walk(top, func(path string, data []byte, stat jute.Stat) bool {
		b.Changes = append(b.Changes, znode.Change{Kind: jute.EventNodeCreated, Path: path, Zxid: stat.Czxid, Data: data, Stat: stat})
		return true
	})
	s.f(b)
}

// wants tells whether a path is at or below the prefix.
func (s *subscription) wants(path string) bool {
	return strings.HasPrefix(path, s.prefix) && (len(path) == len(s.prefix) || path[len(s.prefix)] == '/')
}

// within tells whether all that is wanted is at or below a path.
func (s *subscription) within(path string) bool {
	return strings.HasPrefix(s.prefix, path) && (len(s.prefix) == len(path) || s.prefix[len(path)] == '/')
}

// gather keeps an entry's changes for the subscribers. The write lock is held.
func (o *owner) gather(changes []znode.Change) {
	for _, s := range o.e.subscribers {
		for i := range changes {
			if s.wants(changes[i].Path) {
				s.changes = append(s.changes, changes[i])
			}
		}
	}
}

// tellSubscribers ends a batch. The write lock is held.
func (o *owner) tellSubscribers() {
	o.e.appliedIndex = o.applied
	replaced := o.replaced
	o.replaced = false
	for _, s := range o.e.subscribers {
		if replaced && !s.within(znode.PathCairn) {
			s.changes = nil
			s.tellAll(o.e.tree, o.applied)
			continue
		}
		if len(s.changes) == 0 {
			continue
		}
		b := Batch{Zxid: o.e.tree.Zxid(), Index: o.applied, Changes: s.changes, Tree: o.e.tree}
		s.changes = nil
		s.f(b)
	}
}
