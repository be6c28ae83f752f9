package link

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// lane is the way of one kind of messages to one peer: a bounded queue, and a goroutine that dials and writes.
type lane struct {
	l       *Link
	id      laneID
	address string
	ctx     context.Context // ends with the lane or the link
	cancel  context.CancelFunc

	mu     sync.Mutex // protects what follows; nothing is called while it is held
	queue  [][]byte
	bytes  int
	up     bool // connected: what is put is queued
	lost   bool // something was lost and the handler has not been told
	conn   net.Conn
	closed bool
	wake   chan struct{} // of one; said when there is something to do

	doubted chan struct{} // of one; said when another lane to the same box is not answered
}

func newLane(l *Link, id laneID, address string) *lane {
	w := &lane{l: l, id: id, address: address, wake: make(chan struct{}, 1), doubted: make(chan struct{}, 1)}
	w.ctx, w.cancel = context.WithCancel(l.ctx)
	return w
}

// put queues a message, or notes its loss.
func (w *lane) put(b []byte) {
	w.mu.Lock()
	// A lane that is not connected keeps nothing: what is old when the peer comes back helps nobody.
	if !w.up || len(w.queue) >= w.l.cfg.QueueMax || w.bytes+len(b) > w.l.cfg.QueueBytesMax || len(b) > w.l.cfg.MessageBytesMax {
		w.lost = true
	} else {
		w.queue = append(w.queue, b)
		w.bytes += len(b)
	}
	w.mu.Unlock()
	w.wakeUp()
}

// take empties the queue, and says whether something was lost since it was asked last.
func (w *lane) take() (queue [][]byte, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue, lost = w.queue, w.lost
	w.queue, w.bytes, w.lost = nil, 0, false
	return queue, lost
}

// run dials and writes until the lane is closed.
func (w *lane) run() {
	for w.ctx.Err() == nil {
		var old net.Conn
		unanswered := 0 // probes, over all connections since the last answer
		for c := w.reach(); c != nil; {
			if !w.connected(c) {
				closeOne(old)
				break
			}
			c, old = w.write(c, old, &unanswered), c
		}
		w.disconnected()
	}
}

// tellLost tells the handler when something was lost.
func (w *lane) tellLost(lost bool) {
	if lost {
		w.l.handlers[w.id.protocol].Lost(w.id.to, w.id.kind == kindUrgent)
	}
}

func (w *lane) connected(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		_ = c.Close()
		return false
	}
	w.conn, w.up = c, true
	return true
}

func (w *lane) disconnected() {
	w.mu.Lock()
	w.conn, w.up = nil, false
	w.lost = w.lost || len(w.queue) > 0
	w.mu.Unlock()
	_, lost := w.take()
	w.tellLost(lost)
}

// write sends what is queued until the connection fails, and returns the one that takes its place, if there is one already.
// A probe goes out while there is nothing to say, and must be answered. A connection whose probes are not answered may be one
// that TCP has given up on but for a try now and then, as it does behind a link that fails for a moment and again: another is
// dialled beside it, and takes its place when the other box greets it and still answers nothing on this one. The old one is
// closed when the next has been answered, or has failed too, and not before: the other box would take its end for this box's.
func (w *lane) write(c, old net.Conn, unanswered *int) (next net.Conn) {
	answers := make(chan struct{}, 1)
	failed := make(chan struct{})
	w.l.running.Add(1)
	go func() {
		defer w.l.running.Done()
		defer close(failed)
		readAnswers(c, answers)
	}()
	said := false // what was written when the connection ends may not have come
	defer func() {
		if said {
			w.markLost()
		}
		closeOne(old)
		if next == nil {
			closeOne(c)
		}
	}()
	interval := probeInterval[w.id.kind]
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var spare spare
	defer spare.stop()
	var ready net.Conn // the spare, greeted
	defer func() {
		if ready != next {
			closeOne(ready)
		}
	}()
	var adopt <-chan time.Time
	buffers := net.Buffers{make([]byte, 4)} // a first probe: only what says something is taken for the lane's connection
	for {
		if len(buffers) > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(idleMax))
			if _, err := buffers.WriteTo(c); err != nil {
				return nil
			}
			buffers = nil
		}
		select {
		case <-failed:
			return ready
		case <-w.ctx.Done():
			return nil
		case ready = <-spare.connected:
			adopt = time.After(adoptPause)
			continue
		case <-adopt:
			w.l.abandon(w)
			return ready
		case <-answers:
			closeOne(old)
			closeOne(ready)
			old, ready, adopt, *unanswered = nil, nil, nil, 0
			spare.stop()
			ticker.Reset(interval)
			continue
		case <-w.doubted:
			*unanswered = max(*unanswered, 1)
			ticker.Reset(probeInterval[kindUrgent])
			buffers = append(buffers, make([]byte, 4))
		case <-ticker.C:
			if *unanswered >= silentProbes {
				w.l.deps.Observer.Log.Info("a box is silent", "box", w.id.to, "address", w.address)
				w.l.abort(w.id.to, w.id.protocol)
				return nil
			}
			if *unanswered++; *unanswered == doubtfulProbes {
				spare.start(w)
				w.l.doubt(w)
			}
			buffers = append(buffers, make([]byte, 4))
		case <-w.wake:
		}
		queue, lost := w.take()
		w.tellLost(lost)
		for _, b := range queue {
			buffers = append(buffers, binary.BigEndian.AppendUint32(nil, uint32(len(b))), b)
			said = true
		}
	}
}

func closeOne(c net.Conn) {
	if c != nil {
		_ = c.Close()
	}
}

func (w *lane) markLost() {
	w.mu.Lock()
	w.lost = true
	w.mu.Unlock()
	w.wakeUp()
}

func (w *lane) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// readAnswers reads the answers to probes until the connection ends.
func readAnswers(c net.Conn, answers chan<- struct{}) {
	var b [16]byte
	for {
		n, err := c.Read(b[:])
		if err != nil {
			return
		}
		for range n {
			select {
			case answers <- struct{}{}:
			default:
			}
		}
	}
}

// abort ends the lane's connection with a reset, which goes out at once: behind what the other box does not acknowledge,
// an orderly end would wait for it. Whoever still hears this box then knows that it is not heard.
func (w *lane) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return
	}
	if c, ok := w.conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = c.SetLinger(0) // without it the end is only slower
	}
	_ = w.conn.Close()
}

// close ends the lane.
func (w *lane) close() {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.conn != nil {
		_ = w.conn.Close()
	}
}
