package zkserver

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// superDigest is super:test, which the test suites of ZooKeeper's clients use.
const superDigest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="

// box is a server on a real ensemble of one.
type box struct {
	*Server
	address string
	e       *ensemble.Ensemble
}

// start opens a box. Sessions may have timeouts from 100 ms on, so that tests need not wait long.
func start(t testing.TB, change func(*Config)) *box {
	t.Helper()
	clk := clock.System()
	rt := mailbox.NewThreads(clk)
	sync := syncer.New(rt, syncer.Config{Name: "test"})
	obs := observe.Discard()
	cfg := Config{Limits: limits.Derive(512 << 20).ZooKeeper, SuperDigest: superDigest, TickTime: 50 * time.Millisecond,
		Admin: zkadmin.Config{Version: "3.9.5-test", Built: time.Unix(1750000000, 0), Words: []string{"*"}, CommandURL: "/commands"}}
	if change != nil {
		change(&cfg)
	}
	e, err := ensemble.Open(ensemble.Config{
		Dir: t.TempDir(), Limits: cfg.Limits, TickTime: 50 * time.Millisecond, SessionTimeoutMin: 100 * time.Millisecond,
		SessionTimeoutMax: 40 * time.Second, Flags: znode.FlagExtendedTypes,
	}, ensemble.Deps{Runtime: rt, FS: vfs.OS(), Syncer: sync, Observer: obs, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	serves := make(chan error, 1)
	e.ReadIndex(func(_ uint64, err error) { serves <- err })
	if err := <-serves; err != nil {
		t.Fatal(err)
	}
	eventually(t, e.Serving)
	s, err := New(cfg, Deps{Ensemble: e, Clock: clk, Observer: obs, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if n := s.outstanding.Load(); n != 0 {
			t.Errorf("%d requests outstanding after Close", n)
		}
		if n := s.largeRequests.bytes.Load(); n != 0 {
			t.Errorf("%d bytes of large requests after Close", n)
		}
		if n := s.outboxes.Load(); n != 0 {
			t.Errorf("%d bytes in outboxes after Close", n)
		}
		e.Close()
		sync.Close()
	})
	return &box{Server: s, address: l.Addr().String(), e: e}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}

// client speaks raw frames.
type client struct {
	t       testing.TB
	conn    net.Conn
	session int64
	passwd  []byte
	timeout int32
	events  []jute.WatcherEvent // seen while waiting for replies
	order   []int32             // xids as they arrived, events as -1
}

func (b *box) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, conn: c}
}

// connect dials and opens a session.
func (b *box) connect(t testing.TB, timeoutMs int32) *client {
	t.Helper()
	c := b.dial(t)
	c.handshake(&jute.ConnectRequest{TimeoutMs: timeoutMs, Passwd: make([]byte, 16), HasReadOnly: true})
	if c.session == 0 {
		t.Fatal("no session")
	}
	return c
}

func (c *client) handshake(q *jute.ConnectRequest) jute.ConnectResponse {
	c.t.Helper()
	c.write(q.Append(nil))
	var p jute.ConnectResponse
	r := jute.NewReader(c.read())
	p.Read(r)
	if r.Err() != nil || r.Remaining() != 0 {
		c.t.Fatalf("connect response: %v, %d bytes left", r.Err(), r.Remaining())
	}
	c.session, c.passwd, c.timeout = p.SessionID, append([]byte(nil), p.Passwd...), p.TimeoutMs
	return p
}

func (c *client) write(payload []byte) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	if _, err := c.conn.Write(append(b, payload...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() []byte {
	c.t.Helper()
	b, err := c.tryRead()
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *client) tryRead() ([]byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(c.conn, h[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(h[:]))
	_, err := io.ReadFull(c.conn, b)
	return b, err
}

// send sends a request without waiting.
func (c *client) send(xid int32, op jute.OpCode, body []byte) {
	c.t.Helper()
	h := jute.RequestHeader{Xid: xid, Op: op}
	c.write(append(h.Append(nil), body...))
}

type reply struct {
	jute.ReplyHeader
	body []byte
}

// reply reads until the next reply, and keeps the events before it.
func (c *client) reply() reply {
	c.t.Helper()
	for {
		r, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		if r.Xid != jute.XidNotification {
			return r
		}
	}
}

// next reads one packet; an event is kept and returned with its header.
func (c *client) next() (reply, error) {
	b, err := c.tryRead()
	if err != nil {
		return reply{}, err
	}
	r := jute.NewReader(b)
	var p reply
	p.Read(r)
	if r.Err() != nil {
		return reply{}, r.Err()
	}
	p.body = r.Rest()
	c.order = append(c.order, p.Xid)
	if p.Xid == jute.XidNotification {
		var e jute.WatcherEvent
		e.Read(r)
		c.events = append(c.events, e)
	}
	return p, nil
}

// call sends a request and reads its reply.
func (c *client) call(xid int32, op jute.OpCode, body []byte) reply {
	c.t.Helper()
	c.send(xid, op, body)
	p := c.reply()
	if p.Xid != xid {
		c.t.Fatalf("asked %d (%v), answered %d", xid, op, p.Xid)
	}
	return p
}

// must is call for what has to succeed.
func (c *client) must(xid int32, op jute.OpCode, body []byte) reply {
	c.t.Helper()
	p := c.call(xid, op, body)
	if p.Err != jute.OK {
		c.t.Fatalf("%v: %v", op, p.Err)
	}
	return p
}

// closed expects the server to close the connection without another reply.
func (c *client) closed() {
	c.t.Helper()
	for {
		p, err := c.next()
		if err != nil {
			if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
				c.t.Fatal("the connection was not closed")
			}
			return
		}
		if p.Xid != jute.XidNotification {
			c.t.Fatalf("answered %d with %v instead of closing", p.Xid, p.Err)
		}
	}
}

func createBody(path string, data []byte, flags jute.CreateMode) []byte {
	q := jute.CreateRequest{Path: path, Data: data, ACL: jute.OpenACL(), Flags: int32(flags)}
	return q.Append(nil)
}

func watchBody(path string, watch bool) []byte {
	q := jute.PathWatchRequest{Path: path, Watch: watch}
	return q.Append(nil)
}

func setBody(path string, data []byte, version int32) []byte {
	q := jute.SetDataRequest{Path: path, Data: data, Version: version}
	return q.Append(nil)
}

func deleteBody(path string, version int32) []byte {
	q := jute.PathVersionRequest{Path: path, Version: version}
	return q.Append(nil)
}

func pathBody(path string) []byte { return jute.AppendString(nil, path) }

func typeBody(path string, kind int32) []byte {
	q := jute.PathTypeRequest{Path: path, Type: kind}
	return q.Append(nil)
}
