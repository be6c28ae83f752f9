package zkdata

import (
	"bytes"
	"errors"
	"fmt"
	"hash/adler32"
	"testing"

	"cairn/engine/ensemble/jute"
)

// txn is one transaction for a log.
type txn struct {
	session, zxid int64
	kind          jute.OpCode
	record        []byte
}

func (x txn) bytes() []byte {
	b := jute.AppendInt32(jute.AppendInt64(nil, x.session), 1)
	b = jute.AppendInt64(jute.AppendInt64(b, x.zxid), 1000+x.zxid)
	return append(jute.AppendInt32(b, int32(x.kind)), x.record...)
}

func logWith(txns ...txn) []byte {
	b := append([]byte(logMagic), make([]byte, 12)...)
	for _, x := range txns {
		record := x.bytes()
		b = jute.AppendInt64(b, int64(adler32.Checksum(record)))
		b = append(jute.AppendBuffer(b, record), 'B')
	}
	return append(b, make([]byte, 40)...)
}

func create(path string, acl []jute.ACL, ephemeral bool, parentCversion ...int32) []byte {
	b := jute.AppendBool(jute.AppendACLs(jute.AppendBuffer(jute.AppendString(nil, path), []byte("data")), acl), ephemeral)
	for _, v := range parentCversion {
		b = jute.AppendInt32(b, v)
	}
	return b
}

func named(paths ...string) []byte { return jute.AppendStrings(nil, paths) }

func path(p string) []byte { return jute.AppendString(nil, p) }

// digest is what 3.6 and later write behind a record.
func digest(b []byte) []byte { return jute.AppendInt64(jute.AppendInt32(b, 2), 0x1_8000_0000) }

// The rules of transactions that are replayed over a snapshot which may hold them already (DataTree.processTxn).
func TestReplayRules(t *testing.T) {
	private := []jute.ACL{{Perms: 1, ID: jute.ID{Scheme: "ip", ID: "10.0.0.1"}}}
	open := jute.OpenACL()
	const session = 77
	for name, c := range map[string]struct {
		txns []txn
		want string // of /p, and of its children
	}{
		"what was made and deleted since does not count again": {
			[]txn{{0, 21, jute.OpCreate, create("/p/x", open, false, 3)}, {0, 22, jute.OpDelete, path("/p/x")}},
			"cversion 5 pzxid 30 [/p/e /p/n]",
		},
		"a new node counts": {
			[]txn{{0, 31, jute.OpCreate2, digest(create("/p/x", open, false, 6))}},
			"cversion 6 pzxid 31 [/p/e /p/n /p/x]",
		},
		"one of ZooKeeper 3.3, which does not tell the count": {
			[]txn{{0, 31, jute.OpCreate, create("/p/x", open, false)}},
			"cversion 6 pzxid 31 [/p/e /p/n /p/x]",
		},
		"a node that is there: the parent counts, and its ACLs are those of the creation": {
			[]txn{{0, 31, jute.OpCreate, create("/p/n", private, false, 7)}},
			"cversion 7 pzxid 31 [/p/e /p/n private]",
		},
		"the same by create2 leaves the parent alone": {
			[]txn{{0, 31, jute.OpCreate2, create("/p/n", private, false, 7)}},
			"cversion 5 pzxid 30 [/p/e /p/n private]",
		},
		"a delete of what is gone moves the parent": {
			[]txn{{0, 31, jute.OpDelete, path("/p/x")}},
			"cversion 5 pzxid 31 [/p/e /p/n]",
		},
		"a delete that is old does not": {
			[]txn{{0, 20, jute.OpDelete, path("/p/x")}},
			"cversion 5 pzxid 30 [/p/e /p/n]",
		},
		"a closed session takes what it names": {
			[]txn{{session, 31, jute.OpCloseSession, digest(named("/p/e"))}},
			"cversion 5 pzxid 31 [/p/n]",
		},
		"and what it owns besides": {
			[]txn{{session, 31, jute.OpCreate, create("/p/f", open, true, 6)}, {session, 32, jute.OpCloseSession, named("/p/e")}},
			"cversion 6 pzxid 32 [/p/n]",
		},
		"one that names nothing takes what it owns": {
			[]txn{{session, 31, jute.OpCloseSession, nil}},
			"cversion 5 pzxid 31 [/p/n]",
		},
		"also with a digest where the names were": {
			[]txn{{session, 31, jute.OpCloseSession, digest(nil)}},
			"cversion 5 pzxid 31 [/p/n]",
		},
		"another session takes nothing": {
			[]txn{{session + 1, 31, jute.OpCloseSession, named()}},
			"cversion 5 pzxid 30 [/p/e /p/n]",
		},
		"what has no parent, or is not there, is passed over": {
			[]txn{
				{0, 31, jute.OpCreate, create("/q/x", open, false, 1)}, {0, 32, jute.OpDelete, path("/q/x")},
				{0, 33, jute.OpSetData, jute.AppendInt32(jute.AppendBuffer(path("/q"), nil), 1)},
				{0, 34, jute.OpSetACL, jute.AppendInt32(jute.AppendACLs(path("/q"), private), 1)},
				{0, 35, jute.OpError, jute.AppendInt32(nil, -101)}, {session, 36, jute.OpCreateSession, jute.AppendInt32(nil, 4000)},
			},
			"cversion 5 pzxid 30 [/p/e /p/n]",
		},
	} {
		tree := small(t)
		end, err := tree.Replay(bytes.NewReader(logWith(c.txns...)), 20)
		if err != nil || end.Replayed != len(c.txns) || end.Torn || tree.Zxid != c.txns[len(c.txns)-1].zxid && tree.Zxid != 30 {
			t.Errorf("%s: %+v, zxid %d, %v", name, end, tree.Zxid, err)
		}
		if got := show(tree); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// small is a tree with a parent that has counted five creations, a node and an ephemeral of session 77.
func small(t *testing.T) *Tree {
	t.Helper()
	var out bytes.Buffer
	nodes := []struct {
		path string
		n    Node
	}{{"/", Node{}}, {"/p", Node{Cversion: 5, Pzxid: 30}}, {"/p/n", Node{Pzxid: 20}}, {"/p/e", Node{Owner: 77, Pzxid: 21}}}
	err := WriteSnapshot(&out, 30, func(visit func(string, *Node) bool) {
		for i := range nodes {
			nodes[i].n.ACL = jute.OpenACL()
			if !visit(nodes[i].path, &nodes[i].n) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := ReadSnapshot(&out, 0)
	if err != nil || tree.Zxid != 30 {
		t.Fatal(tree, err)
	}
	return tree
}

func show(t *Tree) string {
	var children []string
	for _, p := range t.Paths() {
		if len(p) > 2 {
			if len(t.Node(p).ACL) != 1 || t.Node(p).ACL[0].Perms != 31 {
				p += " private"
			}
			children = append(children, p)
		}
	}
	p := t.Node("/p")
	return fmt.Sprintf("cversion %d pzxid %d %v", p.Cversion, p.Pzxid, children)
}

// What no ZooKeeper writes is refused and harms nothing.
func TestHostileTransactions(t *testing.T) {
	for name, x := range map[string]txn{
		"a type that there is not": {0, 31, 999, nil},
		"no record":                {0, 31, jute.OpCreate, nil},
		"a record that ends":       {0, 31, jute.OpCreate, create("/p/x", jute.OpenACL(), false)[:9]},
		"no slash":                 {0, 31, jute.OpCreate, create("x", jute.OpenACL(), false, 1)},
		"the root":                 {0, 31, jute.OpCreate, create("/", jute.OpenACL(), false, 1)},
		"a double slash":           {0, 31, jute.OpDelete, path("/p//n")},
		"a multi of many":          {0, 31, jute.OpMulti, jute.AppendInt32(nil, 1<<30)},
		"a multi in a multi": {0, 31, jute.OpMulti, jute.AppendBuffer(jute.AppendInt32(jute.AppendInt32(nil, 1), int32(jute.OpMulti)),
			jute.AppendInt32(nil, 0))},
	} {
		if _, err := small(t).Replay(bytes.NewReader(logWith(x)), 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := append([]byte(logMagic), make([]byte, 12)...)
	long = append(long, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff)
	if _, err := small(t).Replay(bytes.NewReader(long), 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("a transaction of 2 GiB: %v", err)
	}
	tree := small(t)
	tree.left = 100
	if _, err := tree.Replay(bytes.NewReader(logWith(txn{0, 31, jute.OpCreate, create("/p/x", nil, false, 9)})), 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than is allowed: %v", err)
	}
}
