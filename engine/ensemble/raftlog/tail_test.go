package raftlog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/engine/ensemble/raftlog/powercut"
	"cairn/platform/vfs"
)

// put appends the entry with this index and flushes it.
func put(t *testing.T, l *Log, index uint64, text string) {
	t.Helper()
	must(t, l.Append(Batch{Entries: []Entry{entry(index, 1, text)}}))
	must(t, l.Flush())
}

// fileBytes is the length of the segment that is written to, on disk.
func fileBytes(t *testing.T, dir string, l *Log) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "wal", l.Synced().File))
	must(t, err)
	return info.Size()
}

// Small writes go where zeros were written and flushed before them: the file's length does not change with each.
func TestSmallWritesDoNotChangeTheLength(t *testing.T) {
	dir := tempDir(t)
	l, _ := open(t, dir, 0)
	lengths := map[int64]bool{}
	const writes = 2000
	for i := uint64(1); i <= writes; i++ {
		put(t, l, i, strings.Repeat("x", 100))
		lengths[fileBytes(t, dir, l)] = true
	}
	if written := l.Synced().Length; len(lengths) != int(written/blankStep)+1 {
		t.Fatalf("%d lengths while %d bytes were written in %d writes", len(lengths), written, writes)
	}
	put(t, l, writes+1, strings.Repeat("x", 1<<20))
	if at, size := l.Synced().Length, fileBytes(t, dir, l); size != at {
		t.Fatalf("a long write ends at byte %d and the file at %d", at, size)
	}
	put(t, l, writes+2, "after a long one")
	if at, size := l.Synced().Length, fileBytes(t, dir, l); size <= at {
		t.Fatalf("no zeros behind byte %d of %d", at, size)
	}
	must(t, l.Close())
	if at, size := l.Synced().Length, fileBytes(t, dir, l); size != at {
		t.Fatalf("closed with records to byte %d and %d bytes", at, size)
	}
}

// A process that was killed leaves its zeros behind. They are taken away, and nothing is reported as cut.
func TestZerosBehindTheRecordsAreNoDamage(t *testing.T) {
	dir, killed := tempDir(t), filepath.Join(tempDir(t), "killed")
	l, _ := open(t, dir, 600)
	index := uint64(0)
	for len(l.segments) < 3 || fileBytes(t, dir, l) == l.Synced().Length {
		index++
		put(t, l, index, fmt.Sprint("entry ", index, "\x00\x00")) // a record that ends with zeros keeps them
	}
	synced := l.Synced()
	for _, s := range l.segments[:len(l.segments)-1] {
		if b := wholeFile(t, filepath.Join(dir, "wal", segmentName(s.first))); int64(len(b)) != s.bytes {
			t.Errorf("segment %d has %d bytes, its records %d", s.first, len(b), s.bytes)
		}
	}
	must(t, powercut.Copy(dir, killed, powercut.Tail{File: synced.File, Flushed: 1 << 20}, powercut.Damage{}))
	l, r := open(t, killed, 600)
	if r.Cut != (Cut{}) || uint64(len(r.Entries)) != index || !strings.HasSuffix(string(r.Entries[index-1].Data), "\x00\x00") {
		t.Fatalf("%d entries of %d, %+v", len(r.Entries), index, r.Cut)
	}
	if now, bytes := l.Synced(), fileBytes(t, killed, l); now != synced || bytes != synced.Length {
		t.Fatalf("flushed to %+v, opened with %+v and %d bytes", synced, now, bytes)
	}
}

// More zeros than the segment is filled with ahead stand where records were: they are taken away, and it is said.
func TestTooManyZerosAreReported(t *testing.T) {
	for zeros, reported := range map[int]bool{blankStep: false, blankStep + 1: true} {
		dir := tempDir(t)
		l, _ := open(t, dir, 0)
		put(t, l, 1, "entry")
		must(t, l.Close())
		file := filepath.Join(dir, "wal", segmentName(l.segments[0].first))
		records := wholeFile(t, file)
		must(t, os.WriteFile(file, append(records, make([]byte, zeros)...), 0o600))
		_, r := open(t, dir, 0)
		if got := r.Cut.File != ""; got != reported || reported && (r.Cut.At != int64(len(records)) || r.Cut.Reason == "") || len(r.Entries) != 1 {
			t.Errorf("%d zeros: %+v, %d entries", zeros, r.Cut, len(r.Entries))
		}
	}
}

// tight has no room for anything that goes through the file system given: the zeros.
type tight struct{ vfs.FS }

func (f tight) Open(name string, mode vfs.Mode) (vfs.File, error) {
	file, err := f.FS.Open(name, mode)
	return tightFile{file}, err
}

type tightFile struct{ vfs.File }

func (tightFile) WriteAt([]byte, int64) (int, error) { return 0, vfs.ErrNoSpace }

func TestWithoutRoomForZerosTheLogGoesOn(t *testing.T) {
	dir := tempDir(t)
	l, _, err := Open(Config{Dir: dir}, Deps{FS: tight{vfs.OS()}}, none)
	must(t, err)
	for i := uint64(1); i <= 10; i++ {
		put(t, l, i, "entry")
	}
	must(t, l.Close())
	if _, r := open(t, dir, 0); len(r.Entries) != 10 {
		t.Fatalf("%d entries", len(r.Entries))
	}
}
