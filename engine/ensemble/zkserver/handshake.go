package zkserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/znode"
)

// errAnswered ends a connection that asked for a word.
var errAnswered = errors.New("word answered")

// handshake reads what a fresh connection begins with: a four-letter word, which is answered, or a ConnectRequest. True
// means that the connection has a session, and its ConnectResponse is queued.
func (c *conn) handshake() (bool, error) {
	if _, err := io.ReadFull(c.in, c.header[:]); err != nil {
		return false, c.handshakeError(err)
	}
	if name, ok := zkadmin.Word(c.header); ok {
		return false, c.answerWord(name)
	}
	length := int32(binary.BigEndian.Uint32(c.header[:]))
	if err := jute.CheckFrame(length, min(handshakeBytesMax, c.s.cfg.Limits.FrameBytesMax)); err != nil {
		return false, err
	}
	frame, err := readFrame(c.in, make([]byte, 0, length), int(length))
	if err != nil {
		return false, c.handshakeError(err)
	}
	c.s.stats.received.Add(1)
	c.mu.Lock()
	c.tally.received++
	c.mu.Unlock()
	var q jute.ConnectRequest
	r := jute.NewReader(frame)
	q.Read(r)
	if r.Err() != nil {
		return false, fmt.Errorf("connect request: %w", r.Err())
	}
	return c.connect(&q)
}

func (c *conn) handshakeError(err error) error {
	if errors.Is(err, io.EOF) {
		return errClientLeft
	}
	return fmt.Errorf("handshake: %w", err)
}

// answerWord writes the text and lets the client close first.
func (c *conn) answerWord(name string) error {
	argument := make([]byte, c.s.admin.WordArgument(name))
	if _, err := io.ReadFull(c.in, argument); err != nil {
		return c.handshakeError(err)
	}
	c.s.stats.received.Add(1)
	c.mu.Lock()
	c.tally.received++
	c.paused = true // no request will be read from it
	c.mu.Unlock()
	if _, err := io.WriteString(c.nc, c.s.admin.Answer(name, argument)); err != nil {
		return fmt.Errorf("answer %s: %w", name, err)
	}
	c.linger()
	return errAnswered
}

// connect opens or reopens a session (ZooKeeperServer.processConnectRequest).
func (c *conn) connect(q *jute.ConnectRequest) (bool, error) {
	if !c.s.token(q.SessionID != 0) {
		c.s.stats.rejected.Inc()
		return false, errNoToken
	}
	c.s.stats.connectRequests.Inc()
	c.oldForm = !q.HasReadOnly
	var zxid int64
	look := func(t *znode.Tree, _ *ensemble.Watches) { zxid = t.Zxid() }
	err := c.s.deps.Ensemble.View(look)
	if errors.Is(err, ensemble.ErrNoQuorum) && c.s.deps.Ensemble.ReadOnly() {
		if !q.ReadOnly {
			return false, errWantsWrites
		}
		c.readOnly = true
		err = c.view(look)
	}
	if err != nil {
		return false, err
	}
	if q.LastZxidSeen > zxid {
		return false, fmt.Errorf("refusing session %s: the client has seen zxid 0x%x, our last zxid is 0x%x, client must try another server",
			sessionName(q.SessionID), uint64(q.LastZxidSeen), uint64(zxid))
	}
	if c.readOnly {
		err = c.s.deps.Ensemble.ConnectReadOnly(q.SessionID, q.Passwd, q.TimeoutMs, c, c.welcome)
	} else {
		err = c.open(q)
	}
	if err == nil {
		return true, nil
	}
	if errors.Is(err, ensemble.ErrSessionExpired) {
		if sendErr := c.rejectSession(); sendErr != nil {
			return false, sendErr
		}
		return false, fmt.Errorf("invalid session %s, probably expired: %w", sessionName(q.SessionID), err)
	}
	return false, err
}

// errWantsWrites ends a connection that a read-only server has nothing for.
var errWantsWrites = errors.New("refusing session request for not-read-only client: this server has no quorum")

// open asks the ensemble for a session and waits for its word.
func (c *conn) open(q *jute.ConnectRequest) error {
	// The grant comes on the ensemble's goroutine, and with it the first events may come too: the response is queued there.
	granted := make(chan error, 1)
	done := func(g ensemble.Grant, err error) {
		if err == nil {
			c.welcome(g)
		}
		granted <- err
	}
	if q.SessionID == 0 {
		c.s.deps.Ensemble.CreateSession(q.TimeoutMs, c, done)
	} else {
		c.s.stats.revalidated.Inc()
		c.s.deps.Ensemble.Reattach(q.SessionID, q.Passwd, q.TimeoutMs, c, done)
	}
	return <-granted
}

// welcome queues the ConnectResponse of a granted session. It runs under the ensemble's lock, mostly.
func (c *conn) welcome(g ensemble.Grant) {
	timeout := time.Duration(g.TimeoutMs) * time.Millisecond
	c.session.Store(g.Session)
	c.local.Store(g.Local)
	c.timeout.Store(int64(timeout))
	c.mu.Lock()
	defer c.mu.Unlock()
	p := jute.ConnectResponse{TimeoutMs: g.TimeoutMs, SessionID: g.Session, Passwd: g.Password[:], HasReadOnly: !c.oldForm, ReadOnly: c.readOnly}
	before := len(c.out)
	var start int
	c.out, start = jute.AppendFrame(c.out)
	c.out = p.Append(c.out)
	jute.EndFrame(c.out, start)
	c.queued(len(c.out) - before)
	c.tally.sent++
	c.s.stats.sent.Add(1)
	if !c.dead { // the writer is not running yet, and the handshake's deadline must not end the session's first write
		_ = c.nc.SetDeadline(time.Now().Add(timeout + c.s.cfg.TickTime)) // a closed socket shows at the next read
	}
}

// rejectSession tells a client that its session is gone: zeros, then the connection is closed.
func (c *conn) rejectSession() error {
	p := jute.ConnectResponse{Passwd: make([]byte, 16), HasReadOnly: !c.oldForm, ReadOnly: c.readOnly}
	b, start := jute.AppendFrame(nil)
	b = p.Append(b)
	jute.EndFrame(b, start)
	if _, err := c.nc.Write(b); err != nil {
		return fmt.Errorf("reject a session: %w", err)
	}
	c.s.stats.sent.Add(1)
	c.linger()
	return nil
}
