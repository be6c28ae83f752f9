package znode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"cairn/engine/ensemble/jute"
)

// open gives a tree with one session, 1.
func open() (*Tree, *Entry) {
	t := New()
	o := t.Apply(&Entry{Kind: KindCreateSession, TimeoutMs: 1000})
	return t, &Entry{Kind: KindOp, Session: o.Session}
}

func create(t *Tree, as *Entry, path string, acl ...jute.ACL) Outcome {
	if acl == nil {
		acl = jute.OpenACL()
	}
	e := *as
	e.Ops = []jute.Op{{Type: jute.OpCreate, Path: path, ACL: acl, Data: []byte("data")}}
	return t.Apply(&e)
}

// semantics 2: at 2^31 creates the number turns negative, with eleven characters.
func TestSequentialOverflow(t *testing.T) {
	tree, as := open()
	create(tree, as, "/p")
	tree.node(tree.find("/p")).cversion = math.MaxInt32
	as.Ops = []jute.Op{{Type: jute.OpCreate, Path: "/p/x", ACL: jute.OpenACL(), Flags: int32(jute.PersistentSequential)}}
	for _, want := range []string{"/p/x2147483647", "/p/x-2147483648", "/p/x-2147483647"} {
		if o := tree.Apply(as); o.Results[0].Path != want {
			t.Errorf("%s, want %s", o.Results[0].Path, want)
		}
	}
}

// semantics 5: versions wrap as signed 32 bits do, through -1, as in 3.9.5 (later ones leave -1 out). A version that is expected
// at -1 is any.
func TestVersionsWrap(t *testing.T) {
	tree, as := open()
	create(tree, as, "/v")
	for _, step := range []struct{ has, expect, want int32 }{
		{math.MaxInt32, math.MaxInt32, math.MinInt32}, {math.MinInt32, math.MinInt32, math.MinInt32 + 1}, {-2, -2, -1}, {-1, -1, 0},
	} {
		tree.node(tree.find("/v")).version = step.has
		tree.node(tree.find("/v")).aversion = step.has
		as.Ops = []jute.Op{{Type: jute.OpSetData, Path: "/v", Version: step.expect}}
		if o := tree.Apply(as); o.Err != jute.OK || o.Results[0].Stat.Version != step.want {
			t.Errorf("data at %d: %v, %+v, want %d", step.has, o.Err, o.Results, step.want)
		}
		as.Ops = []jute.Op{{Type: jute.OpSetACL, Path: "/v", ACL: jute.OpenACL(), Version: step.expect}}
		if o := tree.Apply(as); o.Err != jute.OK || o.Results[0].Stat.Aversion != step.want {
			t.Errorf("acl at %d: %v, %+v, want %d", step.has, o.Err, o.Results, step.want)
		}
	}
}

// semantics 10: a change carries the ACLs that decide who may be told, also when the node is gone.
func TestChangesCarryACLs(t *testing.T) {
	tree, as := open()
	as.Auth = []jute.ID{{Scheme: "ip", ID: "10.0.0.1"}}
	private := jute.ACL{Perms: jute.PermAll, ID: jute.ID{Scheme: "ip", ID: "10.0.0.1"}}
	create(tree, as, "/p", private)
	create(tree, as, "/p/x")
	as.Ops = []jute.Op{{Type: jute.OpDelete, Path: "/p/x", Version: -1}}
	deleted := tree.Apply(as)
	as.Ops = []jute.Op{{Type: jute.OpDelete, Path: "/p", Version: -1}}
	deletedParent := tree.Apply(as)
	stranger := Access{IDs: []jute.ID{{Scheme: "ip", ID: "10.0.0.2"}}}
	for _, c := range []struct {
		change   Change
		kind     jute.EventType
		path     string
		stranger bool
	}{
		{deleted.Changes[0], jute.EventNodeDeleted, "/p/x", true},
		{deleted.Changes[1], jute.EventNodeChildrenChanged, "/p", false},
		{deletedParent.Changes[0], jute.EventNodeDeleted, "/p", false},
		{deletedParent.Changes[1], jute.EventNodeChildrenChanged, "/", true},
	} {
		if c.change.Kind != c.kind || c.change.Path != c.path {
			t.Errorf("change %v %s, want %v %s", c.change.Kind, c.change.Path, c.kind, c.path)
		}
		if MayRead(c.change.Path, c.change.ACL, stranger) != c.stranger || !MayRead(c.change.Path, c.change.ACL, as.access()) {
			t.Errorf("%v %s: a stranger may be told: %v", c.kind, c.path, !c.stranger)
		}
	}
	if MayRead("/cairn/secret/x", jute.OpenACL(), Access{IDs: []jute.ID{{Scheme: "super"}}, SkipACL: true}) {
		t.Error("super is told of secrets")
	}
	if !MayRead("/cairn/secret/x", nil, Box()) || !MayRead("/cairn/secrets", jute.OpenACL(), stranger) {
		t.Error("the box is not told, or a neighbour's name is taken for the secret's")
	}
}

// semantics 6: the header of a failed multi says OK, its body has an error for each op.
func TestFailedMultiBody(t *testing.T) {
	tree, as := open()
	as.Kind = KindMulti
	as.Ops = []jute.Op{
		{Type: jute.OpCreate, Path: "/a", ACL: jute.OpenACL()},
		{Type: jute.OpCheck, Path: "/none", Version: -1},
		{Type: jute.OpDelete, Path: "/a", Version: -1},
	}
	o := tree.Apply(as)
	if o.ReplyErr() != jute.OK || o.Err != jute.NoNode || len(o.Changes) != 0 {
		t.Fatalf("header %v, outcome %v, changes %v", o.ReplyErr(), o.Err, o.Changes)
	}
	r := jute.NewReader(o.AppendBody(nil))
	results := jute.ReadMultiResponse(r, 10)
	if r.Err() != nil || r.Remaining() != 0 || len(results) != 3 {
		t.Fatalf("body %v: %v", results, r.Err())
	}
	for i, want := range []jute.Code{jute.OK, jute.NoNode, jute.RuntimeInconsistency} {
		if results[i].Type != jute.OpError || results[i].Err != want {
			t.Errorf("result %d is %+v, want %v", i, results[i], want)
		}
	}
	as.Session = 99
	if o := tree.Apply(as); o.ReplyErr() != jute.OK || o.Results[0].Err != jute.SessionExpired {
		t.Errorf("without a session: %v %+v", o.ReplyErr(), o.Results)
	}
}

// The bodies of replies are the records that clients expect.
func TestReplyBodies(t *testing.T) {
	tree, as := open()
	do := func(op jute.Op) *jute.Reader {
		as.Kind, as.Ops = KindOp, []jute.Op{op}
		o := tree.Apply(as)
		if o.ReplyErr() != jute.OK {
			t.Fatalf("%+v: %v", op, o.Err)
		}
		return jute.NewReader(o.AppendBody(nil))
	}
	r := do(jute.Op{Type: jute.OpCreate, Path: "/a", ACL: jute.OpenACL()})
	if p := r.String(); p != "/a" || r.Remaining() != 0 {
		t.Error("create:", p)
	}
	var two jute.Create2Response
	two.Read(do(jute.Op{Type: jute.OpCreate2, Path: "/b", ACL: jute.OpenACL()}))
	if two.Path != "/b" || two.Stat.Czxid != tree.Zxid() {
		t.Errorf("create2: %+v", two)
	}
	var stat jute.Stat
	stat.Read(do(jute.Op{Type: jute.OpSetData, Path: "/a", Version: 0}))
	if stat.Version != 1 {
		t.Errorf("setData: %+v", stat)
	}
	if r := do(jute.Op{Type: jute.OpDelete, Path: "/a", Version: 1}); r.Remaining() != 0 {
		t.Error("delete has a body")
	}
	as.Ops = []jute.Op{{Type: jute.OpDelete, Path: "/a", Version: 1}}
	if o := tree.Apply(as); o.ReplyErr() != jute.NoNode || len(o.AppendBody(nil)) != 0 {
		t.Error("a failed reply has a body")
	}
}

// semantics 20 and the design's sessions: a password proves one session, and not without the secret.
func TestPasswords(t *testing.T) {
	a, b := New(), New()
	a.Apply(&Entry{Kind: KindSetSecret, Flags: FlagInternal, Data: []byte("0123456789abcdef")})
	b.Apply(&Entry{Kind: KindSetSecret, Flags: FlagInternal, Data: []byte("0123456789abcdeg")})
	p := a.Password(7)
	if !a.CheckPassword(7, p[:]) || a.CheckPassword(8, p[:]) || b.CheckPassword(7, p[:]) || a.CheckPassword(7, p[:15]) || a.CheckPassword(7, nil) {
		t.Error("a password proves too much or too little")
	}
	if back := restored(t, a); !back.CheckPassword(7, p[:]) {
		t.Error("the secret is not in the snapshot")
	}
}

// A session's id is positive and its high byte is not that of a TTL node or a container.
func TestSessionIDs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id := SessionIDOf(rapid.Int64Range(1, math.MaxInt64).Draw(rt, "zxid"), rapid.Uint64().Draw(rt, "box"))
		if id < 0 || uint64(id)>>56 == 0xff {
			rt.Fatalf("%#x", id)
		}
	})
}

// The index finds what is in it and nothing else, whatever came and went.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree, as := open()
		in := map[string]bool{}
		for range rapid.IntRange(0, 400).Draw(rt, "steps") {
			path := fmt.Sprintf("/%d", rapid.IntRange(0, 60).Draw(rt, "name"))
			if in[path] {
				as.Ops = []jute.Op{{Type: jute.OpDelete, Path: path, Version: -1}}
				tree.Apply(as)
			} else {
				create(tree, as, path)
			}
			in[path] = !in[path]
		}
		for path, there := range in {
			if (tree.find(path) != 0) != there {
				rt.Fatalf("%s: found %d, want %v", path, tree.find(path), there)
			}
		}
		if err := checkTree(tree); err != nil {
			rt.Fatal(err)
		}
	})
}

// WouldGrow is not less than what an entry takes.
func TestWouldGrow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree := New()
		for range rapid.IntRange(1, 60).Draw(rt, "entries") {
			var sessions []int64
			for _, s := range tree.Sessions() {
				sessions = append(sessions, s.ID)
			}
			e := genEntry(rt, sessions)
			before, may := tree.Bytes(), tree.WouldGrow(e)
			tree.Apply(e)
			if grown := tree.Bytes() - before; grown > may {
				rt.Fatalf("%+v grew the tree by %d bytes, expected at most %d", e, grown, may)
			}
		}
	})
}

func TestMarshalRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := genEntry(rt, []int64{1, -5, math.MaxInt64})
		e.Rules, e.Box, e.Incarnation, e.NeverUsedMs = rapid.Uint32().Draw(rt, "rules"), rapid.Uint64().Draw(rt, "box"), rapid.Uint64().Draw(rt, "inc"), rapid.Int64().Draw(rt, "never")
		e.Zxid, e.Data = rapid.Int64().Draw(rt, "zxid"), rapid.SampledFrom([][]byte{nil, {}, {1, 2}}).Draw(rt, "data")
		b := e.Marshal(nil)
		var back Entry
		if err := back.Unmarshal(b); err != nil {
			rt.Fatal(err)
		}
		if !reflect.DeepEqual(*e, back) {
			rt.Fatalf("%+v\n%+v", *e, back)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(rt, "cut")
		if err := back.Unmarshal(b[:cut]); !errors.Is(err, ErrEntry) {
			rt.Fatalf("%d of %d bytes: %v", cut, len(b), err)
		}
		if err := back.Unmarshal(append(b, 0)); !errors.Is(err, ErrEntry) {
			rt.Fatalf("a byte behind the end: %v", err)
		}
	})
}

// frame gives payload the header of a frame.
func frame(payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

func snapshotOf(tb testing.TB, t *Tree) []byte {
	c, err := t.Cut()
	if err != nil {
		tb.Fatal(err)
	}
	var stream []byte
	for more := true; more; {
		stream, more = c.Next(stream, 100)
	}
	return stream
}

// Every byte of a snapshot counts: changed, it is found; and a stream that is cut short or goes on is refused.
func TestRestoreRefusesDamage(t *testing.T) {
	tree, as := open()
	create(tree, as, "/a")
	create(tree, as, "/a/b")
	stream := snapshotOf(t, tree)
	for i := range stream {
		bad := bytes.Clone(stream)
		bad[i] ^= 0x40
		if _, err := Restore(bytes.NewReader(bad)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := Restore(bytes.NewReader(stream[:i])); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := Restore(bytes.NewReader(append(bytes.Clone(stream), 0))); !errors.Is(err, ErrSnapshot) {
		t.Fatal("bytes behind the end:", err)
	}
}

// A frame that claims to be long costs nothing before its bytes are there.
func TestRestoreAllocatesNoClaims(t *testing.T) {
	stream := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), FrameMax)
	stream = append(stream, make([]byte, 20)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Restore(bytes.NewReader(stream)); !errors.Is(err, ErrSnapshot) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("allocated %d bytes", grown)
	}
}

// What is restored goes on as the original does, with the ids closed up.
func TestRestoreClosesGaps(t *testing.T) {
	tree, as := open()
	for i := range 2000 {
		create(tree, as, fmt.Sprintf("/%d", i))
	}
	for i := range 1990 {
		as.Ops = []jute.Op{{Type: jute.OpDelete, Path: fmt.Sprintf("/%d", i), Version: -1}}
		tree.Apply(as)
	}
	back := restored(t, tree)
	if int(back.high) != tree.live+1 || back.Bytes() >= tree.Bytes() {
		t.Errorf("%d ids for %d nodes, %d bytes of %d", back.high, tree.live, back.Bytes(), tree.Bytes())
	}
	if dump(back) != dump(tree) {
		t.Error("trees differ")
	}
}

// A cut that is given up leaves nothing behind.
func TestCutClosed(t *testing.T) {
	tree, as := open()
	c, _ := tree.Cut()
	c.Next(nil, 1)
	create(tree, as, "/a", jute.ACL{Perms: 1, ID: jute.ID{Scheme: "ip", ID: "1.2.3.4"}})
	c.Close()
	c.Close()
	if out, more := c.Next(nil, 1); more || len(out) != 0 {
		t.Error("a closed cut goes on")
	}
	if _, err := tree.Cut(); err != nil {
		t.Error(err)
	}
}

// An entry that needs newer rules is refused everywhere alike.
func TestRules(t *testing.T) {
	tree := New()
	if o := tree.Apply(&Entry{Kind: KindNoop, Rules: 2}); o.Err != jute.Unimplemented {
		t.Error(o.Err)
	}
	tree.Apply(&Entry{Kind: KindSetRules, Rules: 2, Flags: FlagInternal})
	if o := tree.Apply(&Entry{Kind: KindNoop, Rules: 2}); o.Err != jute.OK || tree.Rules() <= RulesVersion {
		t.Error(o.Err, tree.Rules())
	}
	if o := tree.Apply(&Entry{Kind: kindEnd}); o.Err != jute.Unimplemented {
		t.Error(o.Err)
	}
}

// Digests differ when anything differs.
func TestDigestSeesEverything(t *testing.T) {
	base := func() (*Tree, *Entry) {
		tree, as := open()
		create(tree, as, "/a")
		return tree, as
	}
	seen := map[uint64]string{}
	for name, op := range map[string]jute.Op{
		"nothing": {Type: jute.OpCheck, Path: "/a", Version: -1},
		"data":    {Type: jute.OpSetData, Path: "/a", Data: []byte("x"), Version: -1},
		"null":    {Type: jute.OpSetData, Path: "/a", Version: -1},
		"empty":   {Type: jute.OpSetData, Path: "/a", Data: []byte{}, Version: -1},
		"acl":     {Type: jute.OpSetACL, Path: "/a", ACL: jute.ReadACL(), Version: -1},
		"create":  {Type: jute.OpCreate, Path: "/b", ACL: jute.OpenACL()},
		"below":   {Type: jute.OpCreate, Path: "/a/b", ACL: jute.OpenACL()},
		"owner":   {Type: jute.OpCreate, Path: "/b", ACL: jute.OpenACL(), Flags: 1},
		"delete":  {Type: jute.OpDelete, Path: "/a", Version: -1},
	} {
		tree, as := base()
		as.Ops = []jute.Op{op}
		if o := tree.Apply(as); o.Err != jute.OK {
			t.Fatal(name, o.Err)
		}
		if other, twice := seen[tree.Digest()]; twice {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[tree.Digest()] = name
	}
}

// semantics 8: nodes are found by whole paths. The parent of "//x" is "/", an alias of the root, but no node has the path
// "//x": a delete of it finds none, whatever the root's children are called.
func TestDeleteOfAnAliasedPath(t *testing.T) {
	tree, as := open()
	create(tree, as, "/x")
	for _, path := range []string{"//x", "//zookeeper", "//"} {
		as.Ops = []jute.Op{{Type: jute.OpDelete, Path: path, Version: -1}}
		if o := tree.Apply(as); o.Err != jute.NoNode {
			t.Errorf("delete %s: %v, want %v", path, o.Err, jute.NoNode)
		}
	}
	if tree.find("/x") == 0 {
		t.Error("/x is gone")
	}
	if err := checkTree(tree); err != nil {
		t.Fatal(err)
	}
}

// semantics 20: a client that takes its session to another box says anew how long it may be silent, and was promised so.
// The leader, who expires it, must know.
func TestMovedSessionHasTheTimeoutThatWasAskedFor(t *testing.T) {
	tree := New()
	o := tree.Apply(&Entry{Kind: KindCreateSession, TimeoutMs: 4000, Box: 1})
	for _, c := range []struct{ ask, want int32 }{{40_000, 40_000}, {0, 40_000}, {6000, 6000}} {
		if o := tree.Apply(&Entry{Kind: KindMoveSession, Session: o.Session, TimeoutMs: c.ask, Box: 2}); o.Err != jute.OK {
			t.Fatal(o.Err)
		}
		if s, _ := tree.Session(o.Session); s.TimeoutMs != c.want || s.Box != 2 {
			t.Errorf("moved with %d ms: %+v", c.ask, s)
		}
		if err := checkTree(tree); err != nil {
			t.Error(err)
		}
	}
}
