package sim

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/sim/history"
)

// client is a ZooKeeper client: one session at a time, over one connection after the other, with the requests of its work
// and the bookkeeping of ZooKeeper's own clients: it sends pings, gives up on a silent server, comes back to another one
// with the last zxid that it saw, and asks for its watches again.
type client struct {
	w       *world
	id      int
	address netip.AddrPort

	session  int64
	password []byte
	timeout  time.Duration
	zxid     int64 // the newest that a reply had

	wire     *wire
	ready    bool // the session is there
	conns    int
	in, out  []byte
	xid      int32
	order    int
	pending  []*pending
	heard    time.Duration
	sent     time.Duration
	deadline time.Duration // of the handshake
	retry    time.Duration // when to connect again
	lastBox  uint64

	// The watches that it believes to have, by path (ZooKeeper's ZKWatchManager).
	data, exist, child map[string]bool

	work work
	lock lock
	// draining: no new work.
	draining bool
	expired  int
}

// pending is a request without an answer.
type pending struct {
	xid   int32
	token history.Token
	// reply reads what the answer says. Nil: it is of no interest.
	reply func(h jute.ReplyHeader, r *jute.Reader) history.Result
	// then is called with the result, nil for nothing.
	then func(history.Result)
}

func newClient(w *world, id int) *client {
	c := &client{w: w, id: id, address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(id)}), 40000)}
	c.forgetWatches()
	c.work.seen = map[string]int32{}
	w.sched.After(time.Duration(w.rand().Int64N(int64(100*time.Millisecond))), "client", c.turn)
	return c
}

func (c *client) label() string        { return fmt.Sprint("client ", c.id) }
func (c *client) from() netip.AddrPort { return c.address }

func (c *client) forgetWatches() {
	c.data, c.exist, c.child = map[string]bool{}, map[string]bool{}, map[string]bool{}
}

// turn is what the client does from time to time.
func (c *client) turn() {
	if c.w.over {
		return
	}
	now := c.w.now()
	switch {
	case c.wire == nil:
		if now >= c.retry {
			c.connect()
		}
	case !c.ready:
		if now >= c.deadline {
			c.drop("the handshake takes too long")
		}
	case now-c.heard > c.timeout*2/3:
		c.drop("the server is silent")
	default:
		if now-c.sent > c.timeout/3 {
			c.ping()
		}
		c.act()
		c.flush()
	}
	c.w.sched.After(3*time.Millisecond+time.Duration(c.w.rand().Int64N(int64(50*time.Millisecond))), "client", c.turn)
}

// connect dials some box, mostly another one than the last.
func (c *client) connect() {
	r := c.w.rand()
	id := c.w.ids[r.IntN(len(c.w.ids))]
	if id == c.lastBox {
		id = c.w.ids[r.IntN(len(c.w.ids))]
	}
	c.lastBox = id
	x, err := c.w.dial(c, c.w.boxes[id], zookeeperPort)
	if err != nil {
		c.retry = c.w.now() + 20*time.Millisecond + time.Duration(r.Int64N(int64(100*time.Millisecond)))
		return
	}
	c.wire, c.ready, c.in, c.out, c.pending, c.order = x, false, nil, nil, nil, 0
	c.deadline = c.w.now() + 1500*time.Millisecond
	password := c.password
	if password == nil {
		password = make([]byte, 16)
	}
	q := jute.ConnectRequest{
		LastZxidSeen: c.zxid, TimeoutMs: int32(c.w.sessionTimeout.Milliseconds()), SessionID: c.session, Passwd: password, HasReadOnly: true,
	}
	b, start := jute.AppendFrame(nil)
	b = q.Append(b)
	jute.EndFrame(b, start)
	x.send(b)
}

// drop gives the connection up.
func (c *client) drop(why string) {
	x := c.wire
	x.hangUp()
	c.lost(x, why)
}

// lost is the end of a connection.
func (c *client) lost(x *wire, why string) {
	if x != c.wire {
		return
	}
	c.w.trace("client %d has lost box %d: %s", c.id, x.box.id, why)
	if c.ready {
		c.observe(history.Event{Kind: history.Disconnected})
	}
	c.wire, c.ready, c.pending, c.out = nil, false, nil, nil
	c.retry = c.w.now() + time.Duration(c.w.rand().Int64N(int64(100*time.Millisecond)))
	c.lock.disconnected()
	if c.work.closing {
		c.observe(history.Event{Kind: history.Closed})
		c.begin()
	}
}

// begin forgets the session: the next connection opens another.
func (c *client) begin() {
	c.session, c.password, c.zxid = 0, nil, 0
	c.forgetWatches()
	c.lock = lock{}
	c.work.closing = false
}

func (c *client) observe(e history.Event) {
	e.Client, e.Session, e.Conn, e.Box = c.id, c.session, c.conns, c.lastBox
	c.w.record.Observe(e)
}

// receive takes bytes of the server.
func (c *client) receive(x *wire, b []byte) {
	if x != c.wire {
		return
	}
	c.heard = c.w.now()
	c.in = append(c.in, b...)
	for c.wire == x && len(c.in) >= 4 {
		n := int(binary.BigEndian.Uint32(c.in))
		if len(c.in) < 4+n {
			return
		}
		frame := c.in[4 : 4+n]
		c.in = c.in[4+n:]
		if c.ready {
			c.take(frame)
		} else {
			c.welcome(frame)
		}
	}
	if c.wire == x {
		c.flush()
	}
}

// welcome takes the answer to the handshake.
func (c *client) welcome(frame []byte) {
	var p jute.ConnectResponse
	r := jute.NewReader(frame)
	p.Read(r)
	if r.Err() != nil {
		c.w.failf("client %d: a handshake's answer of %d bytes: %v", c.id, len(frame), r.Err())
		return
	}
	if p.TimeoutMs <= 0 || p.SessionID == 0 {
		c.expired++
		c.observe(history.Event{Kind: history.Expired})
		c.begin()
		c.drop("the session has expired")
		return
	}
	if c.session != 0 && c.session != p.SessionID {
		c.w.failf("client %d asked for session 0x%x and was given 0x%x", c.id, c.session, p.SessionID)
	}
	c.session, c.password, c.timeout = p.SessionID, slices.Clone(p.Passwd), time.Duration(p.TimeoutMs)*time.Millisecond
	c.ready = true
	c.conns++
	c.observe(history.Event{Kind: history.Connected, Timeout: c.timeout})
	c.rearm()
	c.lock.connected(c)
	c.flush()
}

// rearm asks for the watches again, before anything else.
func (c *client) rearm() {
	c.observe(history.Event{Kind: history.Rearmed})
	q := jute.SetWatches2Request{SetWatchesRequest: jute.SetWatchesRequest{
		RelativeZxid: c.zxid, Data: slices.Sorted(maps.Keys(c.data)), Exist: slices.Sorted(maps.Keys(c.exist)), Child: slices.Sorted(maps.Keys(c.child)),
	}}
	if len(q.Data)+len(q.Exist)+len(q.Child) == 0 {
		return
	}
	op := jute.OpSetWatches
	body := q.SetWatchesRequest.Append(nil)
	if c.w.rand().IntN(2) == 0 {
		op, body = jute.OpSetWatches2, q.Append(nil)
	}
	c.queue(jute.XidSetWatches, op, body)
	c.pending = append(c.pending, &pending{xid: jute.XidSetWatches})
}

func (c *client) ping() {
	c.queue(jute.XidPing, jute.OpPing, nil)
	c.pending = append(c.pending, &pending{xid: jute.XidPing})
}

// queue makes a frame. flush sends all that were made in a turn at once.
func (c *client) queue(xid int32, op jute.OpCode, body []byte) {
	var start int
	c.out, start = jute.AppendFrame(c.out)
	h := jute.RequestHeader{Xid: xid, Op: op}
	c.out = append(h.Append(c.out), body...)
	jute.EndFrame(c.out, start)
}

func (c *client) flush() {
	if len(c.out) == 0 || c.wire == nil {
		return
	}
	c.sent = c.w.now()
	c.wire.send(c.out)
	c.out = nil
}

// request sends one. Each is answered in the order of sending.
func (c *client) request(o history.Op, op jute.OpCode, body []byte, reply func(jute.ReplyHeader, *jute.Reader) history.Result, then func(history.Result)) {
	c.order++
	o.Client, o.Session, o.Conn, o.Order, o.Box = c.id, c.session, c.conns, c.order, c.lastBox
	token := c.w.record.Invoke(o)
	if o.Kind == history.SyncRead && !c.w.linearizable {
		c.xid++
		c.queue(c.xid, jute.OpSync, jute.AppendString(nil, o.Path))
		c.pending = append(c.pending, &pending{xid: c.xid})
	}
	c.xid++
	c.queue(c.xid, op, body)
	c.pending = append(c.pending, &pending{xid: c.xid, token: token, reply: reply, then: then})
}

// take takes one frame: an event, or the answer to the oldest request.
func (c *client) take(frame []byte) {
	r := jute.NewReader(frame)
	var h jute.ReplyHeader
	h.Read(r)
	if h.Xid == jute.XidNotification {
		c.notified(h, r)
		return
	}
	if len(c.pending) == 0 || c.pending[0].xid != h.Xid {
		c.w.failf("client %d: an answer with xid %d, to none of its requests or out of order", c.id, h.Xid)
		return
	}
	p := c.pending[0]
	c.pending = c.pending[1:]
	c.zxid = max(c.zxid, h.Zxid)
	if p.reply == nil {
		if h.Err != jute.OK {
			c.w.failf("client %d: xid %d is answered with %v", c.id, h.Xid, h.Err)
		}
		return
	}
	result := history.Result{Code: history.Code(h.Err), Zxid: h.Zxid}
	if h.Err == jute.OK {
		result = p.reply(h, r)
		result.Zxid = h.Zxid
		if r.Err() != nil {
			c.w.failf("client %d: xid %d: an answer of %d bytes: %v", c.id, h.Xid, len(frame), r.Err())
		}
	} else if p.reply != nil {
		p.reply(h, nil)
	}
	p.token.Return(result)
	if p.then != nil {
		p.then(result)
	}
}

// notified takes an event.
func (c *client) notified(h jute.ReplyHeader, r *jute.Reader) {
	var e jute.WatcherEvent
	e.Read(r)
	switch e.Type {
	case jute.EventNodeCreated, jute.EventNodeDataChanged:
		delete(c.data, e.Path)
		delete(c.exist, e.Path)
	case jute.EventNodeChildrenChanged:
		delete(c.child, e.Path)
	case jute.EventNodeDeleted:
		delete(c.data, e.Path)
		delete(c.exist, e.Path)
		delete(c.child, e.Path)
	}
	c.observe(history.Event{Kind: history.Fired, Type: history.EventType(e.Type), Path: e.Path, Zxid: h.Zxid})
	c.lock.notified(c, e.Path)
}
