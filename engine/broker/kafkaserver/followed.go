package kafkaserver

import (
	"context"
	"sync"

	"cairn/engine/broker/replica"
)

// followed is what a fetch session of another box has beside a client's: its requests look at partitions of which there is news
// alone. A box follows thousands of partitions in one session, and most are idle: what a request costs must not depend on those.
//
// Each partition of the session is in one of three places: noted, to be looked at by the next look; held by the request under way;
// or at rest, with a watcher at its replica, which notes it when something moves. One that is held may be noted as well: something has
// moved since the last look of its request.
type followed struct {
	mu     sync.Mutex          // protects what follows, and the fields of sessionPartition that say so; a leaf
	noted  []*sessionPartition // those that are noted and not held
	urgent bool                // one of them has been noted since the last look that is not to wait
	wake   func()              // of the request that waits; nil: none
	over   bool                // the session has ended
}

// note has a partition looked at; urgent wakes the request that waits.
func (f *followed) note(c *sessionPartition, urgent bool) {
	f.mu.Lock()
	if f.over || c.gone {
		f.mu.Unlock()
		return
	}
	if !c.noted {
		if c.noted = true; !c.held {
			f.noted = append(f.noted, c)
		}
	}
	var wake func()
	if urgent {
		f.urgent = true
		wake, f.wake = f.wake, nil
	}
	f.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// take gives what is noted to a request, which looks at it and once more at what it holds.
func (f *followed) take(held []fetchPart, each func(*sessionPartition)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.urgent, f.wake = false, nil
	for i := range held {
		held[i].cached.noted = false
	}
	for i, c := range f.noted {
		f.noted[i] = nil
		if c.noted = false; c.gone {
			continue
		}
		c.held = true
		each(c)
	}
	if f.noted = f.noted[:0]; cap(f.noted) > fetchKeepMax {
		f.noted = nil // all of them were noted when the session began
	}
}

// park has wake called when something is urgent, at once if it is already.
func (f *followed) park(wake func()) {
	f.mu.Lock()
	now := f.urgent
	if !now {
		f.wake = wake
	}
	f.mu.Unlock()
	if now {
		wake()
	}
}

// unpark ends that.
func (f *followed) unpark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake = nil
}

// watch has a partition noted when its replica shows another view than the one that was looked at.
func (f *followed) watch(ctx context.Context, c *sessionPartition, r Replica, seen *replica.View) {
	f.mu.Lock()
	if c.watcher != nil || c.gone || f.over {
		f.mu.Unlock()
		return
	}
	var w *replica.Waiter
	w = replica.NewFollowerWatcher(func() {
		f.mu.Lock()
		if c.watcher == w {
			c.watcher = nil
		}
		f.mu.Unlock()
		f.note(c, true)
	}, func() { f.note(c, false) })
	c.watcher = w
	f.mu.Unlock()
	r.Await(ctx, seen, w)
}

// giveBack ends what a request held: those that are at rest are left to their watchers, the others are noted, or stay so.
func (f *followed) giveBack(parts []fetchPart, rests func(*fetchPart) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, served := range []bool{false, true} { // what gave records comes behind the others, so that none starves
		for i := range parts {
			p := &parts[i]
			c := p.cached
			if p.length() > 0 != served || !c.held {
				continue
			}
			c.held = false
			if !c.gone && !f.over && (c.noted || c.watcher == nil || !rests(p)) {
				c.noted = true
				f.noted = append(f.noted, c)
			}
		}
	}
}

// forget lets go of a partition that the session has no more.
func (f *followed) forget(c *sessionPartition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.gone = true
	f.unwatch(c)
}

// end lets go of all partitions of a session.
func (f *followed) end(s *fetchSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over, f.noted, f.wake = true, nil, nil
	for e := s.order.Front(); e != nil; e = e.Next() {
		f.unwatch(e.Value.(*sessionPartition))
	}
}

func (f *followed) unwatch(c *sessionPartition) {
	if c.watcher != nil {
		c.watcher.Cancel()
		c.watcher = nil
	}
}
