package zkserver

import (
	"fmt"
	"slices"
	"testing"

	"cairn/engine/ensemble/jute"
)

// semantics 6: a failed multi has no error in its header and one for each op in its body; semantics 35: null data has no length.
func TestReplies(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	xid := int32(0)
	// Each step: op, body, the code that is wanted, and what the body must be, if it matters.
	acl := jute.AppendACLs(pathBody("/a"), jute.OpenACL())
	multi := jute.AppendMulti(nil, []jute.Op{
		{Type: jute.OpCreate2, Path: "/m", Data: []byte("1"), ACL: jute.OpenACL()},
		{Type: jute.OpSetData, Path: "/m", Data: []byte("2"), Version: 0},
		{Type: jute.OpCheck, Path: "/m", Version: 1},
		{Type: jute.OpDelete, Path: "/m", Version: -1},
	})
	failing := jute.AppendMulti(nil, []jute.Op{
		{Type: jute.OpCheck, Path: "/", Version: -1},
		{Type: jute.OpDelete, Path: "/nothing", Version: -1},
		{Type: jute.OpDelete, Path: "/a", Version: -1},
	})
	reads := jute.AppendMulti(nil, []jute.Op{{Type: jute.OpGetData, Path: "/a"}, {Type: jute.OpGetChildren, Path: "/none"}})
	mixed := jute.AppendMulti(nil, []jute.Op{{Type: jute.OpGetData, Path: "/a"}, {Type: jute.OpDelete, Path: "/a"}})
	ttl := jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/ttl", ACL: jute.OpenACL(), Flags: int32(jute.PersistentTTL)}, TTL: 60000}
	reconfig := jute.ReconfigRequest{Joining: "server.2=x:1:2", CurConfigID: -1}
	for _, step := range []struct {
		op   jute.OpCode
		body []byte
		want jute.Code
		size int // of the body, -1: not looked at
	}{
		{jute.OpCreate, createBody("/a", []byte("data"), 0), jute.OK, 4 + 2},
		{jute.OpCreate, createBody("/a", nil, 0), jute.NodeExists, 0},
		{jute.OpCreate2, createBody("/a/b", nil, 0), jute.OK, 4 + 4 + jute.StatSize},
		{jute.OpCreateContainer, createBody("/c", nil, jute.Container), jute.OK, 4 + 2 + jute.StatSize},
		{jute.OpCreateTTL, ttl.Append(nil), jute.OK, 4 + 4 + jute.StatSize},
		{jute.OpExists, watchBody("/a", false), jute.OK, jute.StatSize},
		{jute.OpExists, watchBody("/z", false), jute.NoNode, 0},
		{jute.OpExists, watchBody("/a\x00", false), jute.BadArguments, 0},
		{jute.OpGetData, watchBody("/a", false), jute.OK, 4 + 4 + jute.StatSize},
		{jute.OpGetData, watchBody("/a/b", false), jute.OK, 4 + jute.StatSize}, // null data
		{jute.OpSetData, setBody("/a", nil, 7), jute.BadVersion, 0},
		{jute.OpSetData, setBody("/a", []byte("x"), -1), jute.OK, jute.StatSize},
		{jute.OpGetACL, pathBody("/a"), jute.OK, -1},
		{jute.OpSetACL, jute.AppendInt32(acl, -1), jute.OK, jute.StatSize},
		{jute.OpGetChildren, watchBody("/a", false), jute.OK, 4 + 4 + 1},
		{jute.OpGetChildren2, watchBody("/a", false), jute.OK, 4 + 4 + 1 + jute.StatSize},
		{jute.OpSync, pathBody("/a"), jute.OK, 4 + 2},
		{jute.OpMulti, multi, jute.OK, -1},
		{jute.OpMulti, failing, jute.OK, 3*(9+4) + 9},
		{jute.OpMulti, mixed, jute.MarshallingError, 0},
		{jute.OpMultiRead, mixed, jute.MarshallingError, 0},
		{jute.OpMultiRead, reads, jute.OK, 9 + 4 + 1 + jute.StatSize + 9 + 4 + 9},
		{jute.OpReconfig, reconfig.Append(nil), jute.ReconfigDisabled, 0},
		{jute.OpReconfig, nil, jute.MarshallingError, 0},
		{jute.OpGetEphemerals, pathBody("/"), jute.OK, 4},
		{jute.OpGetAllChildrenNumber, pathBody("/a"), jute.OK, 4},
		{jute.OpGetAllChildrenNumber, pathBody("/q"), jute.NoNode, 0},
		{jute.OpAddWatch, typeBody("/a", 0), jute.OK, 4},
		{jute.OpAddWatch, typeBody("/a", 9), jute.MarshallingError, 0},
		{jute.OpCheckWatches, typeBody("/a", int32(jute.WatcherAny)), jute.OK, 0},
		{jute.OpCheckWatches, typeBody("/a/b", int32(jute.WatcherAny)), jute.NoWatcher, 0},
		{jute.OpRemoveWatches, typeBody("/a", int32(jute.WatcherPersistent)), jute.OK, 0},
		{jute.OpRemoveWatches, typeBody("/a", int32(jute.WatcherPersistent)), jute.NoWatcher, 0},
		{jute.OpRemoveWatches, typeBody("/a", 77), jute.MarshallingError, 0},
		{jute.OpSASL, jute.AppendBuffer(nil, []byte{}), jute.OK, 4},
		{jute.OpWhoAmI, nil, jute.OK, -1},
		{jute.OpDelete, deleteBody("/a", -1), jute.NotEmpty, 0},
		{jute.OpDelete, deleteBody("/a/b", -1), jute.OK, 0},
		{jute.OpDelete, []byte{1, 2}, jute.MarshallingError, 0},
		{jute.OpGetData, []byte{0xff, 0xff, 0xff, 0xfe}, jute.MarshallingError, 0},
		{jute.OpDelete, deleteBody("/zookeeper", -1), jute.BadArguments, 0},
	} {
		xid++
		p := c.call(xid, step.op, step.body)
		if p.Err != step.want {
			t.Errorf("%v %q: %v, want %v", step.op, step.body, p.Err, step.want)
		}
		if step.size >= 0 && len(p.body) != step.size {
			t.Errorf("%v %q: a body of %d bytes, want %d", step.op, step.body, len(p.body), step.size)
		}
	}
}

// TestPipeline sends writes and reads without waiting. Every read must see exactly the writes before it, and the answers
// must come in order.
// semantics 14: they come behind the events; semantics 7: no zxid is lower than one before.
func TestPipeline(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	c.must(1, jute.OpCreate, createBody("/n", nil, 0))
	const rounds = 200
	for i := range int32(rounds) {
		c.send(10+3*i, jute.OpSetData, setBody("/n", fmt.Append(nil, i), -1))
		c.send(11+3*i, jute.OpGetData, watchBody("/n", true))
		c.send(12+3*i, jute.OpExists, watchBody("/n", false))
	}
	last := int64(0)
	for i := range int32(3 * rounds) {
		p := c.reply()
		if p.Xid != 10+i || p.Err != jute.OK {
			t.Fatalf("answer %d: %+v", i, p.ReplyHeader)
		}
		if p.Zxid < last {
			t.Fatalf("answer %d: zxid went from %d to %d", i, last, p.Zxid)
		}
		last = p.Zxid
		if i%3 == 1 {
			var d jute.GetDataResponse
			d.Read(jute.NewReader(p.body))
			if string(d.Data) != fmt.Sprint(i/3) {
				t.Fatalf("the read behind write %d saw %q", i/3, d.Data)
			}
		}
	}
	// Each watch but the last fires for the next write: its event stands before that write's answer.
	if len(c.events) != rounds-1 {
		t.Fatalf("%d events, want %d", len(c.events), rounds-1)
	}
	for i, xid := range c.order {
		if xid == jute.XidNotification && (c.order[i+1]-10)%3 != 0 {
			t.Fatalf("the event at %d stands before answer %d", i, c.order[i+1])
		}
	}
}

func TestPipelineOfManyConnections(t *testing.T) {
	b := start(t, func(c *Config) { c.OutstandingMax = 8; c.Limits.PipelineMax = 16 })
	done := make(chan error, 8)
	for n := range 8 {
		c := b.connect(t, 5000)
		go func() {
			done <- func() error {
				path := fmt.Sprintf("/p%d", n)
				go func() {
					for i := range int32(100) {
						c.send(2*i+1, jute.OpCreate, createBody(path, nil, jute.PersistentSequential))
						c.send(2*i+2, jute.OpGetChildren, watchBody("/", i%10 == 0))
					}
				}()
				want := int32(1)
				for want <= 200 {
					p, err := c.next()
					if err != nil {
						return err
					}
					if p.Xid == jute.XidNotification {
						continue
					}
					if p.Xid != want || p.Err != jute.OK {
						return fmt.Errorf("connection %d: answer %d instead of %d: %v", n, p.Xid, want, p.Err)
					}
					want++
				}
				return nil
			}()
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// semantics 16 and semantics 17: which watches a change fires, and in which order; semantics 18: setWatches tells of what was missed
// before it is answered.
func TestWatches(t *testing.T) {
	b := start(t, nil)
	w, c := b.connect(t, 5000), b.connect(t, 5000)
	c.must(1, jute.OpCreate, createBody("/d", nil, 0))
	w.must(1, jute.OpGetChildren, watchBody("/d", true))
	w.call(2, jute.OpExists, watchBody("/d/x", true))
	w.must(3, jute.OpAddWatch, typeBody("/d", jute.AddWatchPersistentRecursive))
	w.call(4, jute.OpGetData, watchBody("/d/none", true)) // registers nothing
	c.must(2, jute.OpCreate, createBody("/d/x", nil, 0))
	c.must(3, jute.OpSetData, setBody("/d/x", nil, -1))
	c.must(4, jute.OpDelete, deleteBody("/d/x", -1))
	w.must(5, jute.OpSync, pathBody("/"))
	want := []jute.WatcherEvent{
		{Type: jute.EventNodeCreated, State: 3, Path: "/d/x"},
		{Type: jute.EventNodeChildrenChanged, State: 3, Path: "/d"},
		{Type: jute.EventNodeDataChanged, State: 3, Path: "/d/x"},
		{Type: jute.EventNodeDeleted, State: 3, Path: "/d/x"},
	}
	if !slices.Equal(w.events, want) {
		t.Fatalf("%+v, want %+v", w.events, want)
	}
	t.Run("caught up after a reconnect", func(t *testing.T) {
		w := b.connect(t, 5000)
		zxid := w.must(1, jute.OpExists, watchBody("/d", false)).Zxid
		c.must(5, jute.OpSetData, setBody("/d", nil, -1))
		q := jute.SetWatches2Request{SetWatchesRequest: jute.SetWatchesRequest{RelativeZxid: zxid,
			Data: []string{"/d", "/gone", "/zookeeper"}, Exist: []string{"/d", "/later"}, Child: []string{"/d"}}, Persistent: []string{"/d"}, PersistentRecursive: []string{}}
		w.must(jute.XidSetWatches, jute.OpSetWatches2, q.Append(nil))
		want := []jute.WatcherEvent{
			{Type: jute.EventNodeDataChanged, State: 3, Path: "/d"},
			{Type: jute.EventNodeDeleted, State: 3, Path: "/gone"},
			{Type: jute.EventNodeCreated, State: 3, Path: "/d"},
		}
		if !slices.Equal(w.events, want) {
			t.Fatalf("%+v, want %+v", w.events, want)
		}
		c.must(6, jute.OpCreate, createBody("/later", nil, 0))
		c.must(7, jute.OpCreate, createBody("/d/y", nil, 0))
		w.must(2, jute.OpSync, pathBody("/"))
		want = append(want, jute.WatcherEvent{Type: jute.EventNodeCreated, State: 3, Path: "/later"},
			jute.WatcherEvent{Type: jute.EventNodeChildrenChanged, State: 3, Path: "/d"})
		if !slices.Equal(w.events, want) {
			t.Fatalf("%+v, want %+v", w.events, want)
		}
	})
}
