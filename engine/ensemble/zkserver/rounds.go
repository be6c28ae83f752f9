package zkserver

import (
	"sync"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// rounds are the read indexes that linearizable reads wait for. One is under way at a time; the reads that arrive
// meanwhile share the next: the one under way may have been answered before they were asked. What waits is bounded by
// the pipelines.
type rounds struct {
	ensemble *ensemble.Ensemble

	mu      sync.Mutex // protects the fields below; nothing is called while it is held
	waiting []*slot
	running bool
}

// join lets a parked request wait for a round that begins from now on.
func (r *rounds) join(s *slot) {
	r.mu.Lock()
	r.waiting = append(r.waiting, s)
	begin := !r.running
	r.running = true
	r.mu.Unlock()
	if begin {
		r.begin()
	}
}

func (r *rounds) begin() {
	r.mu.Lock()
	batch := r.waiting
	r.waiting = nil
	r.running = len(batch) > 0
	r.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	r.ensemble.ReadIndex(func(_ uint64, err error) {
		for _, s := range batch {
			s.proven(err)
		}
		r.begin()
	})
}

// looks tells whether a request's answer depends on how recent the tree is.
func looks(op jute.OpCode) bool {
	switch op {
	case jute.OpPing, jute.OpWhoAmI, jute.OpCheckWatches, jute.OpRemoveWatches:
		return false
	}
	return true
}

// proven takes the end of a read index: the request is answered from the tree as it is from now on.
func (s *slot) proven(err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.state != slotAsked {
		return // a write behind it has proven it
	}
	s.state, s.err = slotParked, err
	if c.queue.ready() {
		c.writable.Signal()
	}
}

// answerBefore is called when a write of this connection is about to be applied. Whatever waits before it for a read
// index is answered from the tree as it is now: the write was proposed after they were asked, so that all which was
// acknowledged by then stands before it in the log and is applied; and they must not see the write.
func (c *conn) answerBefore(t *znode.Tree, w *ensemble.Watches) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	c.queue.prove()
	c.mu.Unlock()
	c.advance(t, w)
}
