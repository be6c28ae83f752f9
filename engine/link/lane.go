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
}

func newLane(l *Link, id laneID, address string) *lane {
	w := &lane{l: l, id: id, address: address, wake: make(chan struct{}, 1)}
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
	select {
	case w.wake <- struct{}{}:
	default:
	}
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
	h := w.l.handlers[w.id.protocol]
	wait, said := redialMin, ""
	for w.ctx.Err() == nil {
		c, err := w.l.dial(w.ctx, w.id, w.address)
		if err != nil {
			if text := err.Error(); text != said && w.ctx.Err() == nil {
				said = text
				w.l.deps.Observer.Log.Info("no connection to another box", "box", w.id.to, "address", w.address, "error", err)
			}
			w.pause(wait, h)
			wait = min(2*wait, redialMax)
			continue
		}
		wait, said = redialMin, ""
		if !w.connected(c) {
			return
		}
		w.write(c, h)
		w.disconnected(c)
		if _, lost := w.take(); lost {
			h.Lost(w.id.to)
		}
	}
}

// pause waits before the next dial, and goes on telling of what is lost.
func (w *lane) pause(wait time.Duration, h Handler) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-w.ctx.Done():
			return
		case <-w.wake:
			if _, lost := w.take(); lost {
				h.Lost(w.id.to)
			}
		}
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

func (w *lane) disconnected(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn, w.up = nil, false
	w.lost = w.lost || len(w.queue) > 0
}

// write sends what is queued until the connection fails. A probe goes out while there is nothing to say, and must be
// answered.
func (w *lane) write(c net.Conn, h Handler) {
	answers := make(chan struct{}, 1)
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		readAnswers(c, answers)
	}()
	defer func() {
		_ = c.Close()
		<-failed
	}()
	ticker := time.NewTicker(probeInterval[w.id.kind])
	defer ticker.Stop()
	unanswered := 0
	var buffers net.Buffers
	for {
		select {
		case <-failed:
			return
		case <-w.ctx.Done():
			return
		case <-answers:
			unanswered = 0
			continue
		case <-ticker.C:
			if unanswered == silentProbes {
				w.l.deps.Observer.Log.Info("a box is silent", "box", w.id.to, "address", w.address)
				w.markLost()
				w.l.abort(w.id.to, w.id.protocol)
				return
			}
			unanswered++
			buffers = append(buffers, make([]byte, 4))
		case <-w.wake:
		}
		queue, lost := w.take()
		if lost {
			h.Lost(w.id.to)
		}
		for _, b := range queue {
			buffers = append(buffers, binary.BigEndian.AppendUint32(nil, uint32(len(b))), b)
		}
		_ = c.SetWriteDeadline(time.Now().Add(idleMax))
		if _, err := buffers.WriteTo(c); err != nil {
			w.markLost()
			return
		}
		buffers = nil
	}
}

func (w *lane) markLost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = true
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
