package zkserver

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
)

// Rules of ZooKeeper's connections that no other test is about. What the numbers are says engine/semantics_test.go.

func authBody(scheme, id string) []byte {
	q := jute.AuthPacket{Scheme: scheme, Auth: []byte(id)}
	return q.Append(nil)
}

// private is a create of what only the given user may read.
func private(path, userPassword string) []byte {
	q := jute.CreateRequest{Path: path, ACL: []jute.ACL{{Perms: jute.PermAll, ID: jute.ID{Scheme: jute.SchemeDigest, ID: Digest(userPassword)}}}}
	return q.Append(nil)
}

// reopen takes the session of another connection over.
func (b *box) reopen(t testing.TB, of *client) *client {
	t.Helper()
	c := b.dial(t)
	p := c.handshake(&jute.ConnectRequest{TimeoutMs: 20000, SessionID: of.session, Passwd: of.passwd, HasReadOnly: true})
	if p.SessionID != of.session {
		t.Fatalf("session 0x%x was not taken over: %+v", of.session, p)
	}
	return c
}

// semantics 9: a watch may be added on what may not be read; semantics 10: whoever may not read it is told nothing.
func TestAWatchAsksForNoPermission(t *testing.T) {
	b := start(t, nil)
	owner, other := b.connect(t, 5000), b.connect(t, 5000)
	owner.must(jute.XidAuth, jute.OpAuth, authBody("digest", "u:p"))
	owner.must(1, jute.OpCreate, private("/mine", "u:p"))
	for _, c := range []*client{owner, other} {
		c.must(2, jute.OpAddWatch, typeBody("/mine", jute.AddWatchPersistent))
		c.must(3, jute.OpAddWatch, typeBody("/mine/x", jute.AddWatchPersistentRecursive))
	}
	owner.must(4, jute.OpSetData, setBody("/mine", nil, -1))
	owner.must(5, jute.OpCreate, createBody("/mine/x", nil, 0))
	owner.must(6, jute.OpDelete, deleteBody("/mine/x", -1))
	owner.must(7, jute.OpDelete, deleteBody("/mine", -1))
	other.must(8, jute.OpSync, pathBody("/"))
	if len(owner.events) != 6 {
		t.Errorf("the owner was told %+v", owner.events)
	}
	// Of the open node below it the other is told all, of changed data, changed children and the deletion of the first nothing.
	want := []jute.WatcherEvent{{Type: jute.EventNodeCreated, State: 3, Path: "/mine/x"}, {Type: jute.EventNodeDeleted, State: 3, Path: "/mine/x"}}
	if !slices.Equal(other.events, want) {
		t.Errorf("who may not read /mine was told %+v, want %+v", other.events, want)
	}
}

// semantics 12: ids add up, and belong to the connection and not to its session. semantics 11: auth stands for all of them.
func TestIDsBelongToTheConnection(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	c.must(jute.XidAuth, jute.OpAuth, authBody("digest", "a:1"))
	c.must(jute.XidAuth, jute.OpAuth, authBody("digest", "b:2"))
	q := jute.CreateRequest{Path: "/mine", ACL: jute.CreatorAllACL()}
	c.must(1, jute.OpCreate, q.Append(nil))
	for _, user := range []string{"a:1", "b:2"} {
		one := b.connect(t, 5000)
		if p := one.call(1, jute.OpGetData, watchBody("/mine", false)); p.Err != jute.NoAuth {
			t.Errorf("nobody: %v", p.Err)
		}
		one.must(jute.XidAuth, jute.OpAuth, authBody("digest", user))
		one.must(2, jute.OpGetData, watchBody("/mine", false))
	}
	again := b.reopen(t, c)
	if p := again.call(1, jute.OpGetData, watchBody("/mine", false)); p.Err != jute.NoAuth {
		t.Errorf("the session's next connection has its ids: %v", p.Err)
	}
	again.must(jute.XidAuth, jute.OpAuth, authBody("digest", "b:2"))
	again.must(2, jute.OpGetData, watchBody("/mine", false))
}

// semantics 14: a ping is answered in its place, behind the writes that were sent before it, and with what they changed.
func TestPingsKeepTheirPlace(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	c.must(1, jute.OpCreate, createBody("/n", nil, 0))
	var want []int32
	for i := range int32(100) {
		c.send(10+i, jute.OpSetData, setBody("/n", nil, i))
		c.send(jute.XidPing, jute.OpPing, nil)
		want = append(want, 10+i, jute.XidPing)
	}
	written := int64(0)
	for i, xid := range want {
		p := c.reply()
		if p.Xid != xid || p.Err != jute.OK || p.Zxid < written {
			t.Fatalf("answer %d: %+v, want xid %d and a zxid of %d or more", i, p.ReplyHeader, xid, written)
		}
		written = p.Zxid
	}
}

// semantics 14: the reads of one session do not wait for the writes of another.
func TestReadsDoNotWaitForOthersWrites(t *testing.T) {
	n := startTrio(t, func(e *ensemble.Config, _ *Config) { e.LeaderlessMax = time.Minute })
	_, follower := n.roles()
	writer, reader := n.boxes[follower].connect(t, 20000), n.boxes[follower].connect(t, 20000)
	n.isolate(follower)
	writer.send(1, jute.OpCreate, createBody("/never", nil, 0))
	eventually(t, func() bool { return n.boxes[follower].outstanding.Load() == 1 })
	if p := reader.call(1, jute.OpExists, watchBody("/never", false)); p.Err != jute.NoNode {
		t.Fatalf("%+v", p)
	}
	if n.boxes[follower].outstanding.Load() != 1 {
		t.Fatal("the write does not wait: the test shows nothing")
	}
}

// semantics 15: of the reads of what is missing, exists alone leaves a watch.
func TestWatchesOnWhatIsMissing(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	for i, op := range []jute.OpCode{jute.OpGetData, jute.OpGetChildren, jute.OpGetChildren2, jute.OpExists} {
		path := fmt.Sprintf("/m%d", op)
		if p := c.call(int32(i), op, watchBody(path, true)); p.Err != jute.NoNode {
			t.Fatalf("%v: %+v", op, p)
		}
		c.must(10, jute.OpCreate, createBody(path, nil, 0))
		c.must(11, jute.OpSetData, setBody(path, nil, -1))
		c.must(12, jute.OpCreate, createBody(path+"/x", nil, 0))
	}
	if want := []jute.WatcherEvent{{Type: jute.EventNodeCreated, State: 3, Path: fmt.Sprintf("/m%d", jute.OpExists)}}; !slices.Equal(c.events, want) {
		t.Fatalf("told %+v, want %+v", c.events, want)
	}
}

// semantics 19: a server that lags refuses whoever has seen more, until it has caught up.
func TestAServerThatLagsRefuses(t *testing.T) {
	n := startTrio(t, func(e *ensemble.Config, _ *Config) { e.LeaderlessMax = time.Minute })
	leader, follower := n.roles()
	w := n.boxes[leader].connect(t, 20000)
	n.isolate(follower)
	seen := w.must(1, jute.OpCreate, createBody("/new", nil, 0)).Zxid
	q := jute.ConnectRequest{TimeoutMs: 20000, SessionID: w.session, Passwd: w.passwd, LastZxidSeen: seen, HasReadOnly: true}
	c := n.boxes[follower].dial(t)
	c.write(q.Append(nil))
	c.closed()
	if n.boxes[follower].stats.revalidated.Get() != 0 {
		t.Error("the leader was asked whether the session is open: it was closed for want of an answer")
	}
	if n.boxes[follower].e.Status().Zxid >= seen {
		t.Fatal("it does not lag: the test shows nothing")
	}
	n.heal()
	eventually(t, func() bool { return n.boxes[follower].e.Status().Zxid >= seen && n.boxes[follower].e.Serving() })
	c = n.boxes[follower].dial(t)
	if p := c.handshake(&q); p.SessionID != w.session {
		t.Fatalf("it has caught up: %+v", p)
	}
	c.must(1, jute.OpExists, watchBody("/new", false))
}

// semantics 21: a session that goes on at another server ends its connection here, whose writes are answered with nothing.
func TestASessionThatWentElsewhere(t *testing.T) {
	n := startTrio(t, nil)
	leader, follower := n.roles()
	for _, way := range [][2]uint64{{follower, leader}, {leader, follower}} {
		old := n.boxes[way[0]].connect(t, 20000)
		old.must(1, jute.OpCreate, createBody("/e", nil, jute.EphemeralSequential))
		moved := n.boxes[way[1]].reopen(t, old)
		for xid := int32(2); xid < 5; xid++ {
			h := jute.RequestHeader{Xid: xid, Op: jute.OpCreate}
			body := append(h.Append(nil), createBody("/late", nil, 0)...)
			_, _ = old.conn.Write(append(jute.AppendInt32(nil, int32(len(body))), body...)) // it may be closed by now
		}
		old.closed()
		moved.must(1, jute.OpSync, pathBody("/"))
		if p := moved.call(2, jute.OpExists, watchBody("/late", false)); p.Err != jute.NoNode {
			t.Errorf("the old connection's write came to pass: %+v", p)
		}
		if got := moved.must(3, jute.OpGetEphemerals, pathBody("/")); !bytes.Contains(got.body, []byte("/e")) {
			t.Errorf("%q", got.body)
		}
		moved.must(4, jute.OpCloseSession, nil)
	}
}

// semantics 23: what a session creates in front of its end goes with it, all in the one transaction of the end.
func TestTheEndTakesWhatIsUnderWay(t *testing.T) {
	b := start(t, nil)
	watcher, c := b.connect(t, 5000), b.connect(t, 5000)
	watcher.must(1, jute.OpAddWatch, typeBody("/", jute.AddWatchPersistentRecursive))
	const ephemerals = 20
	for i := range int32(ephemerals) {
		c.send(i, jute.OpCreate, createBody(fmt.Sprintf("/e%02d", i), nil, jute.Ephemeral))
	}
	c.send(ephemerals, jute.OpCloseSession, nil)
	var last reply
	for i := range int32(ephemerals + 1) {
		if last = c.reply(); last.Xid != i || last.Err != jute.OK {
			t.Fatalf("answer %d: %+v", i, last.ReplyHeader)
		}
	}
	c.closed()
	var stat jute.Stat
	stat.Read(jute.NewReader(watcher.must(2, jute.OpExists, watchBody("/", false)).body))
	if stat.Pzxid != last.Zxid {
		t.Errorf("the parent changed last at 0x%x, the session ended at 0x%x", stat.Pzxid, last.Zxid)
	}
	deleted := 0
	for _, e := range watcher.events {
		if e.Type == jute.EventNodeDeleted {
			deleted++
		}
	}
	if deleted != ephemerals || len(watcher.events) != 2*ephemerals {
		t.Errorf("%d of %d ephemerals were deleted, %d events", deleted, ephemerals, len(watcher.events))
	}
	if after := watcher.must(3, jute.OpSync, pathBody("/")); after.Zxid != last.Zxid {
		t.Errorf("the session ended at 0x%x, the tree stands at 0x%x: more than one transaction", last.Zxid, after.Zxid)
	}
}

// semantics 24: a session is one transaction, and its client is answered when that is committed.
func TestASessionIsATransaction(t *testing.T) {
	n := startTrio(t, func(e *ensemble.Config, _ *Config) { e.LeaderlessMax = time.Minute })
	_, id := n.roles()
	b := n.boxes[id]
	first := b.connect(t, 20000)
	before := first.must(1, jute.OpSync, pathBody("/")).Zxid
	second := b.connect(t, 20000)
	if after := second.must(jute.XidPing, jute.OpPing, nil).Zxid; after != before+1 {
		t.Errorf("a session took the zxid from 0x%x to 0x%x", before, after)
	}
	n.isolate(id)
	c := b.dial(t)
	c.write((&jute.ConnectRequest{TimeoutMs: 20000, Passwd: make([]byte, 16), HasReadOnly: true}).Append(nil))
	_ = c.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // with a majority it takes a few
	if p, err := c.tryRead(); err == nil {
		t.Errorf("a server without a majority opened a session: %x", p)
	}
}

// far is a connection that says it comes from elsewhere.
type far struct {
	net.Conn
	from net.TCPAddr
}

func (f far) RemoteAddr() net.Addr { return &f.from }

// semantics 28: who comes by IPv4 to a socket for IPv6 is an IPv4 client: its ip id is matched by ACLs of IPv4.
func TestAMappedAddress(t *testing.T) {
	b := start(t, nil)
	for from, want := range map[string]string{"::ffff:10.1.2.3": "10.1.2.3", "10.1.2.3": "10.1.2.3", "2001:db8::7": "2001:db8:0:0:0:0:0:7"} {
		near, theirs := net.Pipe()
		_ = near.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { near.Close() })
		b.admit(far{theirs, net.TCPAddr{IP: net.ParseIP(from).To16(), Port: 7}})
		c := &client{t: t, conn: near}
		c.handshake(&jute.ConnectRequest{TimeoutMs: 5000, Passwd: make([]byte, 16), HasReadOnly: true})
		var who jute.WhoAmIResponse
		who.Read(jute.NewReader(c.must(1, jute.OpWhoAmI, nil).body))
		if len(who.ClientInfo) != 1 || who.ClientInfo[0] != (jute.ClientInfo{AuthScheme: "ip", User: want}) {
			t.Errorf("%s is %+v, want %s", from, who.ClientInfo, want)
		}
	}
}

// semantics 29: behind a sync, a follower shows what was acknowledged before it was asked.
func TestASyncOnAFollower(t *testing.T) {
	n := startTrio(t, func(e *ensemble.Config, _ *Config) { e.LeaderlessMax = time.Minute })
	leader, follower := n.roles()
	w, r := n.boxes[leader].connect(t, 20000), n.boxes[follower].connect(t, 20000)
	w.must(1, jute.OpCreate, createBody("/v", nil, 0))
	for i := range int32(3) {
		n.isolate(follower) // it falls behind for sure
		w.must(10+i, jute.OpSetData, setBody("/v", fmt.Append(nil, i), -1))
		r.send(10+2*i, jute.OpSync, pathBody("/v"))
		r.send(11+2*i, jute.OpGetData, watchBody("/v", false))
		eventually(t, func() bool { return n.boxes[follower].outstanding.Load() == 2 })
		n.heal()
		if p := r.reply(); p.Xid != 10+2*i || p.Err != jute.OK || string(p.body) != string(pathBody("/v")) {
			t.Fatalf("%+v %q", p.ReplyHeader, p.body)
		}
		if got := value(t, r.reply()); got != fmt.Sprint(i) {
			t.Fatalf("behind a sync it shows %q, and %d was acknowledged before", got, i)
		}
	}
}

// semantics 31: while more requests are under way than the maximum, sockets are not read, and nothing is refused.
func TestSocketsAreNotReadBeyondTheMaximum(t *testing.T) {
	const most, sent = 8, 100
	n := startTrio(t, func(e *ensemble.Config, c *Config) {
		e.LeaderlessMax = time.Minute
		c.OutstandingMax = most
	})
	_, follower := n.roles()
	b := n.boxes[follower]
	c := b.connect(t, 20000)
	n.isolate(follower)
	before := b.Stats().Received
	for i := range int32(sent) {
		c.send(i, jute.OpSync, pathBody("/"))
	}
	eventually(t, func() bool { return b.Stats().Received-before > most })
	n.heal()
	taken := b.Stats().Received - before
	for i := range int32(sent) {
		if p := c.reply(); p.Xid != i || p.Err != jute.OK {
			t.Fatalf("answer %d: %+v", i, p.ReplyHeader)
		}
	}
	if taken > most+1 {
		t.Errorf("%d requests were read, %d may be under way", taken, most)
	}
}
