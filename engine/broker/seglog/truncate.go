package seglog

import (
	"errors"
	"fmt"
	"math"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
	"cairn/platform/vfs"
)

// Truncate removes everything from the batch that holds offset on; the end may come to lie below offset if that is inside a
// batch. The file is cut, never rewritten, and closed for append: a new segment begins. Spans keep what was not cut. Below
// the start it is TruncateFullyAndStartAt. An offset at or beyond the end changes nothing.
//
// The recovery point is lowered durably before anything is cut, and names that go are gone durably before a new one is
// made: after a crash there is either the old log or a prefix of the new one.
func (l *Log) Truncate(offset int64) error {
	if err := l.usable(); err != nil {
		return err
	}
	if offset >= l.tail.next {
		return nil
	}
	if offset < l.view.start || offset < l.view.segs[0].base {
		return l.TruncateFullyAndStartAt(offset)
	}
	if err := l.truncate(offset); err != nil {
		return fmt.Errorf("truncate %v to offset %d: %w", l.tp, offset, err)
	}
	return nil
}

func (l *Log) truncate(offset int64) error {
	i := segmentFor(l.view.segs, offset)
	at := l.view.segs[i]
	size := at.size
	if at.files == l.active {
		size = l.tail.size
	}
	got, err := l.dir.load(at.files, l.cfg.IndexInterval, loadPlan{
		base: at.base, size: size, verify: math.MaxInt64, vouched: math.MaxInt64, before: offset})
	if err != nil {
		return l.dir.check("read the log", err)
	}
	end := got.tail.next
	start := int64(-1)
	if end < l.view.start {
		start = end // the start lay inside a batch that goes; a start beyond the end would cost what comes next
	}
	if err := l.dir.lowerPoint(l, end, start); err != nil {
		return err
	}
	gone := l.view.segs[i+1:]
	l.hide(at.files, got.tail.size, gone)
	if err := l.removeNow(gone); err != nil {
		return err
	}
	if got.tail.size == 0 {
		err = l.replace(at, i)
	} else {
		err = l.cut(at, i, got.tail, size)
	}
	if err != nil {
		return err
	}
	return l.forgetBeyond(end)
}

// hide tells older views that a part goes before it goes, and lets go of the writer. (Flushes that run vouch for nothing
// beyond it since the recovery point was lowered.)
func (l *Log) hide(cut *segmentFiles, size int64, gone []*segment) {
	cut.cut.Store(size)
	for _, s := range gone {
		s.files.gone.Store(true)
	}
	if l.writer != nil {
		l.writer.Release()
		l.writer = nil
	}
	l.reserved = 0
}

// removeNow unlinks segments, newest first, and makes that durable.
func (l *Log) removeNow(segs []*segment) error {
	if len(segs) == 0 {
		return nil
	}
	for i := len(segs) - 1; i >= 0; i-- {
		if err := segs[i].files.unlink(); err != nil {
			return l.dir.fail("unlink "+segs[i].files.logName, err)
		}
	}
	if err := syncDir(l.dir.fs, l.path); err != nil {
		return l.dir.fail("sync "+l.path, err)
	}
	return nil
}

// cut shortens the files of segment i, which becomes a sealed one, and begins a new segment at its end.
func (l *Log) cut(at *segment, i int, t tail, size int64) error {
	if err := l.dir.commitTail(at.files, &t, size, true); err != nil {
		return l.unfinished("cut "+at.files.logName, err)
	}
	if err := l.cutAborted(at.files, t.next); err != nil {
		return l.unfinished("cut "+at.files.name(suffixTxn), err)
	}
	files := newSegmentFiles(l.dir, l.path, t.next)
	if err := l.createFiles(files); err != nil {
		return l.unfinished("begin a segment after a cut", err)
	}
	sealed := &segment{base: at.base, end: t.next, size: t.size, files: at.files}
	newest := t.newest
	sealed.newest.Store(&newest)
	l.begin(files, t.next, 0, func(segs []*segment) []*segment { return append(segs[:i:i], sealed) })
	l.markUnindexed(at.files)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.markDirty(at.files)
}

// replace puts an empty file in the place of a segment that is cut to nothing. It is a new inode: spans of the old one keep theirs.
func (l *Log) replace(at *segment, i int) error {
	at.files.gone.Store(true)
	files := newSegmentFiles(l.dir, l.path, at.base)
	temporary := files.logName + suffixTemporary // .cleaned is compaction's, which may be at work on this segment
	f, err := l.dir.fs.Open(temporary, vfs.Create)
	if err == nil {
		err = f.Close()
	}
	for _, suffix := range [...]string{suffixIndex, suffixTime} {
		if err == nil {
			err = l.dir.truncateIndex(files.name(suffix), 0)
		}
	}
	if err == nil {
		err = l.cutAborted(files, at.base)
	}
	if err == nil {
		err = l.dir.fs.Rename(temporary, files.logName)
		l.dir.files.Forget(l.dir.fs, files.logName)
	}
	if err != nil {
		return l.unfinished("replace "+files.logName, err)
	}
	l.begin(files, at.base, 0, func(segs []*segment) []*segment { return segs[:i:i] })
	l.markUnindexed(files)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirtyDir = true
	return l.markDirty(files)
}

// unfinished is the end of the directory: a truncation that stops half-way leaves a log that only the recovery can read.
func (l *Log) unfinished(what string, err error) error { return l.dir.fail(what, err) }

// forgetBeyond removes what describes offsets beyond the end.
func (l *Log) forgetBeyond(end int64) error {
	if err := l.keepSnapshots(l.snapshots, end); err != nil {
		return l.unfinished("remove snapshots of "+l.path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut := l.view.epochs.cutEnd(end); len(cut) != len(l.view.epochs) {
		l.view.epochs, l.unsaved = cut, true
	}
	l.view.start = min(l.view.start, end)
	return nil
}

// TruncateFullyAndStartAt removes everything and starts anew at offset, as a follower does whose leader's log begins
// beyond its own. It waits for the device: the log is durable as it is then, empty at its start.
func (l *Log) TruncateFullyAndStartAt(offset int64) error {
	if err := l.usable(); err != nil {
		return err
	}
	if offset < 0 {
		return fmt.Errorf("truncate %v to offset %d: %w", l.tp, offset, ErrOutOfRange)
	}
	if err := l.startAnew(offset, offset); err != nil {
		return fmt.Errorf("truncate %v and start at offset %d: %w", l.tp, offset, err)
	}
	return nil
}

// StartInside removes everything and starts anew at start with b, whole batches the first of which begins before start and holds it, as
// a follower does whose leader's log begins inside a batch, after DeleteRecords. The start is durable before the batch is there: no power
// cut brings back what lies before it. After an error the log is as it was, or empty and begins at start; the errors are those of Append.
func (l *Log) StartInside(now clock.Now, start int64, b []byte) (AppendInfo, error) {
	info, err := l.startInside(now, start, b)
	if err != nil {
		return info, fmt.Errorf("start %v inside a batch at offset %d: %w", l.tp, start, err)
	}
	return info, nil
}

func (l *Log) startInside(now clock.Now, start int64, b []byte) (AppendInfo, error) {
	if err := l.usable(); err != nil {
		return AppendInfo{}, err
	}
	h, err := batch.Parse(b)
	if err != nil {
		return AppendInfo{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if h.BaseOffset >= start || h.NextOffset() <= start {
		return AppendInfo{}, fmt.Errorf("%w: a batch at offsets %d..%d", ErrInvalid, h.BaseOffset, h.LastOffset())
	}
	if err := l.dir.take(int64(len(b))); err != nil { // before anything goes
		return AppendInfo{}, err
	}
	if err := l.startAnew(h.BaseOffset, start); err != nil {
		return AppendInfo{}, err
	}
	info, err := l.Append(now, b)
	if l.tail.next < start && l.dir.Failed() == nil {
		err = errors.Join(err, l.startAnew(start, start)) // as a start after a crash would leave it
	}
	return info, err
}

// startAnew makes the log empty, with a segment that begins at base and the start at start, which is base or lies in the batch that comes there.
// The flush makes a log durable that was just made: else its start would be, and the log not, and the start is vouched for from here on.
func (l *Log) startAnew(base, start int64) error {
	if _, err := l.job.flush(); err != nil {
		return err
	}
	if err := l.dir.lowerPoint(l, base, start); err != nil {
		return err
	}
	l.hide(l.active, 0, l.view.segs)
	if err := l.dir.unlinkDoomed(l); err != nil {
		return err
	}
	if err := l.dir.fs.Remove(l.path + "/" + nameEpochs); err != nil && !isGone(err) {
		return l.unfinished("remove the epochs of "+l.path, err)
	}
	if err := l.keepSnapshots(l.snapshots, -1); err != nil {
		return l.unfinished("remove snapshots of "+l.path, err)
	}
	if err := l.removeNow(l.view.segs); err != nil {
		return err
	}
	files := newSegmentFiles(l.dir, l.path, base)
	if err := l.createFiles(files); err != nil {
		return l.unfinished("begin a log anew", err)
	}
	l.begin(files, base, 0, func([]*segment) []*segment { return nil })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved = true // a checkpoint since may have written the epochs before their file was removed
	return nil
}

// AdvanceStart raises the start offset (DeleteRecords, or a leader's start on a follower). done is called once, when the checkpoint
// that holds the new start is durable, and must only post. It returns ErrOutOfRange for an offset beyond the end; an offset at or below
// the start waits for the checkpoint alone. done is told ErrClosed where the log was closed meanwhile and its start is in no checkpoint.
func (l *Log) AdvanceStart(offset int64, done func(error)) error {
	if err := l.usable(); err != nil {
		return err
	}
	if offset > l.tail.next {
		return fmt.Errorf("advance start of %v to offset %d beyond %d: %w", l.tp, offset, l.tail.next, ErrOutOfRange)
	}
	l.raiseStart(offset)
	l.dir.Checkpoint(func(err error) {
		if err == nil && !l.startKept(offset) {
			err = fmt.Errorf("advance start of %v to offset %d: %w", l.tp, offset, ErrClosed)
		}
		done(err)
	})
	return nil
}

// startKept reports whether a start is in the checkpoint that has just been written. A log that was closed meanwhile may have had no part
// in it.
func (l *Log) startKept(offset int64) bool {
	l.mu.Lock()
	closed := l.deleted
	l.mu.Unlock()
	if !closed {
		return true
	}
	d := l.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.says[starts][l.tp] >= offset
}

func (l *Log) raiseStart(offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset <= l.view.start {
		return
	}
	l.view.start = offset
	if cut := l.view.epochs.cutStart(offset); len(cut) > 0 && (len(cut) != len(l.view.epochs) || cut[0] != l.view.epochs[0]) {
		l.view.epochs, l.unsaved = cut, true
	}
}
