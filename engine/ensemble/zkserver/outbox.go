package zkserver

import (
	"errors"
	"fmt"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// What a connection with the ensemble shares (ensemble.Outbox), and how its bytes leave.

// errOutboxFull ends a connection that does not take what it asked for.
var errOutboxFull = errors.New("the client does not read what it is sent")

// outboxShare is how many unsent bytes a connection may hold while all of them together are over their budget.
const outboxShare = 64 << 10

// Event queues the notification of a watch. False: the outbox is full, the ensemble ends the connection.
func (c *conn) Event(e ensemble.Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.closing {
		return true // nobody is left to be told
	}
	before := len(c.out)
	var start int
	c.out, start = jute.AppendFrame(c.out)
	h := jute.ReplyHeader{Xid: jute.XidNotification, Zxid: e.Zxid}
	c.out = h.Append(c.out)
	w := jute.WatcherEvent{Type: e.Type, State: jute.StateSyncConnected, Path: e.Path}
	c.out = w.Append(c.out)
	jute.EndFrame(c.out, start)
	c.queued(len(c.out) - before)
	c.tally.sent++
	c.s.stats.sent.Add(1)
	c.s.stats.watchBytes.Add(len(c.out) - before)
	return !c.overflows(0)
}

// Access is who the connection is.
func (c *conn) Access() znode.Access { return *c.access.Load() }

// Kill ends the connection. What was answered before is still sent when the session moved or expired, as ZooKeeper does;
// a client that does not read is cut off.
func (c *conn) Kill(reason error) {
	if errors.Is(reason, ensemble.ErrSessionMoved) || errors.Is(reason, ensemble.ErrSessionExpired) {
		c.finish(reason)
		return
	}
	c.die(reason)
}

// finish lets the writer send what is queued and then ends the connection. It does not block.
func (c *conn) finish(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishLocked(reason)
}

func (c *conn) finishLocked(reason error) {
	if c.dead || c.closing {
		return
	}
	c.closing, c.reason = true, reason
	now := time.Now()
	_ = c.nc.SetReadDeadline(past)               // errors: the socket is closed, which is what is wanted
	_ = c.nc.SetWriteDeadline(now.Add(farewell)) //
	c.writable.Broadcast()
	c.readable.Broadcast()
}

// die ends the connection at once. It does not block.
func (c *conn) die(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dieLocked(reason)
}

func (c *conn) dieLocked(reason error) {
	if c.dead {
		return
	}
	c.dead = true
	if c.reason == nil {
		c.reason = reason
	}
	_ = c.nc.SetDeadline(past) // an error means that the socket is closed, which is what is wanted
	c.writable.Broadcast()
	c.readable.Broadcast()
}

// past is a deadline that ends what reads or writes the socket.
var past = time.Unix(1, 0)

// queued notes that n bytes were added to out, and wakes the writer. The connection's lock is held.
func (c *conn) queued(n int) {
	c.s.outboxes.Add(int64(n))
	if !c.sender {
		c.writable.Signal()
	}
}

// queuedDirect notes that n bytes were added to out by the reader, which sends them itself before it does anything that
// may take long: waking the writer for each answer would cost more than the answer.
func (c *conn) queuedDirect(n int) { c.s.outboxes.Add(int64(n)) }

// overflows tells whether the outbox is beyond what may wait, the last answer not counted: one answer may be as long as
// the children of a node are many. The connection's lock is held.
func (c *conn) overflows(answer int) bool {
	waits := len(c.out) + c.sending
	return waits-answer > c.s.cfg.Limits.OutboxBytesMax || waits > outboxShare && c.s.outboxes.Load() > c.s.cfg.Limits.OutboxesBytesMax
}

// sendDirect sends from the reader's goroutine, when nobody else does: a client that waits for each answer is answered
// without waking another goroutine.
func (c *conn) sendDirect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && !c.sender && !c.dead && !c.closing {
		c.send()
	}
}

// sendBefore makes sure that somebody sends what is queued while the reader waits for something else. The connection's
// lock is held.
func (c *conn) sendBefore() {
	if len(c.out) > 0 && !c.sender {
		c.writable.Signal()
	}
}

// writeLoop sends what is queued and answers reads that wait, until the connection ends.
func (c *conn) writeLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.dead:
			return
		case c.sender:
			c.writable.Wait()
		case len(c.out) > 0:
			c.send()
		case c.closing:
			return
		case c.queue.ready():
			c.mu.Unlock()
			err := c.view(c.runQueue)
			c.mu.Lock()
			if err != nil {
				c.dieLocked(err)
			}
		default:
			c.writable.Wait()
		}
	}
}

// send writes all of out. The connection's lock is held, and let go of meanwhile.
func (c *conn) send() {
	b := c.out
	c.out, c.spare = c.spare[:0], nil
	c.sending, c.sender = len(b), true
	if !c.closing {
		c.extendWriteDeadline()
	}
	c.mu.Unlock()
	_, err := c.nc.Write(b)
	c.mu.Lock()
	c.s.outboxes.Add(-int64(len(b)))
	c.s.stats.bytesSent.Add(len(b))
	c.sending, c.sender = 0, false
	if cap(b) <= 4*pooledBytes {
		c.spare = b[:0]
	}
	if err != nil {
		c.dieLocked(fmt.Errorf("send: %w", err))
	}
	c.readable.Signal()
	if c.closing || c.dead || len(c.out) > 0 || c.queue.ready() {
		c.writable.Signal()
	}
}

// extendWriteDeadline gives the peer the session's timeout to take bytes; the session of a slower one is as good as gone.
// A deadline that was set lately is left as it is. The connection's lock is held.
func (c *conn) extendWriteDeadline() {
	patience := max(time.Duration(c.timeout.Load()), sendTimeoutMin)
	now := time.Now()
	if now.Sub(c.writeDeadlineSet) < patience/8 {
		return
	}
	c.writeDeadlineSet = now
	_ = c.nc.SetWriteDeadline(now.Add(patience)) // a closed socket shows at the write
}

// discard gives up what was never sent. The connection's lock is held; both goroutines have ended.
func (c *conn) discard() {
	c.s.outboxes.Add(-int64(len(c.out)))
	c.out, c.spare = nil, nil
	c.dead = true
	for s := c.queue.first(); s != nil; s = c.queue.first() {
		c.queue.pop()
		c.left(s)
	}
}
