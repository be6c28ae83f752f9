package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"cairn/platform/vfs"
)

// A script of appends and snapshots with an error at the n-th operation of the file system, for every n, as a failure
// and as a success whose answer was lost. Whatever happens, the directory opens again without the fault, and everything
// that a flush vouched for is there.
func TestAnErrorAtEveryOperation(t *testing.T) {
	count := vfs.NewPlan()
	if flushed, err := faultyScript(tempDir(t), vfs.WithErrors(vfs.OS(), count)); err != nil || flushed != 24 {
		t.Fatalf("without a fault: %d entries flushed, %v", flushed, err)
	}
	step := 1
	if testing.Short() {
		step = 3
	}
	for n := 1; n <= count.Operations(); n += step {
		for _, effect := range []bool{false, true} {
			what := fmt.Sprintf("operation %d of %d fails, takes effect %v", n, count.Operations(), effect)
			dir := tempDir(t)
			plan := vfs.NewPlan(vfs.Fault{Nth: n, TakesEffect: effect, WritePrefix: -1})
			flushed, err := faultyScript(dir, vfs.WithErrors(vfs.OS(), plan))
			if plan.Injected() > 0 && err == nil && n < count.Operations()-10 {
				// Some failures harm nothing: an unfinished snapshot that cannot be removed, for one.
				t.Logf("%s: unnoticed", what)
			}
			var restored []byte
			l, r, err := Open(Config{Dir: dir, SegmentBytes: 300}, Deps{FS: vfs.OS()}, func(_ SnapshotMeta, r io.Reader) (err error) {
				restored, err = io.ReadAll(r)
				return err
			})
			if err != nil {
				t.Fatalf("%s: opened again: %v", what, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			last := r.Snapshot.Index
			if last > 0 && !bytes.Equal(restored, fmt.Appendf(nil, "tree %d", last)) {
				t.Fatalf("%s: snapshot %d holds %q", what, last, restored)
			}
			for _, e := range r.Entries {
				if last++; e.Index != last || string(e.Data) != fmt.Sprint("entry ", last) {
					t.Fatalf("%s: entry %d %q where %d is due", what, e.Index, e.Data, last)
				}
			}
			if last < flushed || last > flushed+3 {
				t.Fatalf("%s: %d entries are there, %d were flushed", what, last, flushed)
			}
		}
	}
}

// faultyScript writes 24 entries in flushes of three, and a snapshot after every six. It stops where the log has failed,
// and returns the last entry that a flush vouched for.
func faultyScript(dir string, fs vfs.FS) (flushed uint64, err error) {
	l, _, err := Open(Config{Dir: dir, SegmentBytes: 300}, Deps{FS: fs}, none)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var failures []error
	for i := uint64(1); i <= 24; i++ {
		if err := l.Append(Batch{Entries: []Entry{entry(i, 1, fmt.Sprint("entry ", i))}, HardState: &HardState{1, 1, i - 1}}); err != nil {
			return flushed, err
		}
		if i%3 != 0 {
			continue
		}
		if err := l.Flush(); err != nil {
			return flushed, err
		}
		flushed = i
		if i%6 != 0 {
			continue
		}
		meta := SnapshotMeta{SnapshotID: SnapshotID{i, 1}, ConfState: ConfState{Voters: []uint64{1}}}
		w, err := l.CreateSnapshot(meta)
		if err == nil {
			_, _ = fmt.Fprint(w, "tree ", i)
			_, err = w.Commit()
		}
		if err != nil {
			failures = append(failures, err) // no failure of the log: it goes on without this snapshot
			continue
		}
		if err := l.MarkSnapshot(meta.SnapshotID); err != nil {
			return flushed, err
		}
		if err := l.Flush(); err != nil {
			return flushed, err
		}
	}
	return flushed, errors.Join(failures...)
}
