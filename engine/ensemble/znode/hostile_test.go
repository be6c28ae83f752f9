package znode

import (
	"bytes"
	"fmt"
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
