package znode

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
)

// Stats are rewritten with every change below their quota, so that their length is what each such change costs: text
// that is longer than anybody means counts from unset.
func TestLongQuotaTextIsNotKept(t *testing.T) {
	tree, as := open()
	for _, path := range []string{"/q", "/zookeeper/quota/q", "/zookeeper/quota/q/zookeeper_limits", "/zookeeper/quota/q/zookeeper_stats"} {
		create(tree, as, path)
	}
	const stats = "/zookeeper/quota/q/zookeeper_stats"
	long := append(bytes.Repeat([]byte("k"), 1<<20), "=1"...)
	as.Ops = []jute.Op{{Type: jute.OpSetData, Path: stats, Version: -1, Data: long}}
	if o := tree.Apply(as); o.Err != jute.OK {
		t.Fatal(o.Err)
	}
	create(tree, as, "/q/x")
	if data, _, _ := tree.Peek(stats); len(data) > 1024 {
		t.Errorf("a change below the quota rewrote %d bytes", len(data))
	}
}

// An ACL of the scheme auth stands for every id of its connection: that counts when the leader looks whether an entry
// fits.
func TestWouldGrowCountsExpandedACLs(t *testing.T) {
	tree, as := open()
	for i := range 16 {
		as.Auth = append(as.Auth, jute.ID{Scheme: "digest", ID: fmt.Sprintf("user%d:%s", i, bytes.Repeat([]byte("h"), 200))})
	}
	acl := make([]jute.ACL, 100)
	for i := range acl {
		acl[i] = jute.ACL{Perms: int32(i), ID: jute.ID{Scheme: jute.SchemeAuth}}
	}
	as.Ops = []jute.Op{{Type: jute.OpCreate, Path: "/x", ACL: acl}}
	before, want := tree.Bytes(), tree.WouldGrow(as)
	if o := tree.Apply(as); o.Err != jute.OK {
		t.Fatal(o.Err)
	}
	if grown := tree.Bytes() - before; grown > want {
		t.Errorf("grew by %d bytes, foreseen %d", grown, want)
	}
}

// A list of ACLs that a small frame names as auth many times, for many ids, is not kept at many times the frame's size.
func TestExpandedACLsAreBounded(t *testing.T) {
	tree, as := open()
	for i := range 64 {
		as.Auth = append(as.Auth, jute.ID{Scheme: "digest", ID: fmt.Sprintf("user%d:%s", i, bytes.Repeat([]byte("h"), 64))})
	}
	acl := make([]jute.ACL, 2000)
	for i := range acl {
		acl[i] = jute.ACL{Perms: int32(i), ID: jute.ID{Scheme: jute.SchemeAuth}}
	}
	if o := create(tree, as, "/x", acl...); o.Err != jute.InvalidACL {
		t.Errorf("%v, want %v", o.Err, jute.InvalidACL)
	}
	if o := create(tree, as, "/x", acl[:100]...); o.Err != jute.OK {
		t.Error(o.Err)
	}
}

// What a long list of ACLs permits is asked once in an entry: a multi of small operations on one node does not cost its
// length times the list's.
func TestMultiOfManyChecksOfLongACL(t *testing.T) {
	tree, as := open()
	acl := make([]jute.ACL, 40000)
	for i := range acl {
		acl[i] = jute.ACL{Perms: jute.PermAll, ID: jute.ID{Scheme: jute.SchemeIP, ID: fmt.Sprintf("10.%d.%d.1", i>>8, i&0xff)}}
	}
	if o := create(tree, as, "/x", acl...); o.Err != jute.OK {
		t.Fatal(o.Err)
	}
	as.Kind, as.Auth = KindMulti, []jute.ID{acl[len(acl)-1].ID}
	as.Ops = make([]jute.Op, 2000)
	for i := range as.Ops {
		as.Ops[i] = jute.Op{Type: jute.OpCheck, Path: "/x", Version: -1}
	}
	as.Ops[len(as.Ops)-1] = jute.Op{Type: jute.OpSetData, Path: "/x", Version: -1}
	began := time.Now()
	if o := tree.Apply(as); o.Err != jute.OK {
		t.Error(o.Err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("2000 operations took %v", took)
	}
	as.Auth = []jute.ID{{Scheme: jute.SchemeIP, ID: "10.0.0.2"}}
	if o := tree.Apply(as); o.Err != jute.NoAuth {
		t.Errorf("a stranger: %v, want %v", o.Err, jute.NoAuth)
	}
}

// A subtree is counted once in an entry, however often the entry makes the stats of its quota, and what the entry changes
// meanwhile is counted with it.
func TestMultiOfManyQuotaStats(t *testing.T) {
	tree, as := open()
	const stats = "/zookeeper/quota/q/" + quotaStats
	create(tree, as, "/q")
	create(tree, as, "/zookeeper/quota/q")
	for i := range 100 {
		create(tree, as, fmt.Sprintf("/q/%d", i))
		as.Kind = KindMulti
		as.Ops = nil
		for j := range 1000 {
			as.Ops = append(as.Ops, jute.Op{Type: jute.OpCreate, Path: fmt.Sprintf("/q/%d/%d", i, j), ACL: jute.OpenACL()})
		}
		if o := tree.Apply(as); o.Err != jute.OK {
			t.Fatal(o.Err)
		}
		as.Kind = KindOp
	}
	as.Kind = KindMulti
	as.Ops = nil
	for i := range 2000 {
		as.Ops = append(as.Ops,
			jute.Op{Type: jute.OpCreate, Path: stats, ACL: jute.OpenACL()},
			jute.Op{Type: jute.OpCreate, Path: fmt.Sprintf("/q/x%d", i), Data: []byte("12345"), ACL: jute.OpenACL()},
			jute.Op{Type: jute.OpSetData, Path: fmt.Sprintf("/q/x%d", i), Data: []byte("1234567"), Version: -1},
			jute.Op{Type: jute.OpDelete, Path: fmt.Sprintf("/q/0/%d", i%1000), Version: -1},
			jute.Op{Type: jute.OpDelete, Path: stats, Version: -1})
		if i >= 1000 {
			as.Ops[len(as.Ops)-2] = jute.Op{Type: jute.OpCheck, Path: "/q", Version: -1}
		}
	}
	as.Ops = as.Ops[:len(as.Ops)-1]
	began := time.Now()
	if o := tree.Apply(as); o.Err != jute.OK {
		t.Fatal(o.Err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("2000 stats took %v", took)
	}
	// The last stats were made before the last node, which no limits counted since.
	data, _, _ := tree.Peek(stats)
	want := fmt.Sprintf("count=%d,bytes=%d", 1+100+100*1000-1000+1999, 101*4+1999*7)
	if string(data) != want {
		t.Errorf("%s, want %s", data, want)
	}
	if err := checkTree(tree); err != nil {
		t.Error(err)
	}
}

// A quota over the quotas themselves counts the same in one entry as in several.
func TestQuotaOfQuotasInOneEntry(t *testing.T) {
	const dir = "/zookeeper/quota/zookeeper"
	ops := []jute.Op{
		{Type: jute.OpCreate, Path: dir, ACL: jute.OpenACL()},
		{Type: jute.OpCreate, Path: dir + "/" + quotaLimits, ACL: jute.OpenACL()},
		{Type: jute.OpCreate, Path: dir + "/" + quotaStats, Data: []byte("data"), ACL: jute.OpenACL()},
		{Type: jute.OpSetData, Path: dir, Data: []byte("more"), Version: -1},
		{Type: jute.OpDelete, Path: dir + "/" + quotaStats, Version: -1},
		{Type: jute.OpCreate, Path: dir + "/" + quotaStats, Data: []byte("other"), ACL: jute.OpenACL()},
	}
	var texts []string
	for _, together := range []bool{false, true} {
		tree, as := open()
		if as.Ops = ops; together {
			as.Kind = KindMulti
			if o := tree.Apply(as); o.Err != jute.OK {
				t.Fatal(o.Err)
			}
		} else {
			for i := range ops {
				as.Ops = ops[i : i+1]
				if o := tree.Apply(as); o.Err != jute.OK {
					t.Fatal(o.Err)
				}
			}
		}
		data, _, _ := tree.Peek(dir + "/" + quotaStats)
		texts = append(texts, string(data))
	}
	if texts[0] != texts[1] {
		t.Errorf("%s in several entries, %s in one", texts[0], texts[1])
	}
}

// Duplicates are removed from a list of any length, and finding them does not take the square of it.
func TestDuplicatesInALongListOfACLs(t *testing.T) {
	tree, as := open()
	const distinct = 30_000
	acl := make([]jute.ACL, 2*distinct)
	for i := range acl {
		acl[i] = jute.ACL{Perms: jute.PermRead, ID: jute.ID{Scheme: jute.SchemeIP, ID: fmt.Sprintf("10.0.%d.%d", i%distinct/200, i%200)}}
	}
	as.Ops = []jute.Op{{Type: jute.OpCreate, Path: "/x", ACL: acl}}
	began := time.Now()
	if o := tree.Apply(as); o.Err != jute.OK {
		t.Fatal(o.Err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
	if got := tree.NodeACL("/x"); len(got) != distinct || got[0] != acl[0] || got[distinct-1] != acl[distinct-1] {
		t.Errorf("%d ACLs of %d distinct ones", len(got), distinct)
	}
}

// What the table of quotas keeps are names, not the paths that they came in: a chain of quotas, each below the last, would
// otherwise hold the square of its length.
func TestQuotasKeepNamesAlone(t *testing.T) {
	tree, as := open()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	path := pathQuota
	for i := range 200 {
		path += "/" + strings.Repeat("n", 1000)
		create(tree, as, path)
		create(tree, as, path+"/"+quotaLimits)
		if i%2 == 0 { // one that goes leaves the branches to those below
			as.Ops = []jute.Op{{Type: jute.OpDelete, Path: path + "/" + quotaLimits, Version: -1}}
			tree.Apply(as)
		}
	}
	as.Ops = nil
	path = ""
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d KiB are kept for 200 quotas of names of 1 KB", (after-before)>>10)
	}
	runtime.KeepAlive(tree)
}
