package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"cairn/platform/vfs"
)

// distrustScript is a box whose snapshots 2 and 4 are wrong, and which is brought the right one at 6 while its log goes on
// to 8. done tells whether the log says that the snapshots are to be trusted again.
func distrustScript(dir string, fs vfs.FS, file []byte) (noted, done bool, err error) {
	l, _, err := Open(Config{Dir: dir, SegmentBytes: 300}, Deps{FS: fs}, none)
	if err != nil {
		return false, false, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for i := uint64(1); i <= 8; i++ {
		if err := l.Append(Batch{Entries: []Entry{entry(i, 1, fmt.Sprint("entry ", i))}, HardState: &HardState{1, 1, i}}); err != nil {
			return noted, false, err
		}
		if err := l.Flush(); err != nil {
			return noted, false, err
		}
		if i != 2 && i != 4 {
			continue
		}
		w, err := l.CreateSnapshot(SnapshotMeta{SnapshotID: SnapshotID{Index: i, Term: 1}})
		if err != nil {
			return false, false, err
		}
		if _, err := w.Write([]byte("wrong")); err != nil {
			w.Abort()
			return false, false, err
		}
		if _, err := w.Commit(); err != nil {
			return false, false, err
		}
		if err := l.MarkSnapshot(SnapshotID{Index: i, Term: 1}); err != nil {
			return false, false, err
		}
	}
	if err := l.Distrust(); err != nil {
		return false, false, err
	}
	var got string
	if _, err := l.ReceiveSnapshot(6, int64(len(file)), bytes.NewReader(file), into(&got)); err != nil {
		return true, false, err
	}
	if err := l.Trust(6); err != nil {
		return true, false, err
	}
	if kept := l.Snapshots(); len(kept) != 1 || kept[0].Index != 6 {
		return true, true, fmt.Errorf("kept: %v", kept)
	}
	if err := l.MarkSnapshot(SnapshotID{Index: 6, Term: 1}); err != nil {
		return true, true, err
	}
	return true, true, l.Flush()
}

// Once a box has noted that its snapshots are wrong, every start knows it, until the right one is there and no start can
// fall back to a wrong one; with an error at every operation too.
func TestDistrust(t *testing.T) {
	file := sent(t, SnapshotMeta{SnapshotID: SnapshotID{Index: 6, Term: 1}}, "right")
	count := vfs.NewPlan()
	dir := tempDir(t)
	if noted, done, err := distrustScript(dir, vfs.WithErrors(vfs.OS(), count), file); err != nil || !noted || !done {
		t.Fatalf("without a fault: %v, %v, %v", noted, done, err)
	}
	for n := 1; n <= count.Operations(); n++ {
		for _, effect := range []bool{false, true} {
			what := fmt.Sprintf("operation %d fails, takes effect %v", n, effect)
			dir := tempDir(t)
			noted, done, _ := distrustScript(dir, vfs.WithErrors(vfs.OS(), vfs.NewPlan(vfs.Fault{Nth: n, TakesEffect: effect, WritePrefix: -1})), file)
			var tree string
			l, r, err := Open(Config{Dir: dir, SegmentBytes: 300}, Deps{FS: vfs.OS()}, into(&tree))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			switch {
			case noted && !r.Distrusted && tree != "right":
				t.Errorf("%s: it starts from the tree %q and trusts it", what, tree)
			case done && (r.Distrusted || len(l.Snapshots()) != 1):
				t.Errorf("%s: distrusted %v, snapshots %v", what, r.Distrusted, l.Snapshots())
			case noted && r.HardState.Commit != 8:
				t.Errorf("%s: the log is committed to %d", what, r.HardState.Commit)
			}
			must(t, l.Close())
		}
	}
	// What is set aside does not pile up.
	var tree string
	l, _, err := Open(Config{Dir: dir, SegmentBytes: 300}, Deps{FS: vfs.OS()}, into(&tree))
	must(t, err)
	must(t, l.Trust(6))
	must(t, l.Close())
	infos, err := vfs.OS().List(dir + "/snap")
	must(t, err)
	if len(infos) != 1 {
		t.Errorf("left: %v", infos)
	}
}
