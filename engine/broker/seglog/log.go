package seglog

import (
	"fmt"
	"sync"
	"sync/atomic"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
	"cairn/platform/vfs"
)

// pendingEntriesMax is how many index entries wait in memory before they are written to the files in one go.
const pendingEntriesMax = 64

// Log is one partition's log. Methods that change it belong to its owner's goroutine; those that say "any goroutine" do not.
type Log struct {
	dir  *Dir
	tp   TopicPartition
	id   ID
	path string
	cfg  Config
	job  flushJob

	// The owner's.
	tail      tail
	active    *segmentFiles
	writer    *vfs.Handle // on the active .log file; nil at rest
	reserved  int64       // bytes of the active .log file up to which space is preallocated
	created   int64       // wall time in ms at which the active segment was begun, 0 if not known
	jitter    int64       // ms taken off segment.ms for the active segment
	recovery  Recovery
	snapshots []int64       // offsets of producer-state snapshots, ascending
	sinceSave int64         // bytes appended since the last of them
	state     func() []byte // the producers' state at the log's end; see KeepState
	closed    bool

	// highWatermark is what the next checkpoint writes; -1 means nothing yet.
	highWatermark atomic.Int64
	flushedEnd    atomic.Int64
	cleaned       atomic.Int64 // offset from which on the log was never compacted
	asked         atomic.Bool  // a flush of our own is under way

	// flushing is held across a flush, so that what a flush took upon itself is durable when the next one begins. Nobody but
	// flush takes it, and mu may be taken while it is held.
	flushing sync.Mutex

	// mu protects what the owner shares with readers and flushes: everything below. Nothing is called while it is held
	// but the open-file cache.
	mu   sync.Mutex
	view View
	// dirty are segments with bytes that no finished flush has covered, oldest first, each with a handle that keeps the
	// kernel's report of a failed write-back.
	dirty      []dirtySegment
	dirtyNames []string // other files in the same state
	dirtyDir   bool     // names were created or removed in the partition's directory
	dirtyRoot  bool     // the partition's directory itself is new
	// unindexed are segments whose index files were written since they were last synced. The recovery point does not pass
	// them before that.
	unindexed []*segmentFiles
	unsaved   bool   // leader epochs have changed since their checkpoint was written
	unnamed   bool   // partition.metadata was written since: no checkpoint may know the log before that is synced
	unkept    string // the snapshot that stands for segments that went: no checkpoint may hold the start behind them before it is synced
	unflushed int64  // bytes appended and not flushed
	vouched   int64  // recovery point that is on disk
	deleted   bool
}

type dirtySegment struct {
	files  *segmentFiles
	handle *vfs.Handle
}

// AppendInfo says what an append did.
type AppendInfo struct {
	FirstOffset, LastOffset int64
	MaxTimestamp            int64 // greatest of the batches, ms since 1970
	Bytes                   int
	Rolled                  bool // a new segment was begun
	// StateDue asks for SaveProducerState at the log's end: much was appended since the last one, or a segment was begun.
	StateDue bool
}

// TopicPartition is the log's name. Any goroutine.
func (l *Log) TopicPartition() TopicPartition { return l.tp }

// TopicID is what partition.metadata says; zero if the file is missing. Any goroutine.
func (l *Log) TopicID() ID { return l.id }

// Config are the present settings.
func (l *Log) Config() Config { return l.cfg }

// SetConfig changes the settings from the next append on.
func (l *Log) SetConfig(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("settings of %v: %w", l.tp, err)
	}
	l.cfg = cfg
	l.mu.Lock()
	l.view.removable = cfg.DeleteOld && !cfg.RefuseWhenFull
	l.mu.Unlock()
	return nil
}

// View is the present snapshot. Any goroutine.
func (l *Log) View() View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view
}

// FlushedEnd is the offset before which everything is on stable storage. Any goroutine.
func (l *Log) FlushedEnd() int64 { return l.flushedEnd.Load() }

// SetHighWatermark says what the next checkpoint writes to replication-offset-checkpoint. Any goroutine.
func (l *Log) SetHighWatermark(offset int64) { l.highWatermark.Store(offset) }

// Cleaned is the offset before which the log has been compacted, 0 where it never was. It may lie below the start. Any goroutine.
func (l *Log) Cleaned() int64 { return l.cleaned.Load() }

// SetCleaned says what the next checkpoint writes to cleaner-offset-checkpoint: that the log is compacted before offset, as v shows it. The
// owner calls it. ErrOutOfRange says that the log was cut since v was taken: what lies there now may be other records, and nothing was changed.
func (l *Log) SetCleaned(v View, offset int64) error {
	if v.Cut() {
		return fmt.Errorf("compacted %v before offset %d: %w", l.tp, offset, ErrOutOfRange)
	}
	l.cleaned.Store(offset)
	return nil
}

func (l *Log) usable() error {
	if l.closed {
		return fmt.Errorf("%v: %w", l.tp, ErrClosed)
	}
	return l.dir.Failed()
}

// Append writes one or more whole batches, already stamped, with ascending offsets at or beyond the log's end (gaps are
// a follower's of a compacted log). b is borrowed until return. It is one pwrite, unless it crosses into a new segment.
// After an error nothing of the failing segment's part is visible or in the file; the info tells what an earlier segment
// took. Nothing is durable before a Flush. Errors: ErrFull, ErrInvalid, ErrFailed, ErrClosed.
func (l *Log) Append(now clock.Now, b []byte) (AppendInfo, error) {
	info := AppendInfo{FirstOffset: -1, LastOffset: -1, MaxTimestamp: batch.NoTimestamp}
	if err := l.usable(); err != nil {
		return info, err
	}
	if err := l.checkAppend(b); err != nil {
		return info, fmt.Errorf("append %v at offset %d: %w", l.tp, l.tail.next, err)
	}
	if err := l.dir.take(int64(len(b))); err != nil {
		return info, fmt.Errorf("append %v at offset %d: %w", l.tp, l.tail.next, err)
	}
	for len(b) > 0 {
		run := l.fitting(b, now)
		if run == 0 {
			if err := l.rollFor(b, now); err != nil {
				return info, fmt.Errorf("append %v at offset %d: %w", l.tp, l.tail.next, err)
			}
			info.Rolled, info.StateDue = true, true
			run = l.fitting(b, now)
		}
		if err := l.write(b[:run], &info); err != nil {
			return info, fmt.Errorf("append %v at offset %d: %w", l.tp, l.tail.next, err)
		}
		b = b[run:]
	}
	info.StateDue = info.StateDue || l.sinceSave >= l.dir.cfg.Limits.DirtyBytesMax/2
	l.askFlush(info.Rolled)
	return info, nil
}

// checkAppend refuses what no log may hold.
func (l *Log) checkAppend(b []byte) error {
	next := l.tail.next
	s := batch.Scan(b)
	for s.Next() {
		h := s.Header()
		if h.BaseOffset < next {
			return fmt.Errorf("%w: batch at offset %d, log ends at %d", ErrInvalid, h.BaseOffset, next)
		}
		next = h.NextOffset()
	}
	if s.Err() != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, s.Err())
	}
	if s.Tail() != 0 || len(b) == 0 {
		return fmt.Errorf("%w: %d of %d bytes are no whole batch", ErrInvalid, s.Tail(), len(b))
	}
	return nil
}

// fitting is how many bytes of b, in whole batches, go into the active segment before it has to be sealed
// (LogSegment.shouldRoll).
func (l *Log) fitting(b []byte, now clock.Now) int {
	s := batch.Scan(b)
	n := 0
	for s.Next() {
		h := s.Header()
		size := l.tail.size + int64(n)
		empty := size == 0
		if !l.tail.fits(h.LastOffset()) || !empty && (size+int64(h.Size()) > l.cfg.SegmentBytes ||
			l.tail.full(l.cfg.IndexBytes) || n == 0 && l.old(h.MaxTimestamp, now)) {
			return n
		}
		n += h.Size()
	}
	return n
}

// old reports whether the active segment is past segment.ms: by the records' own time, and by ours where they have none.
func (l *Log) old(timestamp int64, now clock.Now) bool {
	if l.cfg.SegmentAge <= 0 {
		return false
	}
	age := max(l.cfg.SegmentAge.Milliseconds()-l.jitter, 1)
	if l.tail.first >= 0 {
		return timestamp-l.tail.first > age
	}
	return l.created > 0 && now.UnixMilli()-l.created > age
}

// write appends batches that fit the active segment and publishes them.
func (l *Log) write(b []byte, info *AppendInfo) error {
	if len(l.tail.index) >= pendingEntriesMax {
		if err := l.writeIndexes(); err != nil {
			return err
		}
	}
	if err := l.openWriter(); err != nil {
		return err
	}
	f := l.writer.File()
	l.preallocate(f, l.tail.size+int64(len(b)))
	if _, err := f.WriteAt(b, l.tail.size); err != nil {
		return l.takeBack(f, err)
	}
	newEpochs := l.view.epochs
	s := batch.Scan(b)
	for s.Next() {
		h := s.Header()
		l.tail.add(h, l.cfg.IndexInterval)
		newEpochs = newEpochs.assign(h.LeaderEpoch, max(h.BaseOffset, l.view.start)) // the start may lie in the first batch
		if info.FirstOffset < 0 {
			info.FirstOffset = h.BaseOffset
		}
		info.LastOffset = h.LastOffset()
		info.MaxTimestamp = max(info.MaxTimestamp, h.MaxTimestamp)
	}
	info.Bytes += len(b)
	l.sinceSave += int64(len(b))

	l.mu.Lock()
	defer l.mu.Unlock()
	l.unflushed += int64(len(b))
	if len(newEpochs) != len(l.view.epochs) || newEpochs.latest() != l.view.epochs.latest() {
		l.view.epochs, l.unsaved = newEpochs, true
	}
	l.publishTail()
	return l.markDirty(l.active)
}

// takeBack makes a failed append undone: what the file took of it is cut off, durably before anything else is written there. A power cut
// could bring it back else, and followers may have others' bytes by then at the same offsets, in the same epoch.
func (l *Log) takeBack(f vfs.File, cause error) error {
	err := l.dir.check("append", cause)
	if l.dir.Failed() != nil {
		return err
	}
	l.reserved = 0
	size, cutErr := f.Size()
	if cutErr == nil && size > l.tail.size {
		if cutErr = f.Truncate(l.tail.size); cutErr == nil {
			cutErr = f.Sync()
		}
	}
	if cutErr != nil {
		return l.dir.fail("cut back a failed append", cutErr)
	}
	return err
}

// preallocate reserves the next step beyond the end. A device that has no room for a step may still have room for the
// append, so nothing is refused here.
func (l *Log) preallocate(f vfs.File, end int64) {
	if l.cfg.PreallocateStep <= 0 || end <= l.reserved {
		return
	}
	from := max(l.reserved, l.tail.size)
	upTo := max(end, min(end+l.cfg.PreallocateStep, max(l.cfg.SegmentBytes, end)))
	if l.dir.room.Add(from-upTo) < 0 {
		return // near the reserve, which is not for this
	}
	l.reserved = upTo
	_ = f.Preallocate(from, upTo-from)
}

func (l *Log) openWriter() error {
	if l.writer != nil {
		return nil
	}
	h, err := l.active.open(suffixLog)
	if err != nil {
		return l.dir.check("open segment", err)
	}
	l.writer = h
	return nil
}

// publishTail makes the tail's state visible. l.mu is held.
func (l *Log) publishTail() {
	l.view.tail = l.tail
	l.view.end = l.tail.next
}

// markDirty notes that a segment has bytes to be flushed. They are there already: where it cannot be noted, the next flush would
// vouch for them without knowing of them, and the directory ends. l.mu is held.
func (l *Log) markDirty(files *segmentFiles) error {
	for i := range l.dirty {
		if l.dirty[i].files == files {
			return nil
		}
	}
	h, err := files.open(suffixLog)
	if err != nil {
		return l.dir.fail("open "+files.logName+" to flush it", err)
	}
	l.dirty = append(l.dirty, dirtySegment{files, h})
	return nil
}

// markUnindexed notes that a segment's index files have bytes to be synced.
func (l *Log) markUnindexed(files *segmentFiles) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.unindexed {
		if f == files {
			return
		}
	}
	l.unindexed = append(l.unindexed, files)
}

// writeIndexes moves the pending index entries to the files. The time index goes first: an offset index entry on disk
// means that the time entries up to it are there. On ErrFull the entries stay pending.
func (l *Log) writeIndexes() error {
	if len(l.tail.index) == 0 && len(l.tail.times) == 0 {
		return nil
	}
	if err := writeTail(l.active, &l.tail); err != nil {
		return l.dir.check("write index", err)
	}
	l.markUnindexed(l.active)
	l.mu.Lock()
	l.publishTail()
	l.mu.Unlock()
	return nil
}

// writeTail writes a tail's pending entries behind those on disk.
func writeTail(files *segmentFiles, t *tail) error {
	if n := len(t.times); n > 0 {
		if err := writeEntries(files, suffixTime, t.pendingTimes(), t.timesOnDisk*timeEntrySize); err != nil {
			return err
		}
		t.timesOnDisk += int64(n)
		t.times = nil
	}
	if n := len(t.index); n > 0 {
		if err := writeEntries(files, suffixIndex, t.pendingIndex(), t.indexOnDisk*indexEntrySize); err != nil {
			return err
		}
		t.indexOnDisk += int64(n)
		t.index = nil
	}
	return nil
}

// writeEntries writes at a position of an index file; after an error the file ends there.
func writeEntries(files *segmentFiles, suffix string, b []byte, at int64) error {
	h, err := files.open(suffix)
	if err != nil {
		return err
	}
	defer h.Release()
	if _, err := h.File().WriteAt(b, at); err != nil {
		_ = h.File().Truncate(at)
		return err
	}
	return nil
}

// AssignLeaderEpoch notes that epoch begins at offset; an epoch not above the latest is ignored. Append does it by itself
// for the epochs of its batches.
func (l *Log) AssignLeaderEpoch(epoch int32, offset int64) error {
	if err := l.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.view.epochs.assign(epoch, offset)
	if changed.latest() != l.view.epochs.latest() {
		l.view.epochs, l.unsaved = changed, true
	}
	return nil
}

// DropEmptyEpochs forgets leader epochs that no record has: those that begin at the end. A box that led and follows now
// calls it, for the records that it copies next may be of an older epoch.
func (l *Log) DropEmptyEpochs() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut := l.view.epochs.cutEnd(l.view.end); len(cut) != len(l.view.epochs) {
		l.view.epochs, l.unsaved = cut, true
	}
}
