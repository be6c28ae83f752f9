package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"cairn/packaging/bench/frames"
)

// frameBytesMax bounds a response, so that a broken length fails the run instead of the machine.
const frameBytesMax = 128 << 20

// perSource is how many connections come from one loopback address. ZooKeeper servers admit 60 from one (maxClientCnxns).
const perSource = 50

// flushAt bounds what a connection collects before it writes.
const flushAt = 256 << 10

// conn keeps a window of requests in flight. Responses come in the order of the requests, as Kafka and ZooKeeper promise.
type conn struct {
	net    net.Conn
	talker Talker
	run    *run
	index  int
	in     *bufio.Reader
	out    []byte
	frame  []byte
	sent   []time.Time // by id modulo window
	next   uint32      // id of the next request
	done   bool        // the talker has no more requests
	oldest uint32      // id of the oldest request in flight
}

func dial(ctx context.Context, r *run, i int) (*conn, error) {
	nc, err := dialFrom(ctx, i, r.plan.address(i))
	if err != nil {
		return nil, err
	}
	c := &conn{net: nc, talker: r.plan.Talker(i), run: r, index: i, in: bufio.NewReaderSize(nc, 64<<10), sent: make([]time.Time, r.plan.Window)}
	c.next, c.oldest = 1, 1
	_ = nc.SetDeadline(time.Now().Add(patience))
	if err := c.talker.Open(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connection %d: %w", i, err)
	}
	_ = nc.SetDeadline(time.Time{})
	return c, nil
}

// dialFrom dials from a loopback address that the i-th connection shares with few others.
func dialFrom(ctx context.Context, i int, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/perSource))}}
	return d.DialContext(ctx, "tcp", address)
}

// drive sends until the run stops, and then reads what is still in flight.
func (c *conn) drive() error {
	for range c.run.plan.Window {
		c.send()
	}
	for c.oldest != c.next || len(c.out) > 0 {
		if len(c.out) > 0 && (c.in.Buffered() == 0 || len(c.out) > flushAt) {
			_ = c.net.SetDeadline(time.Now().Add(patience))
			if _, err := c.net.Write(c.out); err != nil {
				return fmt.Errorf("connection %d: %w", c.index, err)
			}
			c.out = c.out[:0]
		}
		if err := c.receive(); err != nil {
			return fmt.Errorf("connection %d, request %d: %w", c.index, c.oldest, err)
		}
		c.send()
	}
	return nil
}

func (c *conn) send() {
	if c.done || !c.run.take() {
		return
	}
	before := len(c.out)
	if c.out = c.talker.Append(c.out, c.next); len(c.out) == before {
		c.done = true
		return
	}
	c.sent[c.next%uint32(len(c.sent))] = time.Now()
	c.next++
}

func (c *conn) receive() error {
	return c.receiveSince(c.sent[c.oldest%uint32(len(c.sent))])
}

// receiveSince reads the response to the oldest request, which was sent, or was to be sent, at a time.
func (c *conn) receiveSince(sent time.Time) error {
	frame, err := ReadFrame(c.in, c.frame)
	if err != nil {
		return err
	}
	c.frame = frame
	if len(frame) < 8 {
		return fmt.Errorf("a response of %d bytes is too short", len(frame))
	}
	if id := frames.ResponseCorrelation(frame); id != c.oldest {
		return fmt.Errorf("the response is to %d", id)
	}
	payload, err := c.talker.Check(frame)
	if err != nil {
		return err
	}
	if c.run.measured.Load() {
		c.run.latency[c.index].observe(time.Since(sent))
	}
	c.oldest++
	count := &c.run.counts[c.index]
	count.requests.Add(1)
	count.payload.Add(uint64(payload))
	return nil
}

// ReadFrame reads a frame into buf, or into a larger one if it needs it, and returns it with its length bytes.
func ReadFrame(in io.Reader, buf []byte) ([]byte, error) {
	if cap(buf) < 4 {
		buf = make([]byte, 4, 4<<10)
	}
	buf = buf[:4]
	if _, err := io.ReadFull(in, buf); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(buf)
	if size > frameBytesMax {
		return nil, fmt.Errorf("a frame says that it has %d bytes", size)
	}
	whole := 4 + int(size)
	if cap(buf) < whole {
		buf = append(make([]byte, 0, whole), buf...)
	}
	buf = buf[:whole]
	_, err := io.ReadFull(in, buf[4:])
	return buf, err
}
