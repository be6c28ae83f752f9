package kafkaserver

import (
	"fmt"
	"slices"

	"cairn/engine/broker/wire"
	"cairn/platform/sockio"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// send sends every answer whose turn has come. If the other goroutine is sending, it will see what is ready.
func (c *conn) send() {
	c.mu.Lock()
	if c.sending || c.closed {
		c.mu.Unlock()
		return
	}
	c.sending = true
	c.mu.Unlock()
	var failed error
	for failed == nil {
		batch := c.readyOnes()
		if len(batch) == 0 {
			return
		}
		failed = c.sendBatch(batch)
		c.finish(batch)
	}
	c.mu.Lock()
	c.sending = false
	c.mu.Unlock()
	c.shut(failed)
}

// readyOnes are the answers at the head of the queue, but not that of a request whose handler still runs: the reader
// will send it, and until then the request may not be used again. With none, this goroutine is no longer the one that sends: both
// are decided under the lock, so that no answer is left behind.
func (c *conn) readyOnes() []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.queue) && c.queue[n].ready && !c.queue[n].inline {
		n++
		if c.queue[n-1].close != "" {
			break
		}
	}
	if n == 0 || c.closed {
		c.sending = false
		return nil
	}
	for _, r := range c.queue[:n] {
		r.taken = true
	}
	c.batch = append(c.batch[:0], c.queue[:n]...)
	return c.batch
}

// sendBatch sends answers in one go.
func (c *conn) sendBatch(batch []*request) error {
	var store [8]sockio.Part
	parts := store[:0]
	var refused error
	for _, r := range batch {
		if r.close != "" {
			refused = fmt.Errorf("%s version %d: %s", r.api.name, r.version, r.close)
			break
		}
		if r.message != nil {
			r.encoded = c.server.buffers.get()
			*r.encoded = appendAnswer((*r.encoded)[:0], r.correlation, r.message)
			r.message = nil
			r.bytes = int64(len(*r.encoded))
			c.server.budget.force(r.bytes)
		}
		if r.encoded != nil {
			parts = append(parts, sockio.Part{Bytes: *r.encoded})
		}
		parts = append(parts, r.parts...)
	}
	if len(parts) > 0 {
		if _, err := c.writer.Send(parts); err != nil {
			return err
		}
	}
	return refused
}

func appendAnswer(dst []byte, correlation int32, m kmsg.Response) []byte {
	if p, ok := m.(*kmsg.ProduceResponse); ok {
		return wire.AppendProduceResponse(dst, correlation, p)
	}
	return wire.AppendResponse(dst, correlation, m)
}

// finish takes answers that have left, or never will, out of the queue.
func (c *conn) finish(batch []*request) {
	now := c.server.deps.Clock.Now().Mono
	for _, r := range batch {
		r.finish(now)
	}
	c.mu.Lock()
	for _, r := range batch {
		c.bytes -= r.frameCost
	}
	c.queue = slices.DeleteFunc(c.queue, func(r *request) bool { return r.taken })
	c.mu.Unlock()
	for _, r := range batch {
		c.server.recycle(r)
	}
	signal(c.moved)
}
