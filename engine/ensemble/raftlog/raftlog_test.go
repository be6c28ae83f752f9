package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cairn/engine/ensemble/raftlog/powercut"
	"cairn/platform/vfs"
)

// none is a restore for logs that have no snapshot.
func none(m SnapshotMeta, _ io.Reader) error { return fmt.Errorf("unexpected snapshot %d", m.Index) }

func open(t testing.TB, dir string, segment int) (*Log, *Recovered) {
	t.Helper()
	l, r, err := Open(Config{Dir: dir, SegmentBytes: segment}, Deps{FS: vfs.OS()}, none)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, r
}

func entry(index, term uint64, data string) Entry {
	return Entry{Index: index, Term: term, Type: 1, Data: []byte(data)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func texts(entries []Entry) []string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = fmt.Sprintf("%d/%d/%d:%s", e.Index, e.Term, e.Type, e.Data)
	}
	return out
}

func TestWhatWasFlushedIsRead(t *testing.T) {
	dir := tempDir(t)
	l, r := open(t, dir, 200)
	if !r.Fresh || len(r.Entries) != 0 {
		t.Fatalf("a new log: %+v", r)
	}
	conf := ConfState{Voters: []uint64{1, 2}, Learners: []uint64{9}, AutoLeave: true}
	must(t, l.Append(Batch{ConfState: &conf}))
	for i := uint64(1); i <= 40; i++ {
		must(t, l.Append(Batch{Entries: []Entry{entry(i, 3, strings.Repeat("x", int(i)))}, HardState: &HardState{3, 7, i - 1}}))
		if i%3 == 0 {
			must(t, l.Flush())
		}
	}
	must(t, l.Flush())
	before := l.Synced()
	must(t, l.Close())
	if segments, _ := filepath.Glob(filepath.Join(dir, "wal", "*")); len(segments) < 5 {
		t.Fatalf("only %d segments: the test does not cross their borders", len(segments))
	}
	l, r = open(t, dir, 200)
	if len(r.Entries) != 40 || string(r.Entries[39].Data) != strings.Repeat("x", 40) || r.Entries[39].Term != 3 || r.Entries[39].Type != 1 {
		t.Fatalf("read back %v", texts(r.Entries))
	}
	if r.HardState != (HardState{3, 7, 39}) || r.Fresh || r.Cut.File != "" {
		t.Fatalf("read back %+v", r)
	}
	if !slices.Equal(r.ConfState.Voters, conf.Voters) || !slices.Equal(r.ConfState.Learners, conf.Learners) || !r.ConfState.AutoLeave {
		t.Fatalf("membership %+v", r.ConfState)
	}
	if after := l.Synced(); after != before {
		t.Fatalf("flushed to %+v before and %+v after", before, after)
	}
	must(t, l.Append(Batch{Entries: []Entry{entry(41, 4, "after")}}))
	must(t, l.Flush())
	must(t, l.Close())
	if _, r = open(t, dir, 200); len(r.Entries) != 41 {
		t.Fatalf("%d entries after appending to a recovered log", len(r.Entries))
	}
}

func TestALaterEntryCutsTheTail(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")}}))
	must(t, l.Flush())
	must(t, l.Append(Batch{Entries: []Entry{entry(2, 2, "B")}}))
	must(t, l.Flush())
	must(t, l.Close())
	_, r := open(t, dir, 0)
	if got := texts(r.Entries); !slices.Equal(got, []string{"1/1/1:a", "2/2/1:B"}) {
		t.Fatalf("entries %v", got)
	}
}

func TestTwoOwnersAreRefused(t *testing.T) {
	dir := tempDir(t)
	open(t, dir, 0)
	if _, _, err := Open(Config{Dir: dir}, Deps{FS: vfs.OS()}, none); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
}

// Every damage at every byte behind what was flushed: everything flushed is there, nothing appears that was not
// appended, and the log goes on.
func TestPowerCutAtEveryByte(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 600)
	index := uint64(0)
	write := func(n int) {
		var entries []Entry
		for range n {
			index++
			entries = append(entries, entry(index, 1, fmt.Sprintf("entry %d", index)))
		}
		must(t, l.Append(Batch{Entries: entries, HardState: &HardState{1, 1, index - uint64(n)}}))
		must(t, l.Flush())
	}
	for range 9 {
		write(1)
	}
	flushed := l.Synced()
	flushedIndex := index
	write(3) // flushed to the file, but the cut forgets it
	if l.Synced().File != flushed.File {
		t.Fatal("the last write began another segment: nothing to cut")
	}
	all := wholeFile(t, filepath.Join(dir, "wal", flushed.File))
	tail := powercut.Tail{File: flushed.File, Flushed: flushed.Length}
	scratch := tempDir(t)
	cuts, step := 0, int64(1)
	if testing.Short() {
		step = 5
	}
	for kind := range powercut.Kinds {
		for at := flushed.Length; at <= int64(len(all)); at += step {
			d := powercut.Damage{Kind: kind, At: at, Seed: uint64(at)}
			copied := filepath.Join(scratch, "d")
			must(t, powercut.Copy(dir, copied, tail, d))
			l, r, err := Open(Config{Dir: copied, SegmentBytes: 600}, Deps{FS: vfs.OS()}, none)
			if err != nil {
				t.Fatalf("%v: %v", d, err)
			}
			got := uint64(len(r.Entries))
			if got < flushedIndex || got > index {
				t.Fatalf("%v: %d entries, %d were flushed and %d appended", d, got, flushedIndex, index)
			}
			for i, e := range r.Entries {
				if want := fmt.Sprintf("entry %d", i+1); string(e.Data) != want {
					t.Fatalf("%v: entry %d is %q", d, i+1, e.Data)
				}
			}
			if r.Cut.File != "" {
				cuts++
			}
			must(t, l.Append(Batch{Entries: []Entry{entry(got+1, 2, "on")}}))
			must(t, l.Flush())
			must(t, l.Close())
			_, r, err = openClosed(copied)
			if err != nil || uint64(len(r.Entries)) != got+1 || r.Cut.File != "" {
				t.Fatalf("%v: opened again: %v, %+v", d, err, r)
			}
			must(t, os.RemoveAll(copied))
		}
	}
	if cuts == 0 {
		t.Fatal("no tail was ever cut: the test does not test")
	}
}

func openClosed(dir string) (*Log, *Recovered, error) {
	l, r, err := Open(Config{Dir: dir, SegmentBytes: 600}, Deps{FS: vfs.OS()}, none)
	if err == nil {
		err = l.Close()
	}
	return l, r, err
}

func wholeFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return b
}

// build writes a log of several segments and writes, and closes it.
func build(t *testing.T) (dir string, segments []string) {
	t.Helper()
	dir = tempDir(t)
	l, _ := open(t, dir, 300)
	for i := uint64(1); i <= 30; i++ {
		must(t, l.Append(Batch{Entries: []Entry{entry(i, 1, fmt.Sprintf("entry %d", i))}}))
		must(t, l.Flush())
	}
	must(t, l.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*"))
	must(t, err)
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	return dir, segments
}

func TestDamageToFlushedBytesIsRefused(t *testing.T) {
	flip := func(name string, at int) func(*testing.T, []string) {
		return func(t *testing.T, _ []string) {
			b := wholeFile(t, name)
			b[at] ^= 0x10
			must(t, os.WriteFile(name, b, 0o640))
		}
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, dir string, segments []string)
	}{
		{"a bit in the first segment", func(t *testing.T, _ string, s []string) { flip(s[0], 60)(t, s) }},
		{"a bit in a middle segment's length", func(t *testing.T, _ string, s []string) { flip(s[1], 0)(t, s) }},
		{"a bit in the last segment, before a later write", func(t *testing.T, _ string, s []string) { flip(s[len(s)-1], 45)(t, s) }},
		{"a middle segment cut short", func(t *testing.T, _ string, s []string) { must(t, os.Truncate(s[1], 100)) }},
		{"a middle segment missing", func(t *testing.T, _ string, s []string) { must(t, os.Remove(s[1])) }},
		{"the first segment missing", func(t *testing.T, _ string, s []string) { must(t, os.Remove(s[0])) }},
		{"zeros at the end of a middle segment", func(t *testing.T, _ string, s []string) {
			must(t, os.WriteFile(s[1], append(wholeFile(t, s[1]), make([]byte, 10)...), 0o640))
		}},
		{"a segment under another's name", func(t *testing.T, _ string, s []string) {
			must(t, os.WriteFile(s[1], wholeFile(t, s[2]), 0o640))
		}},
		{"START and END at once", func(t *testing.T, _ string, s []string) {
			must(t, os.WriteFile(s[1]+".START", wholeFile(t, s[1]), 0o640))
			must(t, os.WriteFile(s[2]+".END", wholeFile(t, s[2]), 0o640))
		}},
		{"a START that is garbage", func(t *testing.T, _ string, s []string) {
			must(t, os.WriteFile(s[1]+".START", []byte("garbage"), 0o640))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, segments := build(t)
			test.do(t, dir, segments)
			_, _, err := openClosed(dir)
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("opened with: %v", err)
			}
			if !strings.Contains(err.Error(), filepath.Join(dir, "wal")) && !strings.Contains(err.Error(), filepath.Join(dir, "snap")) {
				t.Fatalf("the error names no file: %v", err)
			}
		})
	}
}

func TestALeftOverEndIsFinished(t *testing.T) {
	dir, segments := build(t)
	last := segments[len(segments)-2]
	must(t, os.WriteFile(last+".END", wholeFile(t, last), 0o640))
	must(t, os.WriteFile(segments[0]+".START.TEMP", []byte("x"), 0o640))
	_, r, err := openClosed(dir)
	must(t, err)
	if n := len(r.Entries); n == 0 || n >= 30 {
		t.Fatalf("%d entries", n)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "wal", "*.*"))
	if len(left) != 0 {
		t.Fatalf("left over: %v", left)
	}
}

func TestAShorterLogThanPromisedIsReported(t *testing.T) {
	dir, _ := build(t)
	l, r, err := Open(Config{Dir: dir, PromisedSeq: 31}, Deps{FS: vfs.OS()}, none)
	must(t, err)
	must(t, l.Close())
	if !r.ShorterThanPromised || r.LastSeq != 30 {
		t.Fatalf("%+v", r)
	}
}

// failing lets directory flushes fail, the one thing that goes through the file system given.
type failing struct {
	vfs.FS
	err error
}

func (f *failing) SyncDir(dir string) error {
	if f.err != nil {
		return f.err
	}
	return f.FS.SyncDir(dir)
}

func TestAnErrorIsFinal(t *testing.T) {
	fs := &failing{FS: vfs.OS()}
	l, _, err := Open(Config{Dir: tempDir(t), SegmentBytes: 100}, Deps{FS: fs}, none)
	must(t, err)
	defer func() { _ = l.Close() }()
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a")}}))
	must(t, l.Flush())
	fs.err = errors.New("input/output error")
	must(t, l.Append(Batch{Entries: []Entry{entry(2, 1, strings.Repeat("b", 200))}}))
	if err := l.Flush(); !errors.Is(err, fs.err) {
		t.Fatalf("flush: %v", err)
	}
	if l.Synced().Seq != 1 {
		t.Fatalf("flushed to %+v", l.Synced())
	}
	broken := fs.err
	fs.err = nil
	for _, err := range []error{l.Flush(), l.Append(Batch{}), l.MarkSnapshot(SnapshotID{1, 1}), l.Failed()} {
		if !errors.Is(err, broken) {
			t.Fatalf("after the failure: %v", err)
		}
	}
}

// snapshot writes one with the content and marks it.
func snapshot(t testing.TB, l *Log, index, term uint64, content []byte) {
	t.Helper()
	w, err := l.CreateSnapshot(SnapshotMeta{SnapshotID: SnapshotID{index, term}, ConfState: ConfState{Voters: []uint64{index}}})
	must(t, err)
	_, err = w.Write(content)
	must(t, err)
	_, err = w.Commit()
	must(t, err)
	must(t, l.MarkSnapshot(SnapshotID{index, term}))
	must(t, l.Flush())
}

func TestSnapshotsAndWhatTheyLetGo(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 400)
	contents := map[uint64][]byte{}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := uint64(1); i <= 100; i++ {
		must(t, l.Append(Batch{Entries: []Entry{entry(i, 2, fmt.Sprintf("entry %d", i))}, HardState: &HardState{2, 1, i}}))
		must(t, l.Flush())
		if i%20 == 0 {
			contents[i] = make([]byte, rng.IntN(3*snapshotChunkBytes))
			for j := range contents[i] {
				contents[i][j] = byte(rng.Uint32())
			}
			snapshot(t, l, i, 2, contents[i])
		}
	}
	must(t, l.Append(Batch{Entries: []Entry{entry(101, 2, "last")}}))
	must(t, l.Flush())
	must(t, l.Close())
	files, _ := filepath.Glob(filepath.Join(dir, "snap", "*"))
	if len(files) != snapshotsKept {
		t.Fatalf("snapshots: %v", files)
	}
	segments, _ := filepath.Glob(filepath.Join(dir, "wal", "*"))
	if first := filepath.Base(segments[0]); first < segmentName(60) {
		t.Fatalf("segment %s is still there", first)
	}
	read := func(want uint64, damages int) *Recovered {
		t.Helper()
		var got []byte
		l, r, err := Open(Config{Dir: dir, SegmentBytes: 400}, Deps{FS: vfs.OS()}, func(m SnapshotMeta, r io.Reader) (err error) {
			got, err = io.ReadAll(r)
			return err
		})
		must(t, err)
		must(t, l.Close())
		if r.Snapshot != (SnapshotID{want, 2}) || !bytes.Equal(got, contents[want]) || r.ConfState.Voters[0] != want {
			t.Fatalf("restored %+v, %d bytes", r.Snapshot, len(got))
		}
		if len(r.Entries) != int(101-want) || r.Entries[0].Index != want+1 || len(r.Fallbacks) != damages {
			t.Fatalf("entries %v, set aside %v", texts(r.Entries), r.Fallbacks)
		}
		return r
	}
	read(100, 0)
	newest, older := filepath.Join(dir, "snap", snapshotName(100)), filepath.Join(dir, "snap", snapshotName(80))
	whole := wholeFile(t, newest)
	for _, at := range []int{0, 9, 20, 40, 48, 60, len(whole) / 2, len(whole) - 1} {
		b := bytes.Clone(whole)
		b[at] ^= 1
		must(t, os.WriteFile(newest, b, 0o640))
		read(80, 1)
		must(t, os.Rename(strings.TrimSuffix(newest, snapshotSuffix)+snapshotDamaged, newest))
	}
	for _, n := range []int{0, 10, 50, len(whole) / 2, len(whole) - 1} {
		must(t, os.WriteFile(newest, whole[:n], 0o640))
		read(80, 1)
		must(t, os.Rename(strings.TrimSuffix(newest, snapshotSuffix)+snapshotDamaged, newest))
	}
	must(t, os.WriteFile(older, []byte("x"), 0o640))
	_, _, err := Open(Config{Dir: dir}, Deps{FS: vfs.OS()}, func(_ SnapshotMeta, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), snapshotName(100)) || !strings.Contains(err.Error(), snapshotName(80)) {
		t.Fatalf("both damaged: %v", err)
	}
}

func TestARestoreThatFailsOnSoundBytesEndsOpen(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a")}}))
	must(t, l.Flush())
	snapshot(t, l, 1, 1, []byte("tree"))
	must(t, l.Close())
	mine := errors.New("a newer format")
	_, _, err := Open(Config{Dir: dir}, Deps{FS: vfs.OS()}, func(SnapshotMeta, io.Reader) error { return mine })
	if !errors.Is(err, mine) {
		t.Fatalf("opened with: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "snap", snapshotName(1))); err != nil {
		t.Fatalf("the snapshot was set aside: %v", err)
	}
}

func TestASnapshotWithoutItsLogIsRefused(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a")}}))
	must(t, l.Flush())
	snapshot(t, l, 1, 1, []byte("tree"))
	must(t, l.Close())
	must(t, os.RemoveAll(filepath.Join(dir, "wal")))
	_, _, err := openClosed(dir)
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened with: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	b := appendFrame(nil, &frame{kind: kindEntry, seq: 3, term: 1, index: 2, payload: []byte("payload")})
	seal(b, 1)
	f.Add(append([]byte{byte(len(b))}, b...))
	f.Add(make([]byte, 100))
	f.Add(encodeConfState(ConfState{Voters: []uint64{1, 2, 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeConfState(b); err == nil && !bytes.Equal(encodeConfState(c), b) {
			t.Fatalf("membership %x decodes to %+v", b, c)
		}
		r, n, err := decodeRecord(b)
		if err != nil {
			return
		}
		again := appendFrame(nil, &r)
		seal(again, r.delta)
		if len(again) > n || !bytes.HasSuffix(b[:n], again) {
			t.Fatalf("%x decodes to %+v", b, r)
		}
		_ = provenAfter(b, 0)
	})
}

func BenchmarkAppendFlush(b *testing.B) {
	l, _ := open(b, b.TempDir(), 2<<20)
	data := make([]byte, 200)
	b.ReportAllocs()
	index := uint64(0)
	for b.Loop() {
		index++
		_ = l.Append(Batch{Entries: []Entry{{Index: index, Term: 1, Data: data}}, HardState: &HardState{1, 1, index}})
		if err := l.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}

// With a record to a segment, what a drop must leave is not simply in the last one.
func TestTheHardStateOutlivesTheSegmentsThatAreDropped(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 40)
	for i := uint64(1); i <= 6; i++ {
		must(t, l.Append(Batch{Entries: []Entry{entry(i, 2, "x")}, HardState: &HardState{2, 5, i}}))
		must(t, l.Flush())
		if i%2 == 0 {
			snapshot(t, l, i, 2, []byte("tree"))
		}
	}
	must(t, l.Close())
	_, r, err := Open(Config{Dir: dir, SegmentBytes: 40}, Deps{FS: vfs.OS()}, func(_ SnapshotMeta, r io.Reader) error { return nil })
	must(t, err)
	if r.HardState != (HardState{2, 5, 6}) || r.Snapshot.Index != 6 || len(r.Entries) != 0 {
		t.Fatalf("read back %+v", r)
	}
}

// Records that are sound by themselves, and in the wrong place.
func TestASegmentThatRepeatsAnotherIsRefused(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 150)
	for i := uint64(1); i <= 12; i++ {
		must(t, l.Append(Batch{HardState: &HardState{i, 1, 0}}))
		must(t, l.Flush())
	}
	must(t, l.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*"))
	must(t, err)
	must(t, os.WriteFile(segments[1], wholeFile(t, segments[0]), 0o640))
	if _, _, err := openClosed(dir); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened with: %v", err)
	}
}
