package raftlog

import (
	"encoding/binary"
	"fmt"
	"path"

	"github.com/tidwall/wal"
)

// Flush writes everything that was appended before the call as one write of the library and makes it durable. It is the
// log's job for the device's syncer (class Raft). An error is final: every later Flush and Append returns it, because
// the library's own state is then unknown and the kernel may have dropped the dirty pages.
func (l *Log) Flush() error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	frames, ends, drop, err := l.take()
	if err != nil {
		return err
	}
	if len(ends) > 0 {
		began := l.deps.Clock.Now().Mono
		if err := l.write(frames, ends); err != nil {
			return l.fail(err)
		}
		took := l.deps.Clock.Now().Mono - began
		l.flushSeconds.Observe(took.Seconds())
		l.fsyncTime.Add(took.Milliseconds())
		l.flushed.Inc()
		l.appended.Add(len(frames))
	}
	l.spare, l.spareEnd = frames[:0], ends[:0]
	if cap(l.spare) > 4<<20 {
		l.spare, l.batch = nil, wal.Batch{} // a burst's memory is given back, and the library's copy of it
	}
	if drop > 0 {
		if err := l.dropSegments(drop); err != nil {
			return l.fail(err)
		}
	}
	return nil
}

// take swaps the queue for an empty one.
func (l *Log) take() (frames []byte, ends []int, drop uint64, err error) {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	if err := l.refuse(); err != nil {
		return nil, nil, 0, err
	}
	frames, ends, drop = l.pending, l.ends, l.drop
	l.pending, l.ends, l.drop = l.spare, l.spareEnd, 0
	l.spare, l.spareEnd = nil, nil
	return frames, ends, drop, nil
}

// write seals the frames, hands them over as one batch, and flushes: the data, and the directory where the library has
// started another file. fileMu is held.
func (l *Log) write(frames []byte, ends []int) error {
	synced := l.Synced()
	if err := l.blank(len(frames) + len(ends)*varintBytesMax); err != nil {
		return err
	}
	l.batch.Clear()
	began := 0
	for i, end := range ends {
		b := frames[began:end]
		seal(b, uint32(i))
		l.batch.Write(synced.Seq+uint64(i)+1, b)
		began = end
	}
	if err := l.wal.WriteBatch(&l.batch); err != nil {
		return fmt.Errorf("write %d records after record %d: %w", len(ends), synced.Seq, err)
	}
	added := l.follow(frames, ends)
	if len(added) > 0 {
		if err := l.settle(added); err != nil {
			return err
		}
	}
	if err := l.tail.file.Sync(); err != nil {
		return fmt.Errorf("flush after record %d: %w", synced.Seq, err)
	}
	tail := &l.segments[len(l.segments)-1]
	l.pendingMu.Lock()
	l.synced = Position{File: segmentName(tail.first), Length: tail.bytes, Seq: synced.Seq + uint64(len(ends))}
	l.pendingMu.Unlock()
	return nil
}

// follow repeats the library's choice of segments and returns the first sequences of those that it has started: it says
// nothing about them, and their names must be flushed. settle checks that the choice was foreseen.
func (l *Log) follow(frames []byte, ends []int) (added []uint64) {
	start := func(first uint64) *segment {
		l.segments = append(l.segments, segment{first: first})
		added = append(added, first)
		return &l.segments[len(l.segments)-1]
	}
	tail := &l.segments[len(l.segments)-1]
	if tail.bytes > int64(l.cfg.SegmentBytes) {
		tail = start(tail.next())
	}
	began := 0
	for _, end := range ends {
		b := frames[began:end]
		began = end
		tail.count++
		tail.bytes += int64(varintBytes(uint64(len(b))) + len(b))
		switch f := header(b); f.kind {
		case kindEntry:
			tail.indexMax = max(tail.indexMax, f.index)
		case kindMarker:
			l.markSeq = f.seq
		}
		if tail.bytes >= int64(l.cfg.SegmentBytes) {
			tail = start(tail.next())
		}
	}
	return added
}

// settle makes the names of new segments durable, and goes on with the last of them. The library has flushed the segments
// before it itself.
func (l *Log) settle(added []uint64) error {
	for _, first := range added {
		if _, err := l.deps.FS.Stat(path.Join(l.walDir, segmentName(first))); err != nil {
			return fmt.Errorf("the library was to start segment %s: %w", segmentName(first), err)
		}
	}
	if err := l.deps.FS.SyncDir(l.walDir); err != nil {
		return fmt.Errorf("flush directory %s: %w", l.walDir, err)
	}
	if err := l.openTail(); err != nil {
		return err
	}
	// The library would keep the segment that it has just left in memory, for readers that do not exist.
	return l.wal.ClearCache()
}

// dropSegments unlinks, oldest first, whole segments that hold nothing but entries up to index and state that has been
// written again since. The library's own TruncateFront would rewrite a segment instead, and is safe only where the file
// system keeps renames and removals in order; a prefix of removals is always a valid log. fileMu is held.
func (l *Log) dropSegments(index uint64) error {
	n := 0
	for n < len(l.segments)-1 {
		s := &l.segments[n]
		if s.indexMax > index || s.next() > l.markSeq {
			break
		}
		if err := l.deps.FS.Remove(path.Join(l.walDir, segmentName(s.first))); err != nil {
			return fmt.Errorf("drop segment %s: %w", segmentName(s.first), err)
		}
		if err := l.deps.FS.SyncDir(l.walDir); err != nil {
			return fmt.Errorf("flush directory %s: %w", l.walDir, err)
		}
		n++
	}
	l.segments = append([]segment(nil), l.segments[n:]...)
	return nil
}

// MarkSnapshot says that the snapshot is durable (its file was committed): with the next Flush a marker and the last
// appended hard state are written, and the segments that hold only what every kept snapshot covers are dropped.
func (l *Log) MarkSnapshot(m SnapshotID) error {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	if err := l.refuse(); err != nil {
		return err
	}
	// The marker goes first: what dropSegments relies on is written behind it, in the same flush.
	l.push(frame{kind: kindMarker, index: m.Index, term: m.Term})
	l.push(hardStateFrame(l.hardState))
	if len(l.good) == snapshotsKept {
		l.drop = l.good[0].Index
	}
	return nil
}

// header reads the fields of a frame that this process has made, without checking it.
func header(b []byte) frame {
	return frame{kind: kind(b[1]), seq: binary.BigEndian.Uint64(b[16:]), term: binary.BigEndian.Uint64(b[24:]), index: binary.BigEndian.Uint64(b[32:])}
}

// varintBytesMax is how long the library's length of a frame can be: a frame is shorter than 4 GiB.
const varintBytesMax = 5

func varintBytes(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
