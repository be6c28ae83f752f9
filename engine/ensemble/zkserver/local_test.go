package zkserver

import (
	"strings"
	"testing"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
)

func localTrio(t *testing.T, upgrade bool) (n *trio, here, there *box) {
	t.Helper()
	n = startTrio(t, func(e *ensemble.Config, c *Config) { e.LocalSessions, c.UpgradeSessions = true, upgrade })
	leader, follower := n.roles()
	return n, n.boxes[follower], n.boxes[leader]
}

// again is the request of a client that comes back with its session.
func (c *client) again(timeoutMs int32) *jute.ConnectRequest {
	return &jute.ConnectRequest{TimeoutMs: timeoutMs, SessionID: c.session, Passwd: c.passwd, HasReadOnly: true}
}

// A local session writes and watches like any other and costs the ensemble nothing; it is known to its server alone until it
// is to own an ephemeral, and then to all, under the same id.
func TestLocalSessionIsUpgraded(t *testing.T) {
	n, here, there := localTrio(t, true)
	c := here.connect(t, 20000)
	if !ensemble.IsLocal(c.session) {
		t.Fatalf("session 0x%x", c.session)
	}
	zxid := c.must(1, jute.OpCreate, createBody("/p", []byte("1"), 0)).Zxid
	c.must(2, jute.OpGetData, watchBody("/p", true))
	if p := c.must(3, jute.OpSetData, setBody("/p", []byte("2"), 0)); p.Zxid != zxid+1 {
		t.Errorf("a session cost a transaction: zxid %d after %d", p.Zxid, zxid)
	}
	if len(c.events) != 1 || c.events[0].Path != "/p" {
		t.Errorf("%+v", c.events)
	}
	c.must(4, jute.OpMulti, jute.AppendMulti(nil, []jute.Op{{Type: jute.OpCreate, Path: "/p/m", ACL: jute.OpenACL()}, {Type: jute.OpDelete, Path: "/p/m", Version: -1}}))
	if got := here.word(t, "mntr"); !strings.Contains(got, "zk_global_sessions\t0\nzk_local_sessions\t1\n") {
		t.Errorf("%q", got)
	}
	if p := there.dial(t).handshake(c.again(20000)); p.SessionID != 0 {
		t.Fatalf("another server knows it: %+v", p)
	}
	back := here.dial(t)
	if p := back.handshake(c.again(20000)); p.SessionID != c.session {
		t.Fatalf("its own server: %+v", p)
	}
	c.closed()

	// Pipelined: what is before the ephemeral, the ephemeral, and what is behind it.
	back.send(1, jute.OpSetData, setBody("/p", []byte("3"), -1))
	back.send(2, jute.OpCreate2, createBody("/e", nil, jute.Ephemeral))
	back.send(3, jute.OpGetData, watchBody("/p", false))
	back.send(4, jute.OpCreate, createBody("/e2", nil, jute.Ephemeral))
	for xid := int32(1); xid <= 4; xid++ {
		p := back.reply()
		if p.Xid != xid || p.Err != jute.OK {
			t.Fatalf("answer %d: %+v", xid, p.ReplyHeader)
		}
		if xid == 2 {
			var r jute.Create2Response
			r.Read(jute.NewReader(p.body))
			if r.Stat.EphemeralOwner != c.session {
				t.Errorf("owned by 0x%x, want 0x%x", r.Stat.EphemeralOwner, c.session)
			}
		}
	}
	if got := here.word(t, "mntr"); !strings.Contains(got, "zk_global_sessions\t1\nzk_local_sessions\t0\n") {
		t.Errorf("%q", got)
	}
	moved := there.dial(t)
	if p := moved.handshake(back.again(20000)); p.SessionID != c.session {
		t.Fatalf("another server does not know it: %+v", p)
	}
	back.closed()
	moved.must(1, jute.OpExists, watchBody("/e", false))
	moved.must(2, jute.OpCloseSession, nil)
	moved.closed()
	eventually(t, func() bool {
		return here.e.Status().Ephemerals == 0 && here.e.Status().Sessions == 0 && n.boxes[1].e.LocalSessions()+n.boxes[2].e.LocalSessions()+n.boxes[3].e.LocalSessions() == 0
	})
}

// Where upgrading is not allowed an ephemeral is refused, and the session goes on.
func TestLocalSessionOwnsNothing(t *testing.T) {
	_, here, _ := localTrio(t, false)
	c := here.connect(t, 20000)
	if p := c.call(1, jute.OpCreate, createBody("/e", nil, jute.Ephemeral)); p.Err != jute.EphemeralOnLocalSession {
		t.Fatalf("%v", p.Err)
	}
	multi := jute.AppendMulti(nil, []jute.Op{{Type: jute.OpCreate, Path: "/p", ACL: jute.OpenACL()}, {Type: jute.OpCreate2, Path: "/p/e", ACL: jute.OpenACL(), Flags: int32(jute.EphemeralSequential)}})
	if p := c.call(2, jute.OpMulti, multi); p.Err != jute.EphemeralOnLocalSession {
		t.Fatalf("%v", p.Err)
	}
	// Its end: what was sent before it is done.
	c.send(3, jute.OpCreate, createBody("/last", nil, 0))
	c.send(4, jute.OpCloseSession, nil)
	for xid := int32(3); xid <= 4; xid++ {
		if p := c.reply(); p.Xid != xid || p.Err != jute.OK {
			t.Fatalf("%+v", p)
		}
	}
	c.closed()
	if p := here.dial(t).handshake(c.again(20000)); p.SessionID != 0 {
		t.Fatalf("a session that was closed: %+v", p)
	}
	// One that is silent ends by itself.
	silent := here.connect(t, 200)
	_ = silent.conn.Close()
	eventually(t, func() bool { return here.e.LocalSessions() == 0 })
	if p := here.dial(t).handshake(silent.again(20000)); p.SessionID != 0 {
		t.Fatalf("a session that was silent: %+v", p)
	}
}
