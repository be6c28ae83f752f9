package raftlog

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cairn/platform/vfs"
)

// model is what the log should hold: what was appended, and of it what was flushed.
type model struct {
	base    SnapshotID // the entry before the first
	entries []Entry
	hard    HardState
}

func (m *model) last() SnapshotID {
	if n := len(m.entries); n > 0 {
		return SnapshotID{m.entries[n-1].Index, m.entries[n-1].Term}
	}
	return m.base
}

func (m *model) clone() model {
	c := *m
	c.entries = slices.Clone(m.entries)
	return c
}

// put appends as raft does: from an index that is not committed, on.
func (m *model) put(entries []Entry) {
	if len(entries) > 0 {
		m.entries = append(m.entries[:entries[0].Index-m.base.Index-1:entries[0].Index-m.base.Index-1], entries...)
	}
}

// life is one log with its model through many restarts.
type life struct {
	t               *testing.T
	rng             *rand.Rand
	dir             string
	segment         int
	seed            uint64
	l               *Log
	appended, sound model // sound: flushed
}

func (f *life) open() {
	f.t.Helper()
	var tree string
	l, r, err := Open(Config{Dir: f.dir, SegmentBytes: f.segment}, Deps{FS: vfs.OS()}, into(&tree))
	if err != nil {
		f.t.Fatalf("life %d: %v", f.seed, err)
	}
	f.l = l
	if r.Snapshot.Index > 0 && tree != fmt.Sprint("tree ", r.Snapshot.Index) {
		f.t.Fatalf("snapshot %d holds %q", r.Snapshot.Index, tree)
	}
	want := f.sound.clone()
	if r.Snapshot.Index < want.base.Index || len(r.Fallbacks) > 0 {
		f.t.Fatalf("restored %+v, the log begins behind %+v", r.Snapshot, want.base)
	}
	skip := r.Snapshot.Index - want.base.Index
	if skip > uint64(len(want.entries)) {
		f.t.Fatalf("restored %+v, the last entry is %+v", r.Snapshot, want.last())
	}
	if got := texts(r.Entries); !slices.Equal(got, texts(want.entries[skip:])) {
		f.t.Fatalf("behind %d read back %v, want %v", r.Snapshot.Index, got, texts(want.entries[skip:]))
	}
	want.hard.Commit = max(want.hard.Commit, r.Snapshot.Index)
	if r.HardState != want.hard {
		f.t.Fatalf("hard state %+v, want %+v", r.HardState, want.hard)
	}
	f.sound.hard = r.HardState
	f.appended = f.sound.clone()
}

func (f *life) flush() {
	must(f.t, f.l.Flush())
	f.sound = f.appended.clone()
}

func (f *life) append() {
	m := &f.appended
	m.hard.Term = max(m.hard.Term, 1)
	first := m.last().Index + 1
	if f.rng.IntN(4) == 0 && first-1 > m.hard.Commit { // a new leader overwrites what was not committed
		first = m.hard.Commit + 1 + f.rng.Uint64N(first-1-m.hard.Commit)
		m.hard.Term++
		m.hard.Vote = f.rng.Uint64N(3)
	}
	var entries []Entry
	for i := range f.rng.Uint64N(5) {
		entries = append(entries, entry(first+i, m.hard.Term, strings.Repeat("x", f.rng.IntN(2*f.segment)/(1+f.rng.IntN(20)))))
	}
	m.put(entries)
	if last := m.last().Index; f.rng.IntN(2) == 0 && last > m.hard.Commit {
		m.hard.Commit += f.rng.Uint64N(last - m.hard.Commit + 1)
	}
	must(f.t, f.l.Append(Batch{Entries: entries, HardState: &m.hard}))
}

// snapshot takes one of a committed entry that was flushed.
func (f *life) snapshot() {
	m := &f.sound
	from := m.base.Index
	if good := f.l.Snapshots(); len(good) > 0 {
		from = max(from, good[len(good)-1].Index)
	}
	if m.hard.Commit <= from {
		return
	}
	index := from + 1 + f.rng.Uint64N(m.hard.Commit-from)
	w, err := f.l.CreateSnapshot(SnapshotMeta{SnapshotID{index, m.entries[index-m.base.Index-1].Term}, ConfState{Voters: []uint64{1}}})
	must(f.t, err)
	_, err = io.WriteString(w, fmt.Sprint("tree ", index))
	must(f.t, err)
	_, err = w.Commit()
	must(f.t, err)
	if f.rng.IntN(4) > 0 {
		must(f.t, f.l.MarkSnapshot(w.meta.SnapshotID))
	}
}

// receive takes the leader's snapshot, and goes on from it at once or after a restart.
func (f *life) receive() {
	m := &f.appended
	id := SnapshotID{m.hard.Commit + 1 + f.rng.Uint64N(20), m.hard.Term + 1}
	file := sent(f.t, SnapshotMeta{id, ConfState{Voters: []uint64{1}}}, fmt.Sprint("tree ", id.Index))
	var tree string
	_, err := f.l.ReceiveSnapshot(id.Index, int64(len(file)), bytes.NewReader(file), into(&tree))
	must(f.t, err)
	next := model{base: id, hard: HardState{Term: id.Term, Commit: id.Index}}
	if f.rng.IntN(2) == 0 {
		f.sound = next
		f.restart()
		return
	}
	must(f.t, f.l.Append(Batch{HardState: &next.hard}))
	must(f.t, f.l.MarkSnapshot(id))
	f.appended = next
	f.flush()
}

// restart loses what was not flushed.
func (f *life) restart() {
	must(f.t, f.l.Close())
	f.open()
}

// Random lives: whatever is appended, overwritten, snapshotted and received, every start finds what was flushed.
func TestEveryStartFindsWhatWasFlushed(t *testing.T) {
	lives := 60
	if testing.Short() {
		lives = 10
	}
	for seed := range uint64(lives) {
		f := &life{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), dir: tempDir(t)}
		f.segment = []int{40, 300, 2000}[f.rng.IntN(3)]
		var tree string
		l, _, err := Open(Config{Dir: f.dir, SegmentBytes: f.segment}, Deps{FS: vfs.OS()}, into(&tree))
		must(t, err)
		f.l = l
		f.append()
		f.flush() // a snapshot without any log is refused
		for range 150 {
			switch f.rng.IntN(12) {
			case 0:
				f.restart()
			case 1, 2:
				f.snapshot()
			case 3:
				if f.rng.IntN(4) == 0 {
					f.receive()
				}
			case 4, 5, 6:
				f.flush()
			default:
				f.append()
			}
		}
		f.restart()
		must(t, f.l.Close())
	}
}
