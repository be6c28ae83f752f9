package zkserver

import (
	"strings"
	"testing"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
)

// readOnlyTrio is three servers, one of which is cut off and read-only.
func readOnlyTrio(t *testing.T) (n *trio, alone *box, global *client) {
	t.Helper()
	n = startTrio(t, func(e *ensemble.Config, _ *Config) { e.ReadOnlyMode = true })
	leader, id := n.roles()
	alone = n.boxes[id]
	c := n.boxes[leader].connect(t, 20000)
	c.must(1, jute.OpCreate, createBody("/v", []byte("data"), 0))
	c.must(2, jute.OpAuth, (&jute.AuthPacket{Scheme: "digest", Auth: []byte("u:p")}).Append(nil))
	own := jute.CreateRequest{Path: "/own", Data: []byte("secret"), ACL: []jute.ACL{{Perms: jute.PermAll, ID: jute.ID{Scheme: "auth"}}}}
	c.must(3, jute.OpCreate, own.Append(nil))
	global = alone.connect(t, 20000)
	global.must(1, jute.OpSync, pathBody("/"))
	n.isolate(id)
	eventually(t, alone.e.ReadOnly)
	global.closed()
	return n, alone, global
}

// readOnlyRequest is what a client sends that takes a read-only server too.
func readOnlyRequest(timeoutMs int32) *jute.ConnectRequest {
	return &jute.ConnectRequest{TimeoutMs: timeoutMs, Passwd: make([]byte, 16), HasReadOnly: true, ReadOnly: true}
}

// semantics 30: whom a read-only server takes, what it answers, and how its clients come back.
func TestReadOnlyServer(t *testing.T) {
	n, alone, global := readOnlyTrio(t)

	c := alone.dial(t)
	c.write((&jute.ConnectRequest{TimeoutMs: 5000, Passwd: make([]byte, 16), HasReadOnly: true}).Append(nil))
	c.closed()

	// A session of the ensemble is not taken back: the client is to look for a server that knows whether it is open.
	c = alone.dial(t)
	q := readOnlyRequest(5000)
	q.SessionID, q.Passwd = global.session, global.passwd
	c.write(q.Append(nil))
	c.closed()

	r := alone.dial(t)
	if p := r.handshake(readOnlyRequest(5000)); p.SessionID == 0 || !p.ReadOnly || p.TimeoutMs != 5000 || !ensemble.IsLocal(p.SessionID) {
		t.Fatalf("%+v", p)
	}
	if got := value(t, r.must(1, jute.OpGetData, watchBody("/v", true))); got != "data" {
		t.Fatalf("%q", got)
	}
	multi := jute.AppendMulti(nil, []jute.Op{{Type: jute.OpCheck, Path: "/v", Version: -1}})
	for op, body := range map[jute.OpCode][]byte{
		jute.OpCreate: createBody("/x", nil, 0), jute.OpCreate2: createBody("/x", nil, 0), jute.OpSetData: setBody("/v", nil, -1),
		jute.OpDelete: deleteBody("/v", -1), jute.OpSync: pathBody("/v"), jute.OpCheck: deleteBody("/v", -1), jute.OpMulti: multi,
		jute.OpReconfig: nil, jute.OpSetACL: jute.AppendInt32(jute.AppendACLs(pathBody("/v"), jute.OpenACL()), -1),
		jute.OpCreateTTL: nil, jute.OpCreateContainer: createBody("/x", nil, jute.Container), jute.OpDeleteContainer: pathBody("/v"),
	} {
		if p := r.call(2, op, body); p.Err != jute.NotReadOnly || len(p.body) != 0 || p.Zxid != alone.e.Status().Zxid {
			t.Errorf("%v: %+v", op, p)
		}
	}
	if p := r.call(3, jute.OpGetData, watchBody("/own", false)); p.Err != jute.NoAuth {
		t.Errorf("an ACL does not count: %v", p.Err)
	}
	r.must(jute.XidAuth, jute.OpAuth, (&jute.AuthPacket{Scheme: "digest", Auth: []byte("u:p")}).Append(nil))
	if got := value(t, r.must(4, jute.OpGetData, watchBody("/own", false))); got != "secret" {
		t.Errorf("%q", got)
	}
	r.must(jute.XidPing, jute.OpPing, nil)
	for word, want := range map[string]string{"isro": "ro", "srvr": "READ-ONLY mode; serving only read-only clients\n", "stat": "Mode: read-only\n",
		"mntr": "zk_server_state\tread-only\n", "wchs": "1 connections watching 1 paths\nTotal watches:1\n"} {
		if got := alone.word(t, word); !strings.Contains(got, want) {
			t.Errorf("%s: %q", word, got)
		}
	}

	// It comes back with its session while the server stays as it is.
	again := alone.dial(t)
	q = readOnlyRequest(5000)
	q.SessionID, q.Passwd = r.session, r.passwd
	if p := again.handshake(q); p.SessionID != r.session || !p.ReadOnly {
		t.Fatalf("%+v", p)
	}
	r.closed()
	wrong := alone.dial(t)
	if p := wrong.handshake(&jute.ConnectRequest{TimeoutMs: 5000, SessionID: r.session, Passwd: make([]byte, 16), HasReadOnly: true, ReadOnly: true}); p.SessionID != 0 || p.TimeoutMs != 0 {
		t.Fatalf("a wrong password: %+v", p)
	}
	// Its client's own end of the session.
	left := alone.dial(t)
	left.handshake(readOnlyRequest(5000))
	left.must(1, jute.OpCloseSession, nil)
	left.closed()
	q = readOnlyRequest(5000)
	q.SessionID, q.Passwd = left.session, left.passwd
	if p := alone.dial(t).handshake(q); p.SessionID != 0 {
		t.Fatalf("a session that was closed: %+v", p)
	}

	// The others are reached again: readers are sent over, and whoever had a session of the ensemble has it.
	n.heal()
	_ = again.conn.SetDeadline(time.Now().Add(4 * time.Second)) // by itself it would end after 5 s of silence
	again.closed()
	eventually(t, alone.e.Serving)
	if alone.e.ReadOnly() || alone.word(t, "isro") != "rw" || alone.e.LocalSessions() != 0 {
		t.Error("it is read-only still")
	}
	back := alone.dial(t)
	q = readOnlyRequest(20000)
	q.SessionID, q.Passwd = global.session, global.passwd
	if p := back.handshake(q); p.SessionID != global.session || p.ReadOnly {
		t.Fatalf("%+v", p)
	}
	back.must(1, jute.OpSetData, setBody("/v", []byte("2"), -1))
	// A session of the read-only server is unknown to all: its client begins another.
	gone := alone.dial(t)
	q = readOnlyRequest(5000)
	q.SessionID, q.Passwd = again.session, again.passwd
	if p := gone.handshake(q); p.SessionID != 0 {
		t.Fatalf("%+v", p)
	}
	if s := alone.e.Status().Sessions; s != 2 {
		t.Errorf("%d sessions, want those of two clients", s)
	}
}

// A read-only server ends its sessions itself, when nothing is heard of them, and not before.
func TestReadOnlySessionExpires(t *testing.T) {
	_, alone, _ := readOnlyTrio(t)
	c := alone.dial(t)
	p := c.handshake(readOnlyRequest(600))
	for range 10 { // twice the timeout, heard from all the time
		time.Sleep(120 * time.Millisecond)
		c.must(jute.XidPing, jute.OpPing, nil)
	}
	_ = c.conn.Close()
	q := readOnlyRequest(600)
	q.SessionID, q.Passwd = p.SessionID, p.Passwd
	eventually(t, func() bool { return alone.e.Holder(p.SessionID) == nil })
	if back := alone.dial(t).handshake(q); back.SessionID != p.SessionID {
		t.Fatalf("a session that was heard from just now: %+v", back)
	}
	eventually(t, func() bool { return alone.e.LocalSessions() == 0 })
	if back := alone.dial(t).handshake(q); back.SessionID != 0 {
		t.Fatalf("a session that was silent: %+v", back)
	}
}

// Without the mode a server that knows no leader serves nobody.
func TestNoReadOnlyServerUnlessAskedFor(t *testing.T) {
	n := startTrio(t, nil)
	_, id := n.roles()
	n.isolate(id)
	eventually(t, func() bool { return !n.boxes[id].e.Serving() })
	c := n.boxes[id].dial(t)
	c.write(readOnlyRequest(5000).Append(nil))
	c.closed()
	if got := n.boxes[id].word(t, "isro"); got != "null" {
		t.Errorf("%q", got)
	}
}
