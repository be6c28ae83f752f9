package zkserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// What happens to a request when its frame is complete. All of this runs on the reader's goroutine.

// requestHeaderBytes are xid and op.
const requestHeaderBytes = 8

// accept takes the request in c.frame. True says that the connection is read no further: its last answer is queued, or
// will be. An error ends the connection at once.
func (c *conn) accept() (last bool, err error) {
	if len(c.frame) < requestHeaderBytes {
		return false, fmt.Errorf("a request of %d bytes has no header", len(c.frame))
	}
	r := &c.decoder
	r.Reset(c.frame)
	var h jute.RequestHeader
	h.Read(r)
	now := c.s.deps.Clock.Now().Mono
	c.heard(h, now)
	c.touch(now)
	c.request = request{xid: h.Xid, op: h.Op, size: len(c.frame), began: now, access: c.access.Load()}
	q := &c.request
	if h.Op != jute.OpAuth && h.Op != jute.OpSASL && c.enforced() {
		c.park(&slot{request: *q, state: slotAnswered, outcome: failure(jute.SessionClosedRequireSASLAuth), noZxid: true, last: true})
		return true, nil
	}
	if h.Op != jute.OpAuth && h.Op != jute.OpSASL {
		var fits bool
		if q.large, fits = c.s.largeRequests.enter(q.size); !fits {
			c.s.stats.largeRejected.Inc()
			return false, errLargeRequest
		}
	}
	if c.readOnly {
		if taken, last, err := c.acceptReadOnly(h.Op); taken {
			return last, err
		}
	}
	switch h.Op {
	case jute.OpCreate, jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL, jute.OpDelete, jute.OpSetData, jute.OpSetACL:
		return false, c.acceptWrite(r, znode.KindOp)
	case jute.OpMulti:
		return false, c.acceptWrite(r, znode.KindMulti)
	case jute.OpReconfig:
		return false, c.acceptReconfig(r)
	case jute.OpCloseSession:
		if c.alone() {
			return true, c.leave()
		}
		return true, c.acceptWrite(r, znode.KindCloseSession)
	case jute.OpAuth:
		return c.acceptAuth(r)
	case jute.OpSASL:
		return false, c.acceptSASL(r)
	case jute.OpSync:
		return false, c.acceptSync(r)
	case jute.OpPing:
	case jute.OpExists, jute.OpGetData, jute.OpGetChildren, jute.OpGetChildren2:
		var b jute.PathWatchRequest
		refuseNullPath(r)
		b.Read(r)
		q.path, q.watch = b.Path, b.Watch
	case jute.OpGetACL, jute.OpGetAllChildrenNumber:
		refuseNullPath(r)
		q.path = r.String()
	case jute.OpGetEphemerals: // a null prefix is an empty one
		q.path = r.String()
	case jute.OpWhoAmI:
	case jute.OpCheckWatches, jute.OpRemoveWatches, jute.OpAddWatch:
		q.acceptPathType(r)
	case jute.OpSetWatches:
		q.rearm = new(jute.SetWatches2Request)
		q.rearm.SetWatchesRequest.Read(r)
	case jute.OpSetWatches2:
		q.rearm = new(jute.SetWatches2Request)
		q.rearm.Read(r)
	case jute.OpMultiRead:
		q.ops = jute.ReadMulti(r, jute.OpMultiRead, c.s.cfg.Limits.MultiOpsMax)
	default:
		// ZooKeeper answers what it does not know and closes the connection (UnimplementedRequestProcessor). A check by
		// itself, outside of a multi, is among that.
		c.park(&slot{request: *q, state: slotAnswered, outcome: failure(jute.Unimplemented), last: true})
		return true, nil
	}
	if r.Err() != nil {
		q.failed = jute.MarshallingError
	}
	if cap(c.frame) > 4*pooledBytes {
		// What was decoded of a read is copied: a long frame is let go of before the read is answered, so that the two do
		// not add up.
		c.frame = nil
		r.Reset(nil)
	}
	return false, c.read()
}

// refuseNullPath makes a request fail that begins with a null path, which is no empty one.
func refuseNullPath(r *jute.Reader) {
	if b := r.Rest(); len(b) >= 4 && int32(binary.BigEndian.Uint32(b)) == -1 {
		r.Fail("null path")
	}
}

// acceptPathType decodes the requests that name a kind of watch; an unknown kind cannot be decoded in ZooKeeper either.
func (q *request) acceptPathType(r *jute.Reader) {
	var b jute.PathTypeRequest
	b.Read(r)
	q.path, q.kind = b.Path, b.Type
	if q.op == jute.OpAddWatch {
		if b.Type != jute.AddWatchPersistent && b.Type != jute.AddWatchPersistentRecursive {
			r.Fail("addWatch mode %d", b.Type)
		}
	} else if !jute.WatcherType(b.Type).Valid() {
		r.Fail("watcher type %d", b.Type)
	}
}

// touch tells the ensemble that the session's client was heard from. Once in a thirtieth of the timeout is often enough:
// clients that have nothing to ask send a ping in every third of it.
func (c *conn) touch(now time.Duration) {
	if c.touched != 0 && now-c.touched < time.Duration(c.timeout.Load())/32 {
		return
	}
	c.touched = now
	c.s.deps.Ensemble.Touch(c.session.Load())
}

// heard counts a request.
func (c *conn) heard(h jute.RequestHeader, now time.Duration) {
	c.s.stats.received.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.received++
	c.tally.lastHeard = now
	if h.Xid >= 0 {
		c.tally.lastCxid = int64(h.Xid)
	}
}

// failure is the outcome of a request that was not asked of anybody.
func failure(code jute.Code) znode.Outcome { return znode.Outcome{Err: code} }

// park puts a request into the pipeline.
func (c *conn) park(s *slot) {
	s.c = c
	c.request.large = 0 // the slot's from now on
	if s.state == slotParked {
		s.held = int64(s.size)
	}
	c.s.outstanding.Add(1)
	c.s.parked.Add(s.held)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.push(s)
	if c.queue.ready() {
		c.writable.Signal()
	}
}

// read answers a read at once when nothing before it is unanswered, and parks it otherwise. Where reads are to be
// linearizable it waits for a read index too.
func (c *conn) read() error {
	if c.s.cfg.LinearizableReads && !c.readOnly && c.request.failed == jute.OK && looks(c.request.op) {
		s := &slot{request: c.request, state: slotAsked, fresh: true, held: int64(c.request.size)}
		c.sendDirect()
		c.park(s)
		c.s.rounds.join(s)
		return nil
	}
	c.mu.Lock()
	direct := c.queue.len() == 0
	c.mu.Unlock()
	if !direct && c.s.cfg.earlyReads && c.request.failed == jute.OK {
		return c.readEarly()
	}
	if direct { // only the reader adds to the pipeline: it stays empty
		return c.view(c.runDirect)
	}
	c.park(&slot{request: c.request, state: slotParked})
	return nil
}

// acceptReconfig lets the leader judge a change of the ensemble's configuration, where such are allowed.
func (c *conn) acceptReconfig(r *jute.Reader) error {
	if !c.s.cfg.ReconfigEnabled {
		var b jute.ReconfigRequest
		b.Read(r)
		if c.request.failed = jute.ReconfigDisabled; r.Err() != nil { // what cannot be read is said first, as in ZooKeeper
			c.request.failed = jute.MarshallingError
		}
		return c.read()
	}
	return c.acceptWrite(r, znode.KindReconfig)
}

// acceptWrite decodes a write and proposes it.
func (c *conn) acceptWrite(r *jute.Reader, kind znode.Kind) error {
	q := &c.request
	entry := znode.Entry{Kind: kind, Session: c.session.Load(), Auth: q.access.IDs}
	switch kind {
	case znode.KindOp:
		op := jute.Op{Type: q.op}
		refuseNullPath(r)
		op.ReadBody(r)
		entry.Ops = []jute.Op{op}
	case znode.KindReconfig:
		entry.Data = r.Rest()
		var b jute.ReconfigRequest
		b.Read(r)
	case znode.KindMulti:
		entry.Ops = jute.ReadMulti(r, jute.OpMulti, c.s.cfg.Limits.MultiOpsMax)
	}
	if r.Err() != nil {
		q.failed = jute.MarshallingError
		return c.read()
	}
	local := c.owner(&entry)
	if q.failed != jute.OK {
		return c.read()
	}
	s := &slot{request: *q, state: slotAsked, frame: c.frame, weight: weight(&entry, len(c.frame))}
	c.frame = nil // the entry refers to it
	if asks, err := c.ask(s); !asks {
		return err
	}
	w := ensemble.Write{Entry: entry, From: c, Local: local, After: c.after}
	c.mu.Lock()
	if c.queue.fresh > 0 {
		w.Before = c.before
	}
	c.mu.Unlock()
	c.s.deps.Ensemble.Propose(w, s.done)
	return nil
}

// ask waits until the ensemble may be asked one more thing, and puts the request into the pipeline. False: it is not to be
// asked, since the request has waited too long, or ends the connection.
func (c *conn) ask(s *slot) (bool, error) {
	c.mu.Lock()
	c.sendBefore()
	c.mu.Unlock()
	waited, ok := c.s.gate.enter(s.weight)
	if waited {
		c.deadlineSet = 0 // what waited in the socket meanwhile is no silence
	}
	if !ok {
		return false, ErrClosed
	}
	if waited {
		if asks, err := c.hasWaited(); !asks {
			c.s.gate.leave(s.weight)
			return false, err
		}
	}
	c.park(s)
	return true, nil
}

// errStale ends a connection whose request was not carried out.
var errStale = errors.New("a request has waited for longer than its session's timeout")

// hasWaited decides what becomes of a request that had to wait for others (RequestThrottler.run). False: it is done with.
func (c *conn) hasWaited() (bool, error) {
	t, q := &c.s.cfg.RequestThrottle, &c.request
	took := c.s.deps.Clock.Now().Mono - q.began
	c.s.stats.throttleWaits.Inc()
	if q.op == jute.OpCloseSession {
		return true, nil
	}
	switch {
	case c.ended():
		c.s.stats.staleDropped.Inc()
		return false, nil // what is queued is still sent, if it may be
	case t.StaleLatencyCheck && took > time.Duration(c.timeout.Load()):
		c.s.stats.staleDropped.Inc()
		return false, errStale
	case t.OpWaitMax > 0 && took > t.OpWaitMax:
		c.s.stats.throttledOps.Inc()
		q.failed = jute.ThrottledOp
		return false, c.read()
	}
	return true, nil
}

// ended tells whether the connection ends, or has.
func (c *conn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead || c.closing
}

// weight is what a write holds while it is under way, in bytes: its frame, what it is decoded into, and the entry that
// the ensemble makes of it. The smallest operations grow most.
func weight(e *znode.Entry, frame int) int64 {
	return int64(2*frame + 256*(1+len(e.Ops)) + 64*len(e.Auth) + idBytes(e.Auth))
}

// done takes the outcome of a write. It runs on the ensemble's goroutine and only notes it: After answers, under the
// lock that the write was applied under. Without an outcome nobody calls After.
func (s *slot) done(outcome znode.Outcome, err error) {
	c := s.c
	c.s.gate.leave(s.weight)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.state = slotAnswered
	if err == nil {
		s.outcome = outcome
		giveFrame(s.frame)
		s.frame = nil
		return
	}
	s.frame = nil
	if errors.Is(err, ensemble.ErrTreeFull) {
		s.outcome = failure(jute.QuotaExceeded)
	} else {
		// Nobody knows whether the write came to pass, or the writes behind it would overtake it: the client is told by
		// its connection's loss, and asks again.
		s.err = err
	}
	if c.queue.ready() {
		c.writable.Signal()
	}
}

// acceptAuth authenticates at once: what is sent after it is asked in the name of the new ids.
func (c *conn) acceptAuth(r *jute.Reader) (last bool, err error) {
	var p jute.AuthPacket
	p.Read(r)
	if r.Err() != nil {
		return false, r.Err()
	}
	result := c.authenticate(&p)
	if result.close {
		c.s.stats.authFailed.Add(1)
		c.s.deps.Observer.Log.Warn("authentication failed", "remote", c.remote.String(), "session", sessionName(c.session.Load()), "scheme", fmt.Sprintf("%.64q", p.Scheme))
		if result.code != jute.AuthFailed {
			return false, fmt.Errorf("auth: %w", result.code)
		}
	}
	c.park(&slot{request: c.request, state: slotAnswered, outcome: failure(result.code), noZxid: true, last: result.close})
	return result.close, nil
}

// acceptSASL answers as a ZooKeeper does that has no SASL configured: no token, and no identity.
func (c *conn) acceptSASL(r *jute.Reader) error {
	if r.Buffer() == nil {
		r.Fail("null token")
	}
	if r.Err() != nil {
		return r.Err()
	}
	c.park(&slot{request: c.request, state: slotAnswered, body: jute.AppendBuffer(nil, nil), noZxid: true})
	return nil
}

// acceptSync takes a read index: the answer, and every read behind it, sees what was committed when it was asked.
func (c *conn) acceptSync(r *jute.Reader) error {
	c.request.path = r.String()
	if r.Err() != nil {
		c.request.failed = jute.MarshallingError
		return c.read()
	}
	s := &slot{request: c.request, state: slotAsked, fresh: true, weight: int64(c.request.size) + 256}
	if asks, err := c.ask(s); !asks {
		return err
	}
	c.s.deps.Ensemble.ReadIndex(func(_ uint64, err error) {
		c.s.gate.leave(s.weight)
		s.proven(err)
	})
	return nil
}
