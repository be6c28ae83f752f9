package znode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cairn/engine/ensemble/jute"
)

// furnished gives a tree with a node of every kind, a quota, and what a backup leaves out.
func furnished(tb testing.TB) (*Tree, *Entry) {
	tb.Helper()
	tree, as := open()
	as.Flags = FlagExtendedTypes
	as.Auth = []jute.ID{{Scheme: "digest", ID: "user:hash"}}
	private := jute.ACL{Perms: jute.PermAll, ID: as.Auth[0]}
	do := func(ops ...jute.Op) {
		tb.Helper()
		e := *as
		e.Ops, e.TimeMs = ops, tree.TimeMs()+7
		if len(ops) > 1 {
			e.Kind = KindMulti
		}
		if o := tree.Apply(&e); o.Err != jute.OK {
			tb.Fatalf("%+v: %v", ops, o.Err)
		}
	}
	make1 := func(kind jute.OpCode, path string, flags jute.CreateMode, data []byte, acl ...jute.ACL) jute.Op {
		if acl == nil {
			acl = jute.OpenACL()
		}
		return jute.Op{Type: kind, Path: path, Flags: int32(flags), Data: data, ACL: acl, TTL: 5000}
	}
	for _, path := range []string{"/1", "/2", "/late"} {
		do(make1(jute.OpCreate, path, 0, nil))
	}
	do(make1(jute.OpCreate, "/app", 0, []byte("a")))
	do(make1(jute.OpCreate, "/app/null", 0, nil, private), make1(jute.OpCreate, "/app/empty", 0, []byte{}))
	do(make1(jute.OpCreateContainer, "/app/container", 4, []byte("c")))
	do(make1(jute.OpCreateTTL, "/app/ttl", 5, []byte("t")))
	do(make1(jute.OpCreate, "/app/seq-", 2, nil))
	do(make1(jute.OpCreate, "/app/here", 1, []byte("ephemeral")))
	do(make1(jute.OpCreate, "/app/gone", 0, nil), jute.Op{Type: jute.OpDelete, Path: "/app/gone", Version: -1})
	do(jute.Op{Type: jute.OpSetData, Path: "/app", Data: []byte("changed"), Version: 0})
	do(jute.Op{Type: jute.OpSetACL, Path: "/app/empty", ACL: []jute.ACL{private}, Version: -1})
	// These come in a backup before their parents: they have the ids that others left.
	do(jute.Op{Type: jute.OpDelete, Path: "/1", Version: -1})
	do(jute.Op{Type: jute.OpDelete, Path: "/2", Version: -1})
	do(make1(jute.OpCreate, "/late/x", 0, []byte("x")))
	do(make1(jute.OpCreate, "/late/x/y", 0, []byte("y")))
	do(make1(jute.OpCreate, "/late/x/y/z", 0, []byte("z")))
	for _, path := range []string{"/zookeeper/quota/app", "/zookeeper/quota/app/zookeeper_limits", "/zookeeper/quota/app/zookeeper_stats"} {
		do(make1(jute.OpCreate, path, 0, []byte("count=100,bytes=1000")))
	}
	inside := &Entry{Kind: KindRegister, Flags: FlagInternal, Box: 1, Incarnation: 3, Ops: []jute.Op{
		{Type: OpEnsure, Path: "/cairn/kafka/brokers/ids"},
		{Type: jute.OpCreate, Path: "/cairn/kafka/brokers/ids/1", Flags: 1, ACL: jute.OpenACL(), Data: []byte("box 1")},
		{Type: jute.OpCreate, Path: "/cairn/secret", ACL: jute.OpenACL(), Data: []byte("hush")},
	}}
	if o := tree.Apply(inside); o.Err != jute.OK {
		tb.Fatal(o.Err)
	}
	if o := tree.Apply(&Entry{Kind: KindReconfig, Flags: FlagInternal, Data: []byte("server.1=x")}); o.Err != jute.OK {
		tb.Fatal(o.Err)
	}
	return tree, as
}

// users is the part of a dump that a backup carries: no stats of the root's children, since /cairn is one of them.
func users(t *Tree) string {
	var lines []string
	t.Walk("/", func(path string, data []byte, _ jute.Stat) bool {
		id := t.find(path)
		n := *t.node(id)
		if within(path, PathCairn) || path == pathConfig || n.kind == kindEphemeral {
			return true
		}
		n.parent, n.first, n.next, n.prev, n.children, n.acl = 0, 0, 0, 0, 0, 0
		lines = append(lines, fmt.Sprintf("%s %q %v %+v", path, showData(data), t.NodeACL(path), n))
		return true
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func backupStream(tb testing.TB, t *Tree, size int) []byte {
	tb.Helper()
	c, err := t.CutBackup()
	if err != nil {
		tb.Fatal(err)
	}
	var stream []byte
	for more := true; more; {
		stream, more = c.Next(stream, size)
	}
	return stream
}

// parts are the payloads of a stream's frames.
func parts(stream []byte) [][]byte {
	var out [][]byte
	for b := stream[len(backupMagic):]; len(b) > 0; {
		n := int(binary.LittleEndian.Uint32(b))
		out = append(out, b[frameHeader:frameHeader+n])
		b = b[frameHeader+n:]
	}
	return out
}

// restoring are the entries that bring a backup in.
func restoring(id uint64, stream []byte) []*Entry {
	var entries []*Entry
	for i, p := range parts(stream) {
		entries = append(entries, &Entry{Kind: KindStage, Flags: FlagInternal, Data: StageData(id, uint64(i), p)})
	}
	return append(entries, &Entry{Kind: KindSwap, Flags: FlagInternal, Data: StageID(id)})
}

func TestBackupAndRestore(t *testing.T) {
	source, _ := furnished(t)
	if source.find("/late/x/y") > source.find("/late/x") || source.find("/late/x") > source.find("/late") {
		t.Fatal("no child comes before its parent")
	}
	stream := backupStream(t, source, 50)
	for _, secret := range []string{"hush", "kafka", "server.1", "ephemeral"} {
		if bytes.Contains(stream, []byte(secret)) {
			t.Errorf("the backup holds %q", secret)
		}
	}
	b, err := ReadBackup(bytes.NewReader(stream), 0)
	if err != nil {
		t.Fatal(err)
	}
	if b.Zxid() != source.Zxid() || b.Ephemerals() != 1 || b.Nodes() != strings.Count(users(source), "\n")+1 {
		t.Errorf("zxid %d, %d ephemerals, %d nodes", b.Zxid(), b.Ephemerals(), b.Nodes())
	}

	tree, as := furnished(t)
	create(tree, as, "/other")
	cairn := func() (lines []string) {
		for line := range strings.Lines(dump(tree)) {
			if strings.HasPrefix(line, "/cairn") || strings.HasPrefix(line, pathConfig) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	before, zxid := cairn(), tree.Zxid()
	for _, e := range restoring(9, stream) {
		o := tree.Apply(e)
		if o.Err != jute.OK {
			t.Fatal(o.Err)
		}
		if err := checkTree(tree); err != nil {
			t.Fatal(err)
		}
		if e.Kind != KindSwap {
			continue
		}
		if !o.Replaced || !slices.Equal(o.Closed, []int64{as.Session}) || o.Zxid != tree.Zxid() || o.Zxid < zxid+1<<32 {
			t.Errorf("%+v", o)
		}
	}
	want := strings.Replace(users(source), "count=7,bytes=18", "count=6,bytes=9", 1) // without the ephemeral
	if got := users(tree); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	if got := cairn(); !slices.Equal(got, before) || len(got) < 6 {
		t.Errorf("the boxes' own is\n%s\nwas\n%s", got, before)
	}
	if id, _ := tree.Staged(); id != 0 || tree.Restored() != 9 || tree.StagedBytes() != 0 {
		t.Errorf("staged %d, restored %d", id, tree.Restored())
	}
	if s, ok := tree.BoxSession(1); !ok || s.Ephemerals != 1 || tree.SessionCount() != 1 {
		t.Errorf("%+v of %d sessions", s, tree.SessionCount())
	}
	// The box's session is whole: its end deletes its registration.
	if o := tree.Apply(&Entry{Kind: KindExpireBox, Flags: FlagInternal, Box: 1, Incarnation: 3}); len(o.Changes) == 0 {
		t.Error("the box's ephemeral is not its own any more")
	}
	if err := checkTree(tree); err != nil {
		t.Fatal(err)
	}
}

// A backup whose nodes come behind their parents, as one that was made of a ZooKeeper's data does, needs no second look.
func TestBackupInOrder(t *testing.T) {
	source, _ := furnished(t)
	b, err := ReadBackup(bytes.NewReader(backupStream(t, source, 1000)), 0)
	if err != nil {
		t.Fatal(err)
	}
	ordered := NewBackup(b.Zxid(), b.TimeMs())
	b.Walk(func(n Node) bool {
		if err := ordered.Add(n); err != nil {
			t.Fatal(err)
		}
		return true
	})
	tree, _ := furnished(t)
	for _, e := range restoring(3, backupStream(t, ordered.t, 70)) {
		if o := tree.Apply(e); o.Err != jute.OK {
			t.Fatal(o.Err)
		}
	}
	if err := checkTree(tree); err != nil {
		t.Error(err)
	}
	if got, want := users(tree), users(b.t); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// A box that restarts from a snapshot, at whatever entry, goes on like one that does not; and a snapshot that was cut at
// any entry is that of its entry, however the restore went on meanwhile.
func TestRestoreSurvivesSnapshots(t *testing.T) {
	source, _ := furnished(t)
	entries := restoring(7, backupStream(t, source, 60))
	plain, _ := furnished(t)
	for _, e := range entries {
		plain.Apply(e)
	}
	want := dump(plain)
	for at := range entries {
		tree, as := furnished(t)
		for _, e := range entries[:at] {
			tree.Apply(e)
		}
		then := dump(tree)
		staged, parts := tree.Staged()
		c, err := tree.Cut()
		if err != nil {
			t.Fatal(err)
		}
		stream, more := c.Next(nil, 40)
		for _, e := range entries[at:] {
			if more && e.Kind == KindStage {
				stream, more = c.Next(stream, 40)
			}
			tree.Apply(e)
		}
		if got := dump(tree); got != want {
			t.Fatalf("with a snapshot open at entry %d:\n%s\nwant\n%s", at, got, want)
		}
		create(tree, as, "/later")
		for more {
			stream, more = c.Next(stream, 40)
		}
		back, err := Restore(bytes.NewReader(stream))
		if err != nil {
			t.Fatalf("the snapshot of entry %d: %v", at, err)
		}
		if got := dump(back); got != then {
			t.Fatalf("the snapshot of entry %d is\n%s\nwant\n%s", at, got, then)
		}
		if id, n := back.Staged(); id != staged || n != parts {
			t.Fatalf("the snapshot of entry %d has %d parts of %d, want %d of %d", at, n, id, parts, staged)
		}
		for _, e := range entries[at:] {
			back.Apply(e)
		}
		if got := dump(back); got != want {
			t.Fatalf("from the snapshot of entry %d:\n%s\nwant\n%s", at, got, want)
		}
		if err := errors.Join(checkTree(tree), checkTree(back)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a backup holds is what was there when it was cut, whatever is done while it is read.
func TestBackupIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree, as := furnished(t)
		paths := []string{"/a", "/a/b", "/a/b/c", "/app/x", "/d"}
		change := func() {
			path := rapid.SampledFrom(paths).Draw(rt, "path")
			switch rapid.IntRange(0, 4).Draw(rt, "op") {
			case 0, 1:
				as.Ops = []jute.Op{{Type: jute.OpCreate, Path: path, ACL: jute.OpenACL(), Flags: int32(rapid.IntRange(0, 1).Draw(rt, "ephemeral"))}}
			case 2:
				as.Ops = []jute.Op{{Type: jute.OpDelete, Path: path, Version: -1}}
			case 3:
				as.Ops = []jute.Op{{Type: jute.OpSetData, Path: path, Data: []byte(path), Version: -1}}
			case 4:
				tree.Apply(&Entry{Kind: KindOp, Flags: FlagInternal, Ops: []jute.Op{{Type: OpEnsure, Path: "/cairn" + path}}})
				return
			}
			tree.Apply(as)
		}
		for range rapid.IntRange(0, 8).Draw(rt, "before") {
			change()
		}
		want := users(tree)
		c, err := tree.CutBackup()
		if err != nil {
			rt.Fatal(err)
		}
		var stream []byte
		for more := true; more; {
			stream, more = c.Next(stream, 30)
			change()
		}
		b, err := ReadBackup(bytes.NewReader(stream), 0)
		if err != nil {
			rt.Fatal(err)
		}
		if got := users(b.t); got != want {
			rt.Fatalf("%s\nwant\n%s", got, want)
		}
	})
}

// A backup that is cut short, or has one wrong bit, or lacks a frame, or has one twice or in another place, is refused.
func TestDamagedBackups(t *testing.T) {
	tree, _ := furnished(t)
	stream := backupStream(t, tree, 120)
	refused := func(what string, b []byte) {
		t.Helper()
		if _, err := ReadBackup(bytes.NewReader(b), 0); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range stream {
		refused(fmt.Sprintf("cut at byte %d", n), stream[:n])
		wrong := slices.Clone(stream)
		wrong[n] ^= 0x10
		refused(fmt.Sprintf("a bit of byte %d", n), wrong)
	}
	refused("a byte behind", append(slices.Clone(stream), 0))
	all := parts(stream)
	build := func(p ...[]byte) []byte {
		b := []byte(backupMagic)
		for _, payload := range p {
			b = append(b, frame(payload)...)
		}
		return b
	}
	if _, err := ReadBackup(bytes.NewReader(build(all...)), 0); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(all)-1; i++ {
		refused(fmt.Sprintf("without frame %d", i), build(slices.Delete(slices.Clone(all), i, i+1)...))
		refused(fmt.Sprintf("frame %d twice", i), build(slices.Insert(slices.Clone(all), i, all[i])...))
	}
	for i := range all {
		other := bytes.Replace(all[i], []byte("changed"), []byte("garbled"), 1)
		if !bytes.Equal(other, all[i]) {
			refused("a frame with other data and its own checksum", build(slices.Replace(slices.Clone(all), i, i+1, other)...))
		}
	}
	if _, err := ReadBackup(bytes.NewReader(stream), 300); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	snapshot, err := tree.Cut()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := snapshot.Next(nil, 1<<20)
	refused("a snapshot", append([]byte(backupMagic), b[len(snapshotMagic):]...))
}

// A backup that was made to hold what it must not is refused, and nothing changes.
func TestHostileBackups(t *testing.T) {
	root := Node{Path: "/", Kind: Persistent}
	for name, b := range map[string]*Backup{
		"cairn":     backupOf(t, 5, root, Node{Path: "/cairn", Kind: Persistent}),
		"config":    backupOf(t, 5, root, Node{Path: "/zookeeper", Kind: Persistent}, Node{Path: "/zookeeper/config", Kind: Persistent}),
		"zxid":      backupOf(t, zxidMax, root),
		"zxid -1":   backupOf(t, -1, root),
		"ephemeral": backupOf(t, 5, root, Node{Path: "/e", Kind: Persistent}),
	} {
		if name == "ephemeral" {
			b.t.node(b.t.find("/e")).kind = kindTTL // with a TTL of 0
		}
		c := &Cut{t: b.t, next: rootID, limit: b.t.high, saved: map[nodeID]preimage{}, backup: &backupCut{listed: map[aclID]bool{}}}
		c.header = binary.AppendVarint(binary.AppendVarint([]byte{recordBackup}, b.t.zxid), 0)
		var stream []byte
		for more := true; more; {
			stream, more = c.Next(stream, 1<<10)
		}
		if _, err := ReadBackup(bytes.NewReader(stream), 0); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
		tree, _ := furnished(t)
		before := users(tree)
		refused := false
		for _, e := range restoring(1, stream) {
			refused = tree.Apply(e).Err != jute.OK || refused
		}
		if !refused || users(tree) != before || tree.SessionCount() != 2 {
			t.Errorf("%s: refused %v, tree\n%s", name, refused, users(tree))
		}
		if err := checkTree(tree); err != nil {
			t.Error(err)
		}
	}
}

func backupOf(tb testing.TB, zxid int64, nodes ...Node) *Backup {
	tb.Helper()
	b := NewBackup(zxid, 0)
	for _, n := range nodes {
		if err := b.Add(n); err != nil {
			tb.Fatal(err)
		}
	}
	return b
}

func TestStagingRules(t *testing.T) {
	source, _ := furnished(t)
	entries := restoring(5, backupStream(t, source, 100))
	others := restoring(6, backupStream(t, source, 100))
	tree, as := furnished(t)
	before := users(tree)
	want := func(what string, e *Entry, code jute.Code) {
		t.Helper()
		if o := tree.Apply(e); o.Err != code {
			t.Errorf("%s: %v, want %v", what, o.Err, code)
		}
		if err := checkTree(tree); err != nil {
			t.Error(err)
		}
	}
	swap := entries[len(entries)-1]
	want("a swap of nothing", swap, jute.BadVersion)
	want("the second part", entries[1], jute.BadVersion)
	want("the first", entries[0], jute.OK)
	want("the first of a client", &Entry{Kind: KindStage, Session: as.Session, Data: entries[0].Data}, jute.BadArguments)
	want("the third", entries[2], jute.BadVersion)
	want("the second", entries[1], jute.OK)
	want("the second again", entries[1], jute.BadVersion)
	want("a swap too early", swap, jute.BadVersion)
	want("the first of another", others[0], jute.OK)
	want("the third, of what is dropped", entries[2], jute.BadVersion)
	want("the end of what is dropped", &Entry{Kind: KindUnstage, Flags: FlagInternal, Data: StageID(5)}, jute.BadVersion)
	want("garbage", &Entry{Kind: KindStage, Flags: FlagInternal, Data: StageData(6, 1, []byte{4, 4, 4, 4})}, jute.BadArguments)
	want("what follows it", others[1], jute.BadVersion)
	want("the first again", others[0], jute.OK)
	if tree.StagedBytes() == 0 {
		t.Error("what is staged takes no memory")
	}
	with := tree.Digest()
	staged := tree.staging
	if tree.staging = nil; tree.Digest() == with {
		t.Error("the digest does not tell boxes apart by what they have staged")
	}
	tree.staging = staged
	want("its end", &Entry{Kind: KindUnstage, Flags: FlagInternal, Data: StageID(6)}, jute.OK)
	want("the first", entries[0], jute.OK)
	want("ten minutes", &Entry{Kind: KindNoop, TimeMs: tree.TimeMs() + stagingIdleMs}, jute.OK)
	want("the second, just in time", entries[1], jute.OK)
	want("more than that", &Entry{Kind: KindNoop, TimeMs: tree.TimeMs() + stagingIdleMs + 1}, jute.OK)
	want("the third, too late", entries[2], jute.BadVersion)
	if users(tree) != before {
		t.Errorf("something changed:\n%s", users(tree))
	}
}

// What the leader foresees of a part is what it takes at most.
func TestWouldGrowCountsStaging(t *testing.T) {
	b := NewBackup(1, 1)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Add(Node{Path: "/", Kind: Persistent}))
	for i := range 3000 {
		must(b.Add(Node{Path: fmt.Sprintf("/%d", i), Kind: Persistent}))
	}
	tree := New()
	for _, e := range restoring(1, backupStream(t, b.t, 20000)) {
		foreseen, before := tree.WouldGrow(e), tree.StagedBytes()
		tree.Apply(e)
		if grown := tree.StagedBytes() - before; grown > foreseen+1024 { // the empty tree itself
			t.Fatalf("a part grew what is staged by %d bytes, foreseen %d", grown, foreseen)
		}
	}
	if tree.NodeCount() != 3005 {
		t.Error(tree.NodeCount())
	}
}
