package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cairn/platform/vfs"
)

// reopen opens the directory with a restore that takes everything, and closes it when the test ends.
func reopen(t testing.TB, dir string, segment int) (*Log, *Recovered, error) {
	t.Helper()
	l, r, err := Open(Config{Dir: dir, SegmentBytes: segment}, Deps{FS: vfs.OS()},
		func(_ SnapshotMeta, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return l, r, err
}

// receive takes a snapshot of another box, without telling the log to go on from it.
func receive(t testing.TB, l *Log, index, term uint64) {
	t.Helper()
	file := sent(t, SnapshotMeta{SnapshotID{index, term}, ConfState{Voters: []uint64{1}}}, "the tree")
	_, err := l.ReceiveSnapshot(index, int64(len(file)), bytes.NewReader(file), func(_ SnapshotMeta, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	must(t, err)
}

// The power goes after the leader's snapshot was kept and before its marker was written: the log goes on from it, and what
// is flushed after that restart is there at the next one, whether the snapshot lies beyond the log or contradicts it.
func TestALogGoesOnFromASnapshotThatWasNotMarked(t *testing.T) {
	for name, at := range map[string]SnapshotID{"beyond the log": {20, 5}, "against the log": {3, 5}} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			l, _ := open(t, dir, 0)
			for i := uint64(1); i <= 5; i++ {
				must(t, l.Append(Batch{Entries: []Entry{entry(i, 1, "old")}, HardState: &HardState{1, 1, 1}}))
			}
			must(t, l.Flush())
			receive(t, l, at.Index, at.Term)
			must(t, l.Close())

			l, r, err := reopen(t, dir, 0)
			must(t, err)
			if r.Snapshot != at || len(r.Entries) != 0 || r.HardState != (HardState{Term: at.Term, Commit: at.Index}) {
				t.Fatalf("read back %+v", r)
			}
			must(t, l.Append(Batch{Entries: []Entry{entry(at.Index+1, 6, "new")}}))
			must(t, l.Flush())
			must(t, l.Close())

			_, r, err = reopen(t, dir, 0)
			must(t, err)
			if r.Snapshot != at || !slices.Equal(texts(r.Entries), []string{fmt.Sprintf("%d/6/1:new", at.Index+1)}) {
				t.Fatalf("read back %+v, entries %v", r, texts(r.Entries))
			}
		})
	}
}

// A marker may be the first record of a segment, and the segments before it may be dropped, with entries in them that lie
// behind the marker's snapshot. Such a log begins with the next entry.
func TestALogMayBeginWithAMarker(t *testing.T) {
	const segment = 4096
	dir := tempDir(t)
	l, _ := open(t, dir, segment)
	index := uint64(0)
	put := func(upTo uint64, data string) {
		for index < upTo {
			index++
			must(t, l.Append(Batch{Entries: []Entry{entry(index, 1, data)}, HardState: &HardState{1, 1, index}}))
			must(t, l.Flush())
		}
	}
	put(19, "x")
	must(t, l.Append(Batch{Entries: []Entry{entry(20, 1, strings.Repeat("x", segment))}})) // fills its segment
	must(t, l.Flush())
	index = 20
	snapshot(t, l, 15, 1, []byte("tree"))
	put(30, "x")
	snapshot(t, l, 25, 1, []byte("tree"))
	snapshot(t, l, 28, 1, []byte("tree"))
	must(t, l.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*"))
	must(t, err)
	if f, _, err := decodeRecord(wholeFile(t, segments[0])); err != nil || f.kind != kindMarker || f.index != 15 {
		t.Fatalf("the log begins with %+v, %v: the test is about a marker", f, err)
	}

	_, r, err := reopen(t, dir, segment)
	must(t, err)
	if got := texts(r.Entries); r.Snapshot.Index != 28 || !slices.Equal(got, []string{"29/1/1:x", "30/1/1:x"}) {
		t.Fatalf("read back %+v, entries %v", r.Snapshot, got)
	}
}

// An older snapshot takes the place of a damaged one only where the log reaches back to it. After a marker that replaced
// the log it does not, also while no entry follows the marker.
func TestNoFallbackBehindAMarkerThatReplacedTheLog(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")}, HardState: &HardState{1, 1, 3}}))
	must(t, l.Flush())
	snapshot(t, l, 2, 1, []byte("tree"))
	receive(t, l, 100, 5)
	must(t, l.MarkSnapshot(SnapshotID{100, 5}))
	must(t, l.Flush())
	must(t, l.Close())
	must(t, os.Truncate(filepath.Join(dir, "snap", snapshotName(100)), 50))

	if _, r, err := reopen(t, dir, 0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened with %+v, %v", r, err)
	}
}

// A commit index beyond the log says that entries are gone which were there.
func TestACommitIndexBeyondTheLogIsRefused(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a"), entry(2, 1, "b")}, HardState: &HardState{1, 1, 5}}))
	must(t, l.Flush())
	must(t, l.Close())
	if _, r, err := reopen(t, dir, 0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened with %+v, %v", r, err)
	}
}

// A snapshot that is being written when the log is closed must not touch the directory afterwards: it may be another's.
func TestNoSnapshotIsCommittedAfterClose(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a"), entry(2, 1, "b")}, HardState: &HardState{1, 1, 2}}))
	must(t, l.Flush())
	w, err := l.CreateSnapshot(SnapshotMeta{SnapshotID{2, 1}, ConfState{Voters: []uint64{1}}})
	must(t, err)
	file := sent(t, SnapshotMeta{SnapshotID{9, 1}, ConfState{Voters: []uint64{1}}}, "the tree")
	must(t, l.Close())
	if _, err := w.Commit(); !errors.Is(err, ErrClosed) {
		t.Errorf("committed after Close: %v", err)
	}
	var got string
	if _, err := l.ReceiveSnapshot(9, int64(len(file)), bytes.NewReader(file), into(&got)); !errors.Is(err, ErrClosed) {
		t.Errorf("received after Close: %v", err)
	}
	if _, err := l.CreateSnapshot(w.meta); !errors.Is(err, ErrClosed) {
		t.Errorf("begun after Close: %v", err)
	}
	open(t, dir, 0)
	if names, _ := filepath.Glob(filepath.Join(dir, "snap", "*")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// What one large flush took is given back.
func TestABurstIsNotKept(t *testing.T) {
	l, _ := open(t, tempDir(t), 1<<20)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := uint64(1); i <= 64; i++ {
		must(t, l.Append(Batch{Entries: []Entry{entry(i, 1, strings.Repeat("x", 1<<20))}}))
	}
	must(t, l.Flush())
	if after := heap(); after > before+16<<20 {
		t.Errorf("%d MiB are kept after a flush of 64", (after-before)>>20)
	}
	runtime.KeepAlive(l)
}

// A snapshot that is given up after Close touches nothing: the directory may be another Log's, which writes a snapshot of
// the same name.
func TestASnapshotGivenUpAfterCloseTouchesNothing(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	put(t, l, 1, "entry")
	meta := SnapshotMeta{SnapshotID{1, 1}, ConfState{Voters: []uint64{1}}}
	late, err := l.CreateSnapshot(meta)
	must(t, err)
	must(t, l.Close())
	l, _ = open(t, dir, 0)
	w, err := l.CreateSnapshot(meta)
	must(t, err)
	late.Abort()
	if _, err := w.Commit(); err != nil {
		t.Fatalf("the snapshot of the log that is open: %v", err)
	}
}
