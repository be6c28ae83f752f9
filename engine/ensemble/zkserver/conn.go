package zkserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/znode"
)

// inputBytes is the read buffer of a connection: some dozens of requests of the usual size.
const inputBytes = 4 << 10

// conn is one connection. The goroutine that runs serve is its reader; a second one is its writer.
type conn struct {
	s           *Server
	nc          net.Conn
	remote      netip.AddrPort
	established time.Time

	// The reader's own.
	in          *bufio.Reader
	frame       []byte
	header      [4]byte
	request     request
	decoder     jute.Reader
	deadlineSet time.Duration // when the read deadline was set last; 0: set it anew
	touched     time.Duration // when the session was touched last

	access  atomic.Pointer[znode.Access]
	session atomic.Int64
	timeout atomic.Int64 // the session's, as a time.Duration
	// oldForm says that the client did not send readOnly and is not sent it.
	oldForm bool
	// readOnly says that the server was read-only when the session began: the connection ends when it is so no more.
	readOnly bool
	// local says that the session was this server's own when it was last looked at; leaving, that its client has closed it.
	local   atomic.Bool
	leaving bool

	// turn is held by whoever answers reads: one at a time, so that their order is the requests'. It is taken inside
	// Ensemble.View or in a write's After, never before the ensemble's lock; mu and the watches' lock come after it.
	turn sync.Mutex
	// runDirect, runQueue, before and after are method values, made once because they are passed with every request.
	runDirect, runQueue, before, after func(*znode.Tree, *ensemble.Watches)

	mu       sync.Mutex // protects the fields below; nothing is called while it is held but the socket's deadlines
	writable sync.Cond  // there is something for the writer to do
	readable sync.Cond  // a paused reader may look again
	queue    queue
	out      []byte // replies and events to be sent
	spare    []byte
	sending  int // bytes that are being sent now
	sender   bool
	// closing: nothing more is queued; what is queued is sent, then the connection ends. dead: it ends at once.
	closing, dead bool
	reason        error
	lastZxid      int64
	paused        bool // the reader waits: the socket is not read

	writeDeadlineSet time.Time
	tally            tally
}

// tally is what cons shows of a connection.
type tally struct {
	received, sent int64
	latency        zkadmin.Latency
	lastOp         jute.OpCode
	lastCxid       int64
	lastResponse   time.Duration
	lastLatency    int64
	lastHeard      time.Duration
}

func newConn(s *Server, nc net.Conn, remote netip.AddrPort) *conn {
	now := s.deps.Clock.Now()
	c := &conn{s: s, nc: nc, remote: remote, established: now.Wall, in: bufio.NewReaderSize(nc, inputBytes)}
	c.writable.L, c.readable.L = &c.mu, &c.mu
	c.runDirect, c.runQueue, c.before, c.after = c.answerDirect, c.answerQueue, c.answerBefore, c.answerAfter
	c.access.Store(newAccess(remote.Addr(), s.cfg.SkipACL))
	c.tally.lastHeard, c.tally.lastCxid = now.Mono, -1
	return c
}

// serve runs the connection to its end.
func (c *conn) serve() {
	defer c.nc.Close()                                             //nolint:errcheck // everything that matters was sent by then
	_ = c.nc.SetDeadline(time.Now().Add(c.s.cfg.HandshakeTimeout)) // a closed socket shows at the first read
	opened, err := c.handshake()
	if !opened {
		c.die(err)
		c.log(err)
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.writeLoop()
	}()
	err = c.readLoop()
	if err != nil {
		c.die(err)
	}
	<-written
	c.s.deps.Ensemble.Detach(c.session.Load(), c)
	if c.leaving {
		c.s.deps.Ensemble.CloseLocal(c.session.Load())
	}
	c.mu.Lock()
	graceful := c.closing && !c.dead
	c.discard()
	reason := c.reason
	c.mu.Unlock()
	if graceful {
		c.linger()
	}
	c.log(reason)
}

// readLoop reads requests until the connection ends. It returns nil when the writer is to send what is queued first.
func (c *conn) readLoop() error {
	for {
		if !c.room() {
			return nil
		}
		length, err := c.readLength()
		if err != nil {
			return c.readError(err)
		}
		if err := jute.CheckFrame(length, c.s.cfg.Limits.FrameBytesMax); err != nil {
			return err
		}
		last, err := c.receive(int(length))
		if err != nil || last {
			return err
		}
		if !c.buffered() {
			c.sendDirect()
		}
	}
}

// buffered tells whether the next frame is in memory whole, so that it can be answered without waiting for the socket.
func (c *conn) buffered() bool {
	n := c.in.Buffered()
	if n < len(c.header) {
		return false
	}
	head, err := c.in.Peek(len(c.header))
	return err == nil && int64(n) >= int64(len(c.header))+int64(binary.BigEndian.Uint32(head))
}

// room waits until the connection may be read again: until its pipeline and its outbox have room, and, while the server
// has more requests under way than it should, until none of them is this connection's. False: the connection ends.
func (c *conn) room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead && !c.closing && c.full() {
		c.paused = true
		c.sendBefore()
		c.readable.Wait()
		c.deadlineSet = 0 // what waited in the socket meanwhile is no silence
	}
	c.paused = false
	return !c.dead && !c.closing
}

func (c *conn) full() bool {
	waits := c.queue.len()
	return waits >= c.s.cfg.Limits.PipelineMax || len(c.out)+c.sending > outboxSoft ||
		waits > 0 && (c.s.outstanding.Load() > int64(c.s.cfg.OutstandingMax) || c.s.parked.Load() > c.s.cfg.Limits.ProposalsBytesMax)
}

// largeFrame is the length from which frames that are being received share LargeFramesBytesMax.
const largeFrame = 64 << 10

// receive reads and takes one request.
func (c *conn) receive(length int) (last bool, err error) {
	if !c.s.largeRequests.fits(length) {
		c.s.stats.largeRejected.Inc()
		return false, errLargeRequest
	}
	if length > largeFrame {
		c.sendDirect()
		waited, ok := c.s.large.enter(int64(length))
		if !ok {
			return false, ErrClosed
		}
		if waited {
			c.deadlineSet = 0 // what waited in the socket meanwhile is no silence
			c.extendDeadline()
		}
		defer c.s.large.leave(int64(length))
	}
	if c.frame == nil {
		c.frame = takeFrame()
	}
	if c.frame, err = readFrame(c.in, c.frame, length); err != nil {
		err = c.readError(err)
		return err == nil, err
	}
	c.s.stats.bytesReceived.Add(length)
	if last, err = c.accept(); cap(c.frame) > 4*pooledBytes {
		c.frame = nil // a rare long frame does not stay with its connection
	}
	c.s.largeRequests.leave(c.request.large) // it was answered at once, or refused
	c.request.large = 0
	return last, err
}

func (c *conn) readLength() (int32, error) {
	c.extendDeadline()
	if _, err := io.ReadFull(c.in, c.header[:]); err != nil {
		return 0, err
	}
	return int32(binary.BigEndian.Uint32(c.header[:])), nil
}

// extendDeadline keeps a session's connection open for its timeout and a tick of silence, as ZooKeeper does. It goes by
// the time of the last request, which was just now or the reader was paused; looking at the clock again, and setting a
// deadline, for every request would cost more than many a request.
func (c *conn) extendDeadline() {
	timeout := time.Duration(c.timeout.Load())
	if c.deadlineSet != 0 && c.request.began-c.deadlineSet < timeout/16 {
		return
	}
	c.deadlineSet = max(c.request.began, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead && !c.closing { // whoever ends the connection has put the deadline into the past
		_ = c.nc.SetReadDeadline(time.Now().Add(timeout + timeout/16 + c.s.cfg.TickTime)) // a closed socket shows at the next read
	}
}

// readError says why reading ended: the reason that was given for ending the connection comes first. Nil means that the
// writer still has something to send.
func (c *conn) readError(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing && !c.dead:
		return nil
	case c.reason != nil:
		return c.reason
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errClientLeft
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return fmt.Errorf("nothing was heard for %v", time.Duration(c.timeout.Load())+c.s.cfg.TickTime)
	}
	return err
}

var errClientLeft = errors.New("the client closed the connection")

// linger lets the peer receive the last bytes: closing a socket while unread input waits makes the kernel reset the
// connection, and the peer then loses what it had not read yet.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(farewell)) // a closed socket shows at the read
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)     // EOF is what is waited for
}

// lingerBytes is how much unread input is thrown away before a connection is closed in spite of it.
const lingerBytes = 64 << 10

func (c *conn) log(reason error) {
	log := c.s.deps.Observer.Log
	if reason == nil || errors.Is(reason, errClientLeft) || errors.Is(reason, errAnswered) || errors.Is(reason, errNoToken) || errors.Is(reason, ErrClosed) {
		log.Debug("connection closed", "remote", c.remote.String(), "session", sessionName(c.session.Load()), "reason", reason)
		return
	}
	c.s.stats.dropped.Inc()
	log.Info("connection closed", "remote", c.remote.String(), "session", sessionName(c.session.Load()), "reason", reason)
}

func sessionName(id int64) string { return fmt.Sprintf("0x%x", uint64(id)) }
