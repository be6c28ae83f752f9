package znode

import (
	"bytes"
	"testing"

	"cairn/engine/ensemble/jute"
)

// FuzzEntry: what decodes encodes to the same again, and is applied without a panic.
func FuzzEntry(f *testing.F) {
	f.Add((&Entry{Kind: KindCreateSession, TimeoutMs: 1000}).Marshal(nil))
	f.Add((&Entry{Kind: KindMulti, Session: 1, Ops: []jute.Op{
		{Type: jute.OpCreate, Path: "/a", ACL: jute.OpenACL()}, {Type: jute.OpDelete, Path: "/a", Version: -1},
	}}).Marshal(nil))
	f.Add((&Entry{Kind: KindRegister, Flags: FlagInternal, Box: 1, Incarnation: 2, Ops: []jute.Op{
		{Type: OpEnsure, Path: "/cairn/kafka"}, {Type: jute.OpCreate, Path: "/cairn/x", Flags: 1},
	}}).Marshal(nil))
	f.Add((&Entry{Kind: KindReap, Flags: FlagInternal, Ops: []jute.Op{{Type: jute.OpDeleteContainer, Path: "/"}}}).Marshal(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again Entry
		if e.Unmarshal(b) != nil {
			return
		}
		if err := again.Unmarshal(e.Marshal(nil)); err != nil {
			t.Fatal(err)
		}
		tree, _ := open()
		tree.Apply(&e)
		tree.Apply(&again)
		if err := checkTree(tree); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRestore: frames with true checksums and any payload are refused or make a whole tree.
func FuzzRestore(f *testing.F) {
	tree, as := open()
	create(tree, as, "/a")
	create(tree, as, "/a/b", jute.ACL{Perms: 1, ID: jute.ID{Scheme: "ip", ID: "::1"}})
	c, err := tree.Cut()
	if err != nil {
		f.Fatal(err)
	}
	stream, _ := c.Next(nil, 1<<20)
	f.Add(stream[len(snapshotMagic)+frameHeader:])
	f.Add(parts(backupStream(f, tree, 1<<20))[0])
	f.Fuzz(func(t *testing.T, payload []byte) {
		fuzzStaging(t, payload)
		back, err := Restore(bytes.NewReader(append([]byte(snapshotMagic), frame(payload)...)))
		if err != nil {
			return
		}
		if err := checkTree(back); err != nil {
			t.Fatal(err)
		}
	})
}

// fuzzStaging: any payload, with a true end behind it, is refused or takes the place of the users' tree.
func fuzzStaging(t *testing.T, payload []byte) {
	tree, _ := open()
	for nodes := range uint64(4) {
		c := backupCut{nodes: nodes}
		c.sum = hashString(0, string(payload))
		for _, e := range []*Entry{
			{Kind: KindStage, Flags: FlagInternal, Data: StageData(1, 0, payload)},
			{Kind: KindStage, Flags: FlagInternal, Data: StageData(1, 1, c.end(nil))},
			{Kind: KindSwap, Flags: FlagInternal, Data: StageID(1)},
		} {
			tree.Apply(e)
			if err := checkTree(tree); err != nil {
				t.Fatal(err)
			}
		}
	}
}
