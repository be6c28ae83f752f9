package kafkaserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"cairn/engine/broker/wire"
	"cairn/platform/sockio"
)

// conn is one client's connection. Its reading goroutine takes requests in, runs handlers and sends what they answer at
// once; its responder goroutine sends what comes later and runs continuations.
//
// Order: requests stand in queue from before their handler runs until their answer has left. One is handled at a time,
// except that requests of a pipelined API follow one another up to limits.PipelineMax.
type conn struct {
	server     *Server
	listener   *listener
	net        net.Conn
	reader     *bufio.Reader
	writer     *sockio.Writer
	clientAddr netip.Addr
	localHost  string // the address that the client came in on
	localPort  int32
	broker     int32 // of the box whose connection it is; -1: a client's
	session    int32 // its fetch session, 0: none; the reader's
	ctx        context.Context
	cancel     context.CancelFunc
	clientID   string // of the last request; the reader's

	work  chan struct{} // wakes the responder; holds at most one
	moved chan struct{} // wakes the reader when the queue got shorter; holds at most one

	mu       sync.Mutex // protects the fields below and the answers of the requests in queue; nothing is called while it is held
	queue    []*request // in order of arrival
	bytes    int64      // frames of the requests in queue
	tasks    []func()
	onClose  func()
	onNext   func()     // the request in hand waits, and is to end its wait when another is behind it
	sending  bool       // one goroutine at a time sends
	batch    []*request // what it sends
	closed   bool
	stopping bool // no further request is read
}

// readerBytes is the buffer of a connection: several small requests come with one read, larger bodies bypass it.
const readerBytes = 4 << 10

func newConn(s *Server, l *listener, nc net.Conn) *conn {
	c := &conn{
		server: s, listener: l, net: nc, broker: -1,
		reader: bufio.NewReaderSize(nc, readerBytes),
		writer: sockio.NewWriter(nc, sockio.Config{StallTimeout: s.limits.StallTimeout, Counters: &s.sent}),
		work:   make(chan struct{}, 1),
		moved:  make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.clientAddr = addrOf(nc.RemoteAddr())
	if local, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		c.localHost, c.localPort = local.AddrPort().Addr().Unmap().WithZone("").String(), int32(local.Port)
	}
	return c
}

// isBox says that this is the connection of another box, whose Fetch is a follower's.
func (c *conn) isBox() bool { return c.broker >= 0 }

func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Ends of a connection that let earlier requests be answered.
var (
	errStopping  = errors.New("server stops")
	errNotServed = errors.New("request is not served")
)

// orderly reports whether what is in hand is answered before the connection closes: the client has said something
// wrong, but is there.
func orderly(err error) bool {
	for _, target := range [...]error{errStopping, errNotServed, wire.ErrFrame, wire.ErrHeader, wire.ErrBody} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// read is the reading goroutine.
func (c *conn) read() {
	var err error
	for err == nil {
		err = c.next()
	}
	if orderly(err) {
		c.drain()
	}
	c.shut(err)
}

// next takes in one request and has it handled.
func (c *conn) next() error {
	route, length, err := c.await()
	if err != nil {
		return err
	}
	a := c.server.table.find(route.Key)
	switch {
	case a == nil:
		return fmt.Errorf("%w: API key %d", errNotServed, route.Key)
	case !a.serves(route.Version) && route.Key == wire.KeyApiVersions:
		return c.unknownApiVersions(a, route, length)
	case !a.serves(route.Version):
		return fmt.Errorf("%w: %s version %d", errNotServed, a.name, route.Version)
	case !a.records && length > c.server.limits.ControlFrameBytesMax:
		return fmt.Errorf("%w: %s of %d bytes, allowed %d", wire.ErrFrame, a.name, length, c.server.limits.ControlFrameBytesMax)
	}
	if err := c.waitTurn(a, int64(wire.FrameCost(length))); err != nil {
		return err
	}
	r, err := c.takeIn(a, route, length)
	if err != nil {
		return err
	}
	c.handle(r)
	return nil
}

// await waits for the beginning of a frame and reads length, key, version and correlation id without consuming them.
// While requests are in hand a silent client is not idle.
func (c *conn) await() (wire.Header, int, error) {
	for {
		if c.isStopping() {
			return wire.Header{}, 0, errStopping
		}
		if c.reader.Buffered() >= 4+wire.HeaderMin {
			break // it came with the one before: no deadline is needed
		}
		if idle := c.server.settings().ConnectionsIdle; idle > 0 {
			c.setReadDeadline(time.Now().Add(idle))
		} else {
			c.setReadDeadline(time.Time{})
		}
		_, err := c.reader.Peek(1)
		if err == nil {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if c.inHand() > 0 || c.isStopping() {
				continue
			}
			return wire.Header{}, 0, fmt.Errorf("idle: %w", err)
		}
		return wire.Header{}, 0, err
	}
	if c.reader.Buffered() < 4+wire.HeaderMin {
		_ = c.net.SetReadDeadline(time.Now().Add(c.server.limits.FrameTimeout))
	}
	b, err := c.reader.Peek(4 + wire.HeaderMin)
	if err != nil {
		if len(b) >= 4 {
			if _, lengthErr := wire.FrameLength([4]byte(b), c.server.limits.FrameBytesMax); lengthErr != nil {
				err = lengthErr
			}
		}
		return wire.Header{}, 0, err
	}
	n, err := wire.FrameLength([4]byte(b), c.server.limits.FrameBytesMax)
	if err != nil {
		return wire.Header{}, 0, err
	}
	return wire.ParseRoute(b[4:]), n, nil
}

// setReadDeadline sets the deadline unless the server stops, which has set one in the past.
func (c *conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		_ = c.net.SetReadDeadline(t)
	}
}

func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

func (c *conn) inHand() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// waitTurn waits until a request of that API may be taken in: nothing is in hand, or only requests of the same
// pipelined API and not too many of them.
func (c *conn) waitTurn(a *api, cost int64) error {
	for {
		c.mu.Lock()
		n := len(c.queue)
		free := n == 0 || a.pipelined && c.queue[n-1].api == a &&
			n < c.server.limits.PipelineMax && c.bytes+cost <= c.server.limits.RequestBytesPerConnectionMax
		hurry := c.onNext
		c.onNext = nil
		c.mu.Unlock()
		if free {
			return nil
		}
		if hurry != nil {
			hurry()
		}
		select {
		case <-c.moved:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// bulkyBytes is the room that a bulky request waits for before it makes its answer, whose size nobody knows yet.
const bulkyBytes = 64 << 10

// makeRoom waits for a bulky request's place and, with the place taken, for room again: answers that have been made since
// it was let in may have used it. By the time that it gives up, those that nobody reads have been dropped, so that what
// is missing is held by requests which wait themselves.
func (c *conn) makeRoom(r *request) bool {
	s := c.server
	select {
	case s.bulky <- struct{}{}:
		r.bulky = true
	case <-c.ctx.Done():
		return true // nobody reads the answer
	}
	ctx, cancel := context.WithTimeout(c.ctx, s.limits.StallTimeout)
	defer cancel()
	if !s.budget.takeMore(bulkyBytes, ctx.Done()) {
		return c.ctx.Err() != nil
	}
	r.cost += bulkyBytes
	return true
}

// handle runs the handler and sends what is ready.
func (c *conn) handle(r *request) {
	if r.api.bulky && !c.makeRoom(r) {
		r.closeConn("no memory for the answer")
	} else {
		r.api.handle(c.server, r)
	}
	c.mu.Lock()
	r.inline = false
	c.mu.Unlock()
	c.send()
}

// complete marks a request as answered. It may be called from any goroutine and does not block. The request's frame is
// free from here on.
func (c *conn) complete(r *request) {
	s := c.server
	s.frames.Put(r.frame)
	if r.encoded != nil {
		r.bytes = int64(len(*r.encoded))
	}
	for _, p := range r.parts {
		r.bytes += int64(len(p.Bytes))
	}
	s.budget.force(r.bytes)
	s.budget.give(r.cost)
	if r.bulky {
		<-s.bulky
	}
	c.mu.Lock()
	r.frame = nil
	if !r.api.reused {
		r.body = nil
	}
	if !r.api.pipelined {
		c.onClose, c.onNext = nil, nil
	}
	r.ready = true
	closed := c.closed
	wake := !closed && !r.inline && c.queue[0] == r
	c.mu.Unlock()
	switch {
	case closed:
		r.finish(s.deps.Clock.Now().Mono)
	case wake:
		signal(c.work)
	}
}

func (c *conn) setOnClose(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.onClose = f
	return true
}

func (c *conn) setOnNext(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onNext = f
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// later queues a continuation for the responder.
func (c *conn) later(f func()) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.tasks = append(c.tasks, f)
	c.mu.Unlock()
	signal(c.work)
}

// respond is the responder goroutine.
func (c *conn) respond() {
	for {
		select {
		case <-c.work:
		case <-c.ctx.Done():
			return
		}
		c.mu.Lock()
		tasks := c.tasks
		c.tasks = nil
		c.mu.Unlock()
		for _, f := range tasks {
			f()
		}
		c.send()
	}
}

// drain waits, after the last request was read, until everything in hand has been answered.
func (c *conn) drain() {
	for c.inHand() > 0 {
		select {
		case <-c.moved:
		case <-c.ctx.Done():
			return
		}
	}
}

// stop has the connection close once what is in hand has been answered.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	_ = c.net.SetReadDeadline(time.Unix(1, 0))
}

// shut closes the connection. The first reason counts.
func (c *conn) shut(reason error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	onClose := c.onClose
	c.onClose, c.onNext, c.tasks = nil, nil, nil
	var unsent []*request // answers that nobody will read; those that are taken are the sender's, those not ready finish later
	for _, r := range c.queue {
		if r.ready && !r.taken {
			unsent = append(unsent, r)
		}
	}
	c.mu.Unlock()
	c.cancel()
	_ = c.net.Close()
	now := c.server.deps.Clock.Now().Mono
	for _, r := range unsent {
		r.finish(now)
	}
	if onClose != nil {
		onClose()
	}
	c.server.ended(c, reason)
}
