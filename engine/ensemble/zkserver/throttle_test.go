package zkserver

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
)

func TestBlueThrottleFills(t *testing.T) {
	const start = time.Hour
	b := newBlueThrottle(ConnectionThrottle{TokensMax: 6, FillTime: 10 * time.Millisecond, FillCount: 3, FreezeTime: -1, CreateWeight: 3, RenewWeight: 2}, start)
	for i, s := range []struct {
		after time.Duration
		need  int
		want  bool
		left  int
	}{
		{0, 3, true, 3},
		{0, 3, true, 0},
		{time.Millisecond, 2, false, 0},
		{10 * time.Millisecond, 2, false, 0}, // not before more than a filling's time is over
		{14 * time.Millisecond, 2, true, 2},  // 14 ms are worth 4.2 tokens
		{15 * time.Millisecond, 3, false, 2},
		{25 * time.Millisecond, 3, true, 2}, // another 11 ms
		{time.Minute, 1, true, 5},           // it holds no more than 6
	} {
		if got := b.take(start+s.after, s.need, 0); got != s.want || b.tokens != s.left {
			t.Errorf("step %d: %v and %d tokens left, want %v and %d", i, got, b.tokens, s.want, s.left)
		}
	}
}

func TestBlueThrottleDrops(t *testing.T) {
	b := newBlueThrottle(ConnectionThrottle{TokensMax: 4, FillTime: 100 * time.Millisecond, FillCount: 4, FreezeTime: 10 * time.Millisecond,
		DropIncrease: 0.4, DropDecrease: 0.25, DecreaseRatio: 0.3, CreateWeight: 1, RenewWeight: 1}, 0)
	for i, s := range []struct {
		at     int // milliseconds
		chance float64
		want   bool
		drop   float64
	}{
		{1, 0, true, 0}, {1, 0, true, 0}, {1, 0, true, 0}, {1, 0, true, 0}, // 1 ms: what is there goes
		{10, 0.9, false, 0}, // empty, and the probability is frozen
		{11, 0.9, false, 0.4},
		{15, 0.9, false, 0.4},
		{22, 0.9, false, 0.8},
		{33, 0.9, false, 1},
		{120, 0.7, false, 0.75}, // full again: dropped by chance all the same, and no token is taken
		{131, 0.6, true, 0.5},
		{142, 0.5, true, 0.25}, // one is missing, of 4 × 0.3 that may be
		{153, 0.3, true, 0.25}, // two are: it stays
	} {
		got := b.take(time.Duration(s.at)*time.Millisecond, 1, s.chance)
		if d := b.drop - s.drop; got != s.want || d > 1e-9 || d < -1e-9 {
			t.Errorf("step %d: %v with a probability of %v, want %v with %v", i, got, b.drop, s.want, s.drop)
		}
	}
}

// TestBlueThrottleIsExact holds the filling to numbers without bounds, with settings as large as they can be.
func TestBlueThrottleIsExact(t *testing.T) {
	const most = 1<<31 - 1
	rapid.Check(t, func(t *rapid.T) {
		c := ConnectionThrottle{TokensMax: rapid.IntRange(1, most).Draw(t, "max"), FillCount: rapid.IntRange(1, most).Draw(t, "count"), FreezeTime: -1,
			FillTime: time.Duration(rapid.IntRange(1, most).Draw(t, "every")) * time.Millisecond}
		b := newBlueThrottle(c, 0)
		b.tokens = rapid.IntRange(0, c.TokensMax).Draw(t, "tokens")
		past := rapid.Int64Range(0, 1<<43).Draw(t, "past")
		want := big.NewInt(past)
		if past <= c.FillTime.Milliseconds() {
			want.SetInt64(0)
		}
		want.Mul(want, big.NewInt(int64(c.FillCount))).Div(want, big.NewInt(c.FillTime.Milliseconds())).Add(want, big.NewInt(int64(b.tokens)))
		if whole := big.NewInt(int64(c.TokensMax)); want.Cmp(whole) > 0 {
			want = whole
		}
		b.take(time.Duration(past)*time.Millisecond, most+1, 0)
		if int64(b.tokens) != want.Int64() {
			t.Fatalf("%d tokens, want %v", b.tokens, want)
		}
	})
}

// semantics 31: a connection that there is no token for is closed instead of being given a session.
func TestConnectionThrottle(t *testing.T) {
	b := start(t, func(c *Config) {
		c.ConnectionThrottle = ConnectionThrottle{TokensMax: 8, FillTime: time.Hour, FillCount: 1, FreezeTime: -1, CreateWeight: 3, RenewWeight: 2}
	})
	first := b.connect(t, 20000)
	b.connect(t, 20000)
	ask := func(q jute.ConnectRequest) *client {
		c := b.dial(t)
		c.write(q.Append(nil))
		return c
	}
	ask(jute.ConnectRequest{TimeoutMs: 20000, Passwd: make([]byte, 16)}).closed()
	if n := b.Stats().Sessions; n != 2 {
		t.Errorf("%d sessions", n)
	}
	back := b.dial(t) // two tokens are left, which are enough to come back
	if p := back.handshake(&jute.ConnectRequest{TimeoutMs: 20000, SessionID: first.session, Passwd: first.passwd}); p.SessionID != first.session {
		t.Errorf("%+v", p)
	}
	ask(jute.ConnectRequest{TimeoutMs: 20000, SessionID: back.session, Passwd: back.passwd}).closed()
	back.must(1, jute.OpExists, watchBody("/", false)) // who was refused took nothing from whom it was
	mntr := b.word(t, "mntr")
	for _, line := range []string{"zk_connection_rejected\t2\n", "zk_connection_request_count\t3\n", "zk_max_connection_token_deficit\t8\n",
		"zk_cnt_connection_token_deficit\t3\n", "zk_connection_drop_probability\t0.0\n"} {
		if !strings.Contains(mntr, line) {
			t.Errorf("mntr is without %q", line)
		}
	}
}

// semantics 31: a connection is dropped by chance too, and the probability is shown.
func TestConnectionDropProbability(t *testing.T) {
	b := start(t, func(c *Config) {
		c.ConnectionThrottle = ConnectionThrottle{TokensMax: 1, FillTime: time.Hour, FillCount: 1, FreezeTime: 0, DropIncrease: 1, CreateWeight: 1, RenewWeight: 1}
	})
	b.connect(t, 20000)
	eventually(t, func() bool { // the clock has to move by a millisecond
		c := b.dial(t)
		q := jute.ConnectRequest{TimeoutMs: 20000, Passwd: make([]byte, 16)}
		c.write(q.Append(nil))
		c.closed()
		return b.Stats().DropProbability == 1
	})
	if mntr := b.word(t, "mntr"); !strings.Contains(mntr, "zk_connection_drop_probability\t1.0\n") {
		t.Error("mntr does not show it")
	}
}

// stuck are three servers, and one of them that follows. Once that is cut off a sync there stays under way.
func stuck(t *testing.T, change func(*Config)) (*trio, *box) {
	t.Helper()
	n := startTrio(t, func(e *ensemble.Config, c *Config) {
		e.LeaderlessMax = time.Minute
		change(c)
	})
	_, follower := n.roles()
	return n, n.boxes[follower]
}

// cutOff isolates one box.
func (n *trio) cutOff(b *box) { n.isolate(b.e.Status().Box) }

// semantics 31: the bytes of large requests that are under way are bounded, and whose does not fit is closed.
func TestLargeRequests(t *testing.T) {
	n, b := stuck(t, func(c *Config) { c.LargeRequestThreshold, c.LargeRequestBytesMax = 1000, 5000 })
	data := make([]byte, 3000)
	first, second, third := b.connect(t, 20000), b.connect(t, 20000), b.connect(t, 20000)
	n.cutOff(b)
	first.send(1, jute.OpSync, pathBody("/"+strings.Repeat("x", 3000)))
	eventually(t, func() bool { return b.largeRequests.bytes.Load() > 3000 })

	second.send(1, jute.OpCreate, createBody("/second", data, 0))
	second.closed()
	h := jute.RequestHeader{Xid: 1, Op: jute.OpCreate}
	if _, err := third.conn.Write(append([]byte{0, 0, 0x0b, 0xb8}, h.Append(nil)...)); err != nil { // its length is enough
		t.Fatal(err)
	}
	third.closed()
	small := b.connectLater(t, n)
	small.send(1, jute.OpCreate, createBody("/small", data[:900], 0))
	if p := first.reply(); p.Err != jute.OK {
		t.Errorf("%+v", p.ReplyHeader)
	}
	if p := small.reply(); p.Err != jute.OK {
		t.Errorf("%+v", p.ReplyHeader)
	}
	if p := small.call(2, jute.OpExists, watchBody("/second", false)); p.Err != jute.NoNode {
		t.Errorf("what was refused came to pass: %+v", p.ReplyHeader)
	}
	small.must(3, jute.OpCreate, createBody("/second", data, 0)) // there is room again
	for xid := int32(4); xid < 8; xid++ {                        // what is answered at once leaves as well
		small.call(xid, jute.OpExists, watchBody("/"+strings.Repeat("x", 3000), false))
	}
	eventually(t, func() bool { return b.largeRequests.bytes.Load() == 0 })
	if mntr := b.word(t, "mntr"); !strings.Contains(mntr, "zk_large_requests_rejected\t2\n") {
		t.Error("mntr does not count the two")
	}
}

// Two that were received at the same time each fitted alone: the second is refused, and takes no room.
func TestLargeRequestsAtOnce(t *testing.T) {
	l := largeRequests{threshold: 10, bytesMax: 50}
	for _, fits := range []bool{l.fits(30), l.fits(50), !l.fits(51), l.fits(10)} {
		if !fits {
			t.Error("what fits is told wrong")
		}
	}
	first, ok := l.enter(30)
	if _, second := l.enter(30); !ok || second || l.bytes.Load() != 30 {
		t.Errorf("%v, %v, %d bytes", ok, second, l.bytes.Load())
	}
	if small, ok := l.enter(10); small != 0 || !ok {
		t.Errorf("a small one takes %d, %v", small, ok)
	}
	l.leave(first)
	if _, ok := l.enter(50); !ok {
		t.Error("the room was not given back")
	}
}

// connectLater heals the ensemble, since a session needs it, and connects.
func (b *box) connectLater(t *testing.T, n *trio) *client {
	t.Helper()
	n.heal()
	return b.connect(t, 20000)
}

// waiting is how many requests wait to be asked.
func (b *box) waiting() int {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	return b.gate.waiting
}

// semantics 31: a request that had to wait too long is answered with ThrottledOp in its turn and not carried out; one that
// closes the session is carried out.
func TestThrottledOp(t *testing.T) {
	for _, patience := range []time.Duration{0, 1, time.Hour} {
		t.Run(fmt.Sprint(patience), func(t *testing.T) {
			n, b := stuck(t, func(c *Config) { c.RequestThrottle = RequestThrottle{RequestsMax: 1, OpWaitMax: patience} })
			first, second, third := b.connect(t, 20000), b.connect(t, 20000), b.connect(t, 20000)
			n.cutOff(b)
			first.send(1, jute.OpSync, pathBody("/"))
			eventually(t, func() bool { return b.Stats().Outstanding == 1 })
			second.send(1, jute.OpCreate, createBody("/second", nil, 0))
			second.send(2, jute.OpGetData, watchBody("/", false))
			third.send(1, jute.OpCloseSession, nil)
			eventually(t, func() bool { return b.waiting() == 2 })
			n.heal()
			if p := first.reply(); p.Xid != 1 || p.Err != jute.OK {
				t.Errorf("%+v", p.ReplyHeader)
			}
			want, exists := jute.OK, jute.OK
			if patience == 1 {
				want, exists = jute.ThrottledOp, jute.NoNode
			}
			if p := second.reply(); p.Xid != 1 || p.Err != want {
				t.Errorf("%+v, want %v", p.ReplyHeader, want)
			}
			if p := second.reply(); p.Xid != 2 || p.Err != jute.OK {
				t.Errorf("%+v", p.ReplyHeader)
			}
			if p := third.reply(); p.Xid != 1 || p.Err != jute.OK {
				t.Errorf("%+v", p.ReplyHeader)
			}
			if p := first.call(3, jute.OpExists, watchBody("/second", false)); p.Err != exists {
				t.Errorf("%+v, want %v", p.ReplyHeader, exists)
			}
			counts := fmt.Sprintf("zk_throttled_ops\t%d\n", map[bool]int{true: 1}[patience == 1])
			if mntr := b.word(t, "mntr"); !strings.Contains(mntr, counts) {
				t.Errorf("mntr is without %q", counts)
			}
		})
	}
}

// semantics 31: a request that had to wait until its connection had ended, or its session's timeout was over, is dropped.
func TestStaleRequests(t *testing.T) {
	for _, s := range []struct {
		name          string
		check         bool // of the latency
		ends, dropped bool
	}{
		{"a connection that ended", false, true, true},
		{"longer than the timeout", true, false, true},
		{"longer than the timeout, unchecked", false, false, false},
	} {
		t.Run(s.name, func(t *testing.T) {
			n, b := stuck(t, func(c *Config) { c.RequestThrottle = RequestThrottle{RequestsMax: 1, StaleLatencyCheck: s.check} })
			first, second := b.connect(t, 20000), b.connect(t, 20000)
			n.cutOff(b)
			first.send(1, jute.OpSync, pathBody("/"))
			eventually(t, func() bool { return b.Stats().Outstanding == 1 })
			second.send(1, jute.OpCreate, createBody("/second", nil, 0))
			eventually(t, func() bool { return b.waiting() == 1 })
			c := b.e.Holder(second.session).(*conn)
			c.timeout.Store(1) // that it waited for longer than the timeout is so from here on
			if s.ends {
				c.die(errors.New("the client went"))
			}
			n.heal()
			first.reply()
			want := jute.NoNode
			if s.dropped {
				second.closed()
			} else if want = jute.OK; second.reply().Err != jute.OK {
				t.Error("it was refused")
			}
			eventually(t, func() bool { return b.stats.staleDropped.Get() == map[bool]uint64{true: 1}[s.dropped] })
			first.must(2, jute.OpSync, pathBody("/"))
			if p := first.call(3, jute.OpExists, watchBody("/second", false)); p.Err != want {
				t.Errorf("%+v, want %v", p.ReplyHeader, want)
			}
		})
	}
}

// semantics 31: every server ends a connection whose request is longer than jute.maxbuffer, carries out one that is as
// long, and sends answers that are longer.
func TestFrameBytesMaxOfEveryServer(t *testing.T) {
	const most = 4096
	n := startTrio(t, func(e *ensemble.Config, c *Config) {
		e.Limits.FrameBytesMax, c.Limits.FrameBytesMax = most, most
	})
	n.roles()
	create := func(path string, frame int) []byte {
		rest := len(createBody(path, []byte{}, 0)) + requestHeaderBytes
		return createBody(path, make([]byte, frame-rest), 0)
	}
	for id := uint64(1); id <= 3; id++ {
		b := n.boxes[id]
		c, top := b.connect(t, 20000), fmt.Sprintf("/%d", id)
		c.must(1, jute.OpCreate, create(top, most))
		for i := range int32(30) {
			c.must(2+i, jute.OpCreate, createBody(fmt.Sprintf("%s/%0200d", top, i), nil, 0))
		}
		c.must(40, jute.OpSync, pathBody("/"))
		children := c.must(41, jute.OpGetChildren2, watchBody(top, false))
		if len(children.body) < 30*200 {
			t.Errorf("server %d answers with %d bytes", id, len(children.body))
		}
		ops := []jute.Op{{Type: jute.OpGetData, Path: top}, {Type: jute.OpGetData, Path: top}}
		if p := c.must(42, jute.OpMultiRead, jute.AppendMulti(nil, ops)); len(p.body) < 2*(most-200) {
			t.Errorf("server %d answers a multiRead with %d bytes", id, len(p.body))
		}
		c.send(43, jute.OpCreate, create(top+"/more", most+1))
		c.closed()
		d := b.connect(t, 20000)
		if p := d.call(1, jute.OpExists, watchBody(top+"/more", false)); p.Err != jute.NoNode {
			t.Errorf("server %d: %+v", id, p.ReplyHeader)
		}
	}
}
