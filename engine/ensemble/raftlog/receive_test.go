package raftlog

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"cairn/platform/vfs"
)

// sent is the file of a snapshot of that stream, as another box sends it.
func sent(t testing.TB, m SnapshotMeta, stream string) []byte {
	t.Helper()
	l, _ := open(t, tempDir(t), 0)
	w, err := l.CreateSnapshot(m)
	must(t, err)
	_, err = w.Write([]byte(stream))
	must(t, err)
	_, err = w.Commit()
	must(t, err)
	src, err := l.OpenSnapshot(m.Index)
	must(t, err)
	defer src.Close()
	b, err := io.ReadAll(src)
	must(t, err)
	if int64(len(b)) != src.Size {
		t.Fatalf("%d bytes sent of %d", len(b), src.Size)
	}
	return b
}

// into reads a restored stream into s.
func into(s *string) func(SnapshotMeta, io.Reader) error {
	return func(_ SnapshotMeta, r io.Reader) error {
		b, err := io.ReadAll(r)
		*s = string(b)
		return err
	}
}

// A snapshot of another box takes the place of the log, and what the log held beyond the snapshot's index under another
// term is gone, whether the power goes before the log is told or after.
func TestAReceivedSnapshotTakesThePlaceOfTheLog(t *testing.T) {
	meta := SnapshotMeta{SnapshotID{Index: 3, Term: 5}, ConfState{Voters: []uint64{1, 2, 3}}}
	file := sent(t, meta, "the tree")
	for _, marked := range []bool{false, true} {
		t.Run(fmt.Sprint("marked ", marked), func(t *testing.T) {
			dir := tempDir(t)
			l, _ := open(t, dir, 0)
			must(t, l.Append(Batch{Entries: []Entry{entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c"), entry(4, 1, "d")}, HardState: &HardState{1, 1, 1}}))
			must(t, l.Flush())
			var got string
			m, err := l.ReceiveSnapshot(3, int64(len(file)), bytes.NewReader(file), into(&got))
			must(t, err)
			if got != "the tree" || m.SnapshotID != meta.SnapshotID || !slices.Equal(m.ConfState.Voters, meta.ConfState.Voters) {
				t.Fatalf("received %q of %+v", got, m)
			}
			if marked {
				must(t, l.MarkSnapshot(m.SnapshotID))
				must(t, l.Append(Batch{Entries: []Entry{entry(4, 6, "D")}, HardState: &HardState{6, 2, 3}}))
				must(t, l.Flush())
			}
			must(t, l.Close())
			got = ""
			l, r, err := Open(Config{Dir: dir}, Deps{FS: vfs.OS()}, into(&got))
			must(t, err)
			defer l.Close()
			want := []string{}
			if marked {
				want = []string{"4/6/1:D"}
			}
			if got != "the tree" || r.Snapshot != meta.SnapshotID || !slices.Equal(texts(r.Entries), want) || r.HardState.Commit != 3 {
				t.Fatalf("read back %q, %+v, entries %v", got, r, texts(r.Entries))
			}
		})
	}
}

// Every damage on the way, and a file that ends early, is refused, and nothing of it is kept.
func TestADamagedSnapshotIsNotReceived(t *testing.T) {
	meta := SnapshotMeta{SnapshotID{Index: 3, Term: 5}, ConfState{Voters: []uint64{1}}}
	file := sent(t, meta, "the tree of another box")
	l, _ := open(t, tempDir(t), 0)
	var got string
	for at := range file {
		bad := bytes.Clone(file)
		bad[at] ^= 0x10
		if _, err := l.ReceiveSnapshot(3, int64(len(bad)), bytes.NewReader(bad), into(&got)); err == nil {
			t.Fatalf("byte %d damaged and received", at)
		}
		if _, err := l.ReceiveSnapshot(3, int64(at), bytes.NewReader(file), into(&got)); err == nil {
			t.Fatalf("%d of %d bytes received", at, len(file))
		}
		if _, err := l.ReceiveSnapshot(3, int64(len(file)), bytes.NewReader(file[:at]), into(&got)); err == nil {
			t.Fatalf("a stream that ends after %d of %d bytes received", at, len(file))
		}
	}
	if _, err := l.ReceiveSnapshot(4, int64(len(file)), bytes.NewReader(file), into(&got)); err == nil {
		t.Fatal("a snapshot of another index received")
	}
	infos, err := vfs.OS().List(l.snapDir)
	if err != nil || len(infos) != 0 || len(l.Snapshots()) != 0 {
		t.Fatalf("left behind: %v, %v, %v", infos, l.Snapshots(), err)
	}
}

// A snapshot that this box has been writing may end after a newer one came: the newer stays the newest.
func TestTheNewerSnapshotStays(t *testing.T) {
	l, _ := open(t, tempDir(t), 0)
	own, err := l.CreateSnapshot(SnapshotMeta{SnapshotID{Index: 2, Term: 1}, ConfState{Voters: []uint64{1}}})
	must(t, err)
	file := sent(t, SnapshotMeta{SnapshotID{Index: 9, Term: 2}, ConfState{Voters: []uint64{1}}}, "newer")
	var got string
	_, err = l.ReceiveSnapshot(9, int64(len(file)), bytes.NewReader(file), into(&got))
	must(t, err)
	_, err = own.Commit()
	must(t, err)
	if want := []SnapshotID{{2, 1}, {9, 2}}; !slices.Equal(l.Snapshots(), want) {
		t.Fatalf("kept %v", l.Snapshots())
	}
}
