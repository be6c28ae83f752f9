package zkserver

import (
	"errors"
	"fmt"
	"slices"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/invariant"
)

// How requests are answered. All of this runs under the ensemble's lock, for reading or for writing.

// answerDirect answers the read in c.request, for the reader.
func (c *conn) answerDirect(t *znode.Tree, w *ensemble.Watches) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.perform(t, w, &c.request, true)
}

// answerQueue answers what can be answered at the front of the pipeline, for the writer.
func (c *conn) answerQueue(t *znode.Tree, w *ensemble.Watches) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.advance(t, w)
}

// answerAfter is called when a write of this connection was applied, with the tree as of that write: the reads that wait
// for it see it and nothing later, as in ZooKeeper's CommitProcessor.
func (c *conn) answerAfter(t *znode.Tree, w *ensemble.Watches) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.advance(t, w)
}

// advance answers from the front of the pipeline until something has to be waited for: the ensemble's word, or room in
// the outbox. Where a client lets its outbox fill, reads that wait may see writes that it sent after them: nothing else
// is bounded and keeps the order of the answers.
func (c *conn) advance(t *znode.Tree, w *ensemble.Watches) {
	for {
		c.mu.Lock()
		s := c.queue.first()
		if s == nil || s.state == slotAsked || c.dead || c.closing || len(c.out)+c.sending > outboxSoft {
			c.mu.Unlock()
			return
		}
		if s.err != nil {
			c.endLocked(s.err)
			c.mu.Unlock()
			return
		}
		if s.state == slotParked {
			c.mu.Unlock()
			c.perform(t, w, &s.request, false)
			c.mu.Lock()
		} else {
			c.conclude(t, s)
		}
		if c.queue.first() == s { // the connection may have ended meanwhile and given its pipeline up
			c.queue.pop()
			c.left(s)
		}
		c.mu.Unlock()
	}
}

// left counts a request that left the pipeline. The connection's lock is held.
func (c *conn) left(s *slot) {
	c.s.outstanding.Add(-1)
	c.s.parked.Add(-s.held)
	c.s.largeRequests.leave(s.large)
	if c.paused {
		c.readable.Signal()
	}
}

// endLocked ends the connection for an error of the ensemble.
func (c *conn) endLocked(err error) {
	if errors.Is(err, ensemble.ErrSessionMoved) || errors.Is(err, ensemble.ErrSessionExpired) {
		c.finishLocked(err)
		return
	}
	c.dieLocked(err)
}

// conclude queues the answer of a write or of what needs no tree. The connection's lock is held.
func (c *conn) conclude(t *znode.Tree, s *slot) {
	code := s.outcome.ReplyErr()
	if code == jute.SessionMoved {
		c.finishLocked(fmt.Errorf("session %s: %w", sessionName(c.session.Load()), ensemble.ErrSessionMoved))
		return
	}
	zxid := s.outcome.Zxid
	switch {
	case s.noZxid:
		zxid = 0
	case zxid == 0: // not proposed
		zxid = t.Zxid()
	}
	start := c.begin(&s.request, zxid, code)
	if s.body != nil {
		c.out = append(c.out, s.body...)
	} else if s.outcome.Zxid != 0 {
		c.out = s.outcome.AppendBody(c.out)
	}
	c.end(&s.request, start, false)
	switch {
	case s.op == jute.OpCloseSession:
		c.finishLocked(nil)
	case s.last:
		c.finishLocked(fmt.Errorf("%v answered with %s", s.op, code.String()))
	}
}

// begin appends the frame's length and the header. The connection's lock is held. The zxid of a header never goes back.
func (c *conn) begin(q *request, zxid int64, code jute.Code) (start int) {
	if zxid != 0 {
		c.lastZxid = max(c.lastZxid, zxid)
		zxid = c.lastZxid
	}
	c.out, start = jute.AppendFrame(c.out)
	h := jute.ReplyHeader{Xid: q.xid, Zxid: zxid, Err: code}
	if q.op == jute.OpPing {
		h.Xid = jute.XidPing
	}
	c.out = h.Append(c.out)
	return start
}

// end fills in the frame's length and counts the answer. The connection's lock is held.
func (c *conn) end(q *request, start int, direct bool) {
	jute.EndFrame(c.out, start)
	size := len(c.out) - start
	if direct {
		c.queuedDirect(size)
	} else {
		c.queued(size)
	}
	now := c.s.deps.Clock.Now().Mono
	ms := (now - q.began).Milliseconds()
	c.tally.sent++
	c.tally.lastOp, c.tally.lastResponse, c.tally.lastLatency = q.op, now, ms
	c.tally.latency.Add(ms)
	c.s.stats.answered(q.op, now-q.began, size-4)
	if c.overflows(size) {
		c.dieLocked(fmt.Errorf("%d bytes wait: %w", len(c.out)+c.sending, errOutboxFull))
	}
}

// result is what a read found, until it is encoded.
type result struct {
	code     jute.Code
	stat     jute.Stat
	data     []byte
	names    []string
	acls     []jute.ACL
	number   int32
	infos    []jute.ClientInfo
	multiple []jute.OpResult
}

// perform looks a read up, registers its watch, and queues the answer. The connection's turn is held, its lock is not:
// catching up on watches queues events.
func (c *conn) perform(t *znode.Tree, w *ensemble.Watches, q *request, direct bool) {
	var r result
	if q.failed != jute.OK {
		r.code = q.failed
	} else if err := c.lookUp(t, w, q, &r); err != nil {
		c.die(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.closing {
		return
	}
	start := c.begin(q, t.Zxid(), r.code)
	if r.code == jute.OK {
		c.out = r.append(c.out, q)
	}
	c.end(q, start, direct)
}

// lookUp asks the tree and the watches. An error ends the connection.
func (c *conn) lookUp(t *znode.Tree, w *ensemble.Watches, q *request, r *result) error {
	who := *q.access
	watch := ensemble.WatchData
	switch q.op {
	case jute.OpPing, jute.OpSync:
		return nil
	case jute.OpExists:
		r.stat, r.code = t.Exists(q.path, who)
		if r.code == jute.NoNode && q.watch { // the one watch that is left although the answer is an error
			return w.Add(c, q.path, watch)
		}
	case jute.OpGetData:
		r.data, r.stat, r.code = t.Get(q.path, who)
	case jute.OpGetChildren, jute.OpGetChildren2:
		watch = ensemble.WatchChildren
		r.names, r.stat, r.code = t.Children(q.path, who)
	case jute.OpGetACL:
		r.acls, r.stat, r.code = t.ACL(q.path, who)
	case jute.OpGetEphemerals:
		r.names = t.Ephemerals(c.session.Load(), q.path)
	case jute.OpGetAllChildrenNumber:
		r.number, r.code = t.AllChildrenNumber(q.path, who)
	case jute.OpWhoAmI:
		r.infos = clientInfos(who.IDs)
	case jute.OpMultiRead:
		return c.lookUpAll(t, q, r)
	case jute.OpAddWatch:
		watch = ensemble.WatchPersistent
		if q.kind == jute.AddWatchPersistentRecursive {
			watch = ensemble.WatchRecursive
		}
		return w.Add(c, q.path, watch)
	case jute.OpCheckWatches:
		if !w.Has(c, q.path, jute.WatcherType(q.kind)) {
			r.code = jute.NoWatcher
		}
	case jute.OpRemoveWatches:
		if !w.Remove(c, q.path, jute.WatcherType(q.kind)) {
			r.code = jute.NoWatcher
		}
	case jute.OpSetWatches, jute.OpSetWatches2:
		return w.Rearm(t, c, q.rearm)
	default:
		return invariant.Check(false, "op %v looked up as a read", q.op)
	}
	if r.code == jute.OK && q.watch {
		return w.Add(c, q.path, watch)
	}
	return nil
}

// lookUpAll answers a multiRead: each part by itself. What it may add up to is bounded by the outbox.
func (c *conn) lookUpAll(t *znode.Tree, q *request, r *result) error {
	who := q.access.Remembering()
	r.multiple = make([]jute.OpResult, len(q.ops))
	size := 0
	for i := range q.ops {
		op, p := &q.ops[i], &r.multiple[i]
		p.Type = op.Type
		switch op.Type {
		case jute.OpGetData:
			p.Data, p.Stat, p.Err = t.Get(op.Path, who)
			size += len(p.Data)
		case jute.OpGetChildren:
			p.Children, _, p.Err = t.Children(op.Path, who)
			for _, name := range p.Children {
				size += 16 + len(name)
			}
		}
		if p.Err != jute.OK {
			*p = jute.OpResult{Type: jute.OpError, Err: p.Err}
		}
		if size > c.s.cfg.Limits.OutboxBytesMax {
			return fmt.Errorf("a multiRead of %d bytes and more: %w", size, errOutboxFull)
		}
	}
	return nil
}

// size is about how long the body is.
func (r *result) size() int {
	n := len(r.data) + jute.StatSize + 16
	for _, name := range r.names {
		n += 4 + len(name)
	}
	return n
}

// append encodes the body of an answer.
func (r *result) append(dst []byte, q *request) []byte {
	dst = slices.Grow(dst, r.size()) // a long answer is not copied again and again
	switch q.op {
	case jute.OpSync:
		return jute.AppendString(dst, q.path)
	case jute.OpExists:
		return r.stat.Append(dst)
	case jute.OpGetData:
		return r.stat.Append(jute.AppendBuffer(dst, r.data))
	case jute.OpGetChildren, jute.OpGetEphemerals:
		return jute.AppendStrings(dst, r.names)
	case jute.OpGetChildren2:
		return r.stat.Append(jute.AppendStrings(dst, r.names))
	case jute.OpGetACL:
		return r.stat.Append(jute.AppendACLs(dst, r.acls))
	case jute.OpGetAllChildrenNumber, jute.OpAddWatch:
		return jute.AppendInt32(dst, r.number)
	case jute.OpWhoAmI:
		p := jute.WhoAmIResponse{ClientInfo: r.infos}
		return p.Append(dst)
	case jute.OpMultiRead:
		for i := range r.multiple {
			dst = r.multiple[i].Append(dst)
		}
		return jute.AppendMultiEnd(dst)
	}
	return dst
}
