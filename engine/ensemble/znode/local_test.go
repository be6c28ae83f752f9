package znode

import (
	"testing"

	"cairn/engine/ensemble/jute"
)

// A local session becomes one of the tree under its own id, once; ids that are no such session's are refused, and a write
// in no session's name owns nothing.
func TestASessionThatWasLocal(t *testing.T) {
	tr := New()
	id := int64(2)<<56 | LocalBit | 7
	create := Entry{Kind: KindCreateSession, Session: id, TimeoutMs: 4000, Box: 2, Rules: 1}
	for range 2 {
		if out := tr.Apply(&create); out.Err != jute.OK || out.Session != id || tr.SessionCount() != 1 {
			t.Fatalf("%+v, %d sessions", out, tr.SessionCount())
		}
	}
	for _, bad := range []int64{1, -1, SessionIDOf(1<<50, 3)} {
		other := create
		other.Session = bad
		if out := tr.Apply(&other); out.Err != jute.BadArguments || tr.SessionCount() != 1 {
			t.Errorf("0x%x: %+v", bad, out)
		}
	}
	write := func(flags Flags, mode jute.CreateMode) jute.Code {
		op := jute.Op{Type: jute.OpCreate, Path: "/n", ACL: jute.OpenACL(), Flags: int32(mode)}
		out := tr.Apply(&Entry{Kind: KindOp, Flags: flags, Box: 2, Rules: 1, Ops: []jute.Op{op}})
		return out.Err
	}
	if err := write(0, jute.Persistent); err != jute.SessionExpired {
		t.Errorf("in nobody's name: %v", err)
	}
	if err := write(FlagLocal, jute.Ephemeral); err != jute.SessionExpired {
		t.Errorf("an ephemeral of no session: %v", err)
	}
	if err := write(FlagLocal, jute.Persistent); err != jute.OK {
		t.Errorf("a local session's write: %v", err)
	}
}
