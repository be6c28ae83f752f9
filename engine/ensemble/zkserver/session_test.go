package zkserver

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
)

func TestHandshakeForms(t *testing.T) {
	b := start(t, nil)
	for name, form := range map[string]bool{"with readOnly": true, "old form": false} {
		t.Run(name, func(t *testing.T) {
			c := b.dial(t)
			p := c.handshake(&jute.ConnectRequest{TimeoutMs: 5000, Passwd: make([]byte, 16), HasReadOnly: form})
			if p.SessionID == 0 || p.TimeoutMs != 5000 || len(p.Passwd) != 16 || p.HasReadOnly != form {
				t.Fatalf("%+v", p)
			}
		})
	}
	t.Run("clamped timeouts", func(t *testing.T) {
		for ask, want := range map[int32]int32{0: 100, -5: 100, 1 << 30: 40000} {
			if c := b.connect(t, ask); c.timeout != want {
				t.Errorf("asked for %d, granted %d, want %d", ask, c.timeout, want)
			}
		}
	})
	t.Run("a client that has seen more", func(t *testing.T) { // semantics 19
		c := b.dial(t)
		q := jute.ConnectRequest{TimeoutMs: 5000, LastZxidSeen: 1 << 40, Passwd: make([]byte, 16), HasReadOnly: true}
		c.write(q.Append(nil))
		c.closed()
	})
}

// semantics 20: the right password takes a session over, a wrong one and an unknown session are answered with zeros;
// semantics 21: the connection that had it ends.
func TestReattach(t *testing.T) {
	b := start(t, nil)
	first := b.connect(t, 5000)
	first.must(1, jute.OpCreate, createBody("/e", nil, jute.Ephemeral))
	ask := func(passwd []byte, session int64) (jute.ConnectResponse, *client) {
		c := b.dial(t)
		return c.handshake(&jute.ConnectRequest{TimeoutMs: 5000, SessionID: session, Passwd: passwd, HasReadOnly: true}), c
	}
	t.Run("wrong password", func(t *testing.T) {
		p, c := ask(make([]byte, 16), first.session)
		if p.SessionID != 0 || p.TimeoutMs != 0 || !bytes.Equal(p.Passwd, make([]byte, 16)) {
			t.Fatalf("%+v", p)
		}
		c.closed()
		first.must(2, jute.OpExists, watchBody("/e", false))
	})
	t.Run("unknown session", func(t *testing.T) {
		if p, c := ask(first.passwd, 12345); p.SessionID != 0 {
			t.Fatalf("%+v", p)
		} else {
			c.closed()
		}
	})
	t.Run("right password", func(t *testing.T) {
		p, c := ask(first.passwd, first.session)
		if p.SessionID != first.session || !bytes.Equal(p.Passwd, first.passwd) {
			t.Fatalf("%+v", p)
		}
		first.closed()
		if got := c.must(1, jute.OpGetEphemerals, pathBody("/")); !bytes.Contains(got.body, []byte("/e")) {
			t.Fatalf("%q", got.body)
		}
	})
}

func TestPingAndUnknownOp(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	c.send(jute.XidPing, jute.OpPing, nil)
	if p := c.reply(); p.Xid != jute.XidPing || p.Err != jute.OK || p.Zxid == 0 {
		t.Fatalf("%+v", p)
	}
	for _, op := range []jute.OpCode{99, 500, jute.OpCheck, jute.OpCreateSession, jute.OpDeleteContainer, jute.OpNotification, jute.OpError} {
		c := b.connect(t, 5000)
		c.must(1, jute.OpCreate, createBody("/x", nil, jute.EphemeralSequential))
		c.send(2, op, nil)
		c.send(3, jute.OpExists, watchBody("/", false))
		if p := c.reply(); p.Xid != 2 || p.Err != jute.Unimplemented {
			t.Fatalf("%v: %+v", op, p)
		}
		c.closed()
	}
}

// semantics 23: the ephemerals go, the reply comes, the connection ends, and what is sent behind is not answered; semantics 20:
// nobody takes over a session that is closed.
func TestCloseSession(t *testing.T) {
	b := start(t, nil)
	watcher := b.connect(t, 5000)
	c := b.connect(t, 5000)
	c.must(1, jute.OpCreate, createBody("/gone", []byte("x"), jute.Ephemeral))
	watcher.must(1, jute.OpExists, watchBody("/gone", true))
	c.send(2, jute.OpCloseSession, nil)
	c.send(3, jute.OpExists, watchBody("/", false))
	if p := c.reply(); p.Xid != 2 || p.Err != jute.OK {
		t.Fatalf("%+v", p)
	}
	c.closed()
	if p := watcher.call(2, jute.OpExists, watchBody("/gone", false)); p.Err != jute.NoNode {
		t.Fatalf("%+v", p)
	}
	if len(watcher.events) != 1 || watcher.events[0].Type != jute.EventNodeDeleted || watcher.order[1] != jute.XidNotification {
		t.Fatalf("events %+v in order %v", watcher.events, watcher.order)
	}
	p := b.dial(t).handshake(&jute.ConnectRequest{TimeoutMs: 5000, SessionID: c.session, Passwd: c.passwd})
	if p.SessionID != 0 {
		t.Fatalf("reattached to a closed session: %+v", p)
	}
}

// semantics 22: silence ends a session, and its ephemerals with it.
func TestSilenceClosesAndExpires(t *testing.T) {
	b := start(t, nil)
	watcher := b.connect(t, 20000)
	c := b.connect(t, 100)
	c.must(1, jute.OpCreate, createBody("/brief", nil, jute.Ephemeral))
	watcher.must(1, jute.OpExists, watchBody("/brief", true))
	c.closed()
	if _, err := watcher.next(); err != nil {
		t.Fatal(err)
	}
	if len(watcher.events) != 1 || watcher.events[0].Type != jute.EventNodeDeleted {
		t.Fatalf("%+v", watcher.events)
	}
}

func TestHandshakeDeadline(t *testing.T) {
	b := start(t, func(c *Config) { c.HandshakeTimeout = 50 * time.Millisecond })
	for _, sent := range []string{"", "\x00", "\x00\x00\x00\x2d\x00\x00"} {
		c := b.dial(t)
		if _, err := io.WriteString(c.conn, sent); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c.conn); n != 0 {
			t.Fatalf("%q: %d bytes, %v", sent, n, err)
		}
	}
}

// semantics 12: a failure is answered and ends the connection, a digest is always right; semantics 13: super passes an ACL;
// semantics 8: DELETE is asked of the parent.
func TestAuth(t *testing.T) {
	b := start(t, func(c *Config) { c.EnsembleNames = []string{"ours"} })
	auth := func(scheme, id string) []byte {
		q := jute.AuthPacket{Scheme: scheme, Auth: []byte(id)}
		return q.Append(nil)
	}
	t.Run("unknown scheme", func(t *testing.T) {
		c := b.connect(t, 5000)
		c.send(jute.XidAuth, jute.OpAuth, auth("kerberos", "x"))
		if p := c.reply(); p.Xid != jute.XidAuth || p.Err != jute.AuthFailed || p.Zxid != 0 {
			t.Fatalf("%+v", p)
		}
		c.closed()
	})
	t.Run("wrong ensemble", func(t *testing.T) {
		c := b.connect(t, 5000)
		c.must(jute.XidAuth, jute.OpAuth, auth("ensemble", "ours"))
		c.send(jute.XidAuth, jute.OpAuth, auth("ensemble", "theirs"))
		c.closed()
	})
	t.Run("acl", func(t *testing.T) {
		c := b.connect(t, 5000)
		if p := c.must(jute.XidAuth, jute.OpAuth, auth("digest", "user:pw")); p.Zxid != 0 {
			t.Fatalf("%+v", p)
		}
		c.must(jute.XidAuth, jute.OpAuth, auth("ip", ""))
		q := jute.CreateRequest{Path: "/mine", Data: []byte("secret"), ACL: jute.CreatorAllACL()}
		c.must(1, jute.OpCreate, q.Append(nil))
		c.must(2, jute.OpGetData, watchBody("/mine", false))
		who := c.must(3, jute.OpWhoAmI, nil)
		var p jute.WhoAmIResponse
		p.Read(jute.NewReader(who.body))
		if len(p.ClientInfo) != 2 || p.ClientInfo[0] != (jute.ClientInfo{AuthScheme: "ip", User: "127.0.0.1"}) || p.ClientInfo[1] != (jute.ClientInfo{AuthScheme: "digest", User: "user"}) {
			t.Fatalf("%+v", p)
		}
		other := b.connect(t, 5000)
		if p := other.call(1, jute.OpGetData, watchBody("/mine", true)); p.Err != jute.NoAuth {
			t.Fatalf("%+v", p)
		}
		if p := other.call(2, jute.OpDelete, deleteBody("/mine", -1)); p.Err != jute.OK { // DELETE is asked of the parent
			t.Fatalf("%+v", p)
		}
		c.must(4, jute.OpCreate, q.Append(nil))
		if p := other.call(3, jute.OpSetData, setBody("/mine", nil, -1)); p.Err != jute.NoAuth {
			t.Fatalf("%+v", p)
		}
		other.must(jute.XidAuth, jute.OpAuth, auth("digest", "super:test"))
		other.must(4, jute.OpSetData, setBody("/mine", nil, -1))
	})
	t.Run("long ids", func(t *testing.T) { // which every write of the connection would carry
		c := b.connect(t, 5000)
		c.must(jute.XidAuth, jute.OpAuth, auth("digest", strings.Repeat("u", 1000)+":p"))
		if p := c.call(jute.XidAuth, jute.OpAuth, auth("digest", strings.Repeat("u", 500<<10)+":p")); p.Err != jute.AuthFailed {
			t.Fatalf("%+v", p)
		}
		c.closed()
	})
	t.Run("too many ids", func(t *testing.T) {
		c := b.connect(t, 5000)
		var p reply
		for i := 0; i < b.cfg.Limits.AuthIDsMax && p.Err == jute.OK; i++ {
			p = c.call(jute.XidAuth, jute.OpAuth, auth("digest", strings.Repeat("u", i+1)+":p"))
		}
		if p.Err != jute.AuthFailed {
			t.Fatalf("%+v", p)
		}
		c.closed()
	})
}

func TestEnforcedAuth(t *testing.T) {
	b := start(t, func(c *Config) { c.EnforceAuthSchemes = []string{"digest"} })
	c := b.connect(t, 5000)
	if p := c.call(1, jute.OpExists, watchBody("/", false)); p.Err != jute.SessionClosedRequireSASLAuth {
		t.Fatalf("%+v", p)
	}
	c.closed()
	c = b.connect(t, 5000)
	q := jute.AuthPacket{Scheme: "digest", Auth: []byte("a:b")}
	c.must(jute.XidAuth, jute.OpAuth, q.Append(nil))
	c.must(1, jute.OpExists, watchBody("/", false))
}
