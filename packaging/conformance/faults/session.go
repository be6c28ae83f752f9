package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/packaging/conformance/boxes"
)

const (
	handshakeMax = 200 * time.Millisecond // a box that is stopped takes connections and says nothing
	roundPause   = 10 * time.Millisecond  // after all boxes refused
)

// Hooks are told what happens to a session, on its goroutine. Nil hooks are not called.
type Hooks struct {
	// Expired: a box said that the session is gone, so long after its client was last answered by any box.
	Expired func(session int64, timeout, silent time.Duration)
	// Connected, Lost and Fired are for histories.
	Connected func(c *conn, timeout time.Duration)
	Lost      func(c *conn)
	Fired     func(c *conn, zxid int64, e jute.WatcherEvent)
}

// Session is a ZooKeeper client that does what the Java client does, and more quickly: pings in a third of its timeout, a
// connection that was silent for two thirds is given up, and another box is asked at once. What is measured are the
// servers. It keeps its session over all connections, and makes a new one when that has expired.
type Session struct {
	cluster *boxes.Cluster
	asked   time.Duration
	pinned  bool // stays with its first box
	hooks   Hooks
	cancel  context.CancelFunc
	done    chan struct{}

	lastZxid atomic.Int64
	heardAt  atomic.Int64 // nanoseconds since began; of the last answer of any box
	began    time.Time

	// The goroutine's own.
	box      int
	password []byte
	timeout  time.Duration
	turns    int

	mu      sync.Mutex // protects what follows
	id      int64
	conn    *conn
	goal    int           // box to go to next; 0: the one after the last
	changed chan struct{} // closed when conn changes
}

// StartSession begins with the box that is named.
func StartSession(c *boxes.Cluster, box int, timeout time.Duration, pinned bool, hooks Hooks) *Session {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Session{
		cluster: c, asked: timeout, pinned: pinned, hooks: hooks, cancel: cancel, done: make(chan struct{}), began: time.Now(), box: box,
		changed: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		s.keep(ctx)
	}()
	return s
}

// ID is the present session's, 0 before the first.
func (s *Session) ID() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Move lets the session go to a box, and waits until it is there, or another one took it in its stead.
func (s *Session) Move(ctx context.Context, box int) {
	s.mu.Lock()
	c, changed := s.conn, s.changed
	there := c != nil && c.box == box
	if !there {
		s.goal = box
	}
	s.mu.Unlock()
	if there || c == nil {
		return // one that has no connection goes there anyway
	}
	_ = c.nc.Close() // the reader sees it
	select {
	case <-changed:
	case <-ctx.Done():
	}
	_, _ = s.await(ctx)
}

// Close ends the connection; the session is left to expire unless it was closed before.
func (s *Session) Close() {
	s.cancel()
	<-s.done
}

// keep connects again and again until it is told to end.
func (s *Session) keep(ctx context.Context) {
	for tries := 1; ctx.Err() == nil; tries++ {
		c, err := s.connect(ctx)
		if err != nil {
			s.turnTo()
			if s.pinned || tries%boxes.Count == 0 {
				boxes.Pause(ctx, roundPause)
			}
			continue
		}
		tries = 0
		s.serve(ctx, c)
		s.turnTo()
	}
}

// turnTo chooses the box that is asked next.
func (s *Session) turnTo() {
	if s.pinned {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.box = s.box%boxes.Count + 1; s.goal != 0 {
		s.box, s.goal = s.goal, 0
	}
}

// connect opens a connection and the session on it.
func (s *Session) connect(ctx context.Context) (*conn, error) {
	dialer := net.Dialer{Timeout: handshakeMax}
	nc, err := dialer.DialContext(ctx, "tcp", s.cluster.Address(s.box))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	id := s.ID()
	q := jute.ConnectRequest{
		LastZxidSeen: s.lastZxid.Load(), TimeoutMs: int32(s.asked.Milliseconds()), SessionID: id, Passwd: s.password, HasReadOnly: true,
	}
	if id == 0 {
		q.Passwd = make([]byte, 16)
	}
	b, start := jute.AppendFrame(nil)
	b = q.Append(b)
	jute.EndFrame(b, start)
	if _, err = nc.Write(b); err == nil {
		b, err = readFrame(nc, handshakeMax)
	}
	var p jute.ConnectResponse
	if err == nil {
		r := jute.NewReader(b)
		p.Read(r)
		err = r.Err()
	}
	if err == nil && p.TimeoutMs == 0 {
		s.expired(id)
		err = fmt.Errorf("session 0x%x has expired", id)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	s.heard()
	s.password, s.timeout = append([]byte(nil), p.Passwd...), time.Duration(p.TimeoutMs)*time.Millisecond
	s.turns++
	c := &conn{nc: nc, box: s.box, session: p.SessionID, turn: s.turns}
	if s.hooks.Connected != nil {
		s.hooks.Connected(c, s.timeout)
	}
	s.set(c)
	return c, nil
}

// expired forgets the session. The zxid is forgotten too, as the Java client's next ZooKeeper object would.
func (s *Session) expired(id int64) {
	silent := time.Since(s.began) - time.Duration(s.heardAt.Load())
	if s.hooks.Expired != nil && id != 0 {
		s.hooks.Expired(id, s.timeout, silent)
	}
	s.mu.Lock()
	s.id = 0
	s.mu.Unlock()
	s.lastZxid.Store(0)
}

func (s *Session) heard() { s.heardAt.Store(int64(time.Since(s.began))) }

func (s *Session) set(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil {
		s.id = c.session
	}
	s.conn = c
	close(s.changed)
	s.changed = make(chan struct{})
}

// serve pings and reads until the connection ends.
func (s *Session) serve(ctx context.Context, c *conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	defer stop()
	ticker := time.NewTicker(s.timeout / 3)
	defer ticker.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.read(2*s.timeout/3, func(h jute.ReplyHeader) {
			s.heard()
			if h.Zxid > s.lastZxid.Load() {
				s.lastZxid.Store(h.Zxid)
			}
		}, func(h jute.ReplyHeader, e jute.WatcherEvent) {
			if s.hooks.Fired != nil {
				s.hooks.Fired(c, h.Zxid, e)
			}
		})
	}()
	for over := false; !over; {
		select {
		case <-ticker.C:
			_, _ = c.send(jute.OpPing, jute.XidPing, nil) // the reader sees when it cannot be sent
		case <-ended:
			over = true
		}
	}
	if s.hooks.Lost != nil {
		s.hooks.Lost(c)
	}
	s.set(nil)
	c.end()
}

// await gives the connection that there is, or the next.
func (s *Session) await(ctx context.Context) (*conn, error) {
	for {
		s.mu.Lock()
		c, changed := s.conn, s.changed
		s.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Do asks one thing and waits for the answer. An error is a jute.Code, errLost, or ctx's: then it may come to pass later.
func (s *Session) Do(ctx context.Context, op jute.OpCode, q jute.Record, p jute.Record) (jute.ReplyHeader, error) {
	c, err := s.await(ctx)
	if err != nil {
		return jute.ReplyHeader{}, err
	}
	return do(ctx, c, op, q, p)
}

func do(ctx context.Context, c *conn, op jute.OpCode, q jute.Record, p jute.Record) (jute.ReplyHeader, error) {
	answer, err := c.send(op, 0, q.Append(nil))
	if err != nil {
		return jute.ReplyHeader{}, err
	}
	return take(ctx, answer, p)
}

// take waits for an answer.
func take(ctx context.Context, answer <-chan reply, p jute.Record) (jute.ReplyHeader, error) {
	select {
	case a := <-answer:
		if a.err != nil {
			return a.head, a.err
		}
		if a.head.Err != jute.OK {
			return a.head, a.head.Err
		}
		if p == nil {
			return a.head, nil
		}
		r := jute.NewReader(a.body)
		p.Read(r)
		return a.head, r.Err()
	case <-ctx.Done():
		return jute.ReplyHeader{}, ctx.Err()
	}
}

// SyncRead reads a node behind a sync, on one connection: what it gives was there after the sync was sent.
func (s *Session) SyncRead(ctx context.Context, path string) (jute.GetDataResponse, error) {
	c, err := s.await(ctx)
	if err != nil {
		return jute.GetDataResponse{}, err
	}
	return syncRead(ctx, c, path)
}

func syncRead(ctx context.Context, c *conn, path string) (p jute.GetDataResponse, err error) {
	synced, err := c.send(jute.OpSync, 0, (&jute.PathRequest{Path: path}).Append(nil))
	if err != nil {
		return p, err
	}
	answer, err := c.send(jute.OpGetData, 0, (&jute.PathWatchRequest{Path: path}).Append(nil))
	if err != nil {
		return p, err
	}
	if _, err := take(ctx, synced, nil); err != nil {
		return p, err
	}
	_, err = take(ctx, answer, &p)
	return p, err
}
