package seglog

import (
	"errors"
	"fmt"
	"io"
	"math"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
	"cairn/platform/vfs"
)

// Roll seals the active segment and begins a new one at the log's end; an empty active segment is left as it is.
func (l *Log) Roll(now clock.Now) error {
	if err := l.usable(); err != nil {
		return err
	}
	if l.tail.size == 0 {
		return nil
	}
	if err := l.roll(now, l.tail.next); err != nil {
		return fmt.Errorf("roll %v at offset %d: %w", l.tp, l.tail.next, err)
	}
	return nil
}

// rollFor begins the segment that the first batch of b goes to, which was checked. It begins at the log's end, unless no relative offset
// reaches from there to the batch. Then it begins at the batch, and what is before is flushed first, so that after a crash such a gap
// between two segments is never one that the crash made.
func (l *Log) rollFor(b []byte, now clock.Now) error {
	h, err := batch.Parse(b)
	if err != nil {
		return err
	}
	base := l.tail.next
	if h.LastOffset()-base > math.MaxInt32 {
		base = h.BaseOffset
		if _, err := l.job.flush(); err != nil {
			return err
		}
	}
	return l.roll(now, base)
}

// farBehind reports whether a segment that begins at next can only have been begun by rollFor behind a gap.
func farBehind(base, next int64) bool { return next-base > math.MaxInt32 }

func (l *Log) roll(now clock.Now, base int64) error {
	if len(l.view.segs) >= l.dir.cfg.Limits.SegmentsMax {
		return fmt.Errorf("%w: %d segments", ErrFull, len(l.view.segs))
	}
	// The new files first: if there is no room for them the log goes on as it was.
	files := newSegmentFiles(l.dir, l.path, base)
	if err := l.createFiles(files); err != nil {
		return err
	}
	sealed, err := l.seal()
	if err != nil {
		// The log goes on behind the new segment's base: after a crash it must not be there.
		if unlinkErr := files.unlink(); unlinkErr != nil {
			return l.dir.fail("unlink "+files.logName, unlinkErr)
		}
		l.mu.Lock()
		l.dirtyDir = true
		l.mu.Unlock()
		return err
	}
	l.begin(files, base, now.UnixMilli(), func(segs []*segment) []*segment {
		segs[len(segs)-1] = sealed
		return segs
	})
	return nil
}

// seal writes what is pending of the active segment's indexes with the last time entry, and gives preallocated space back.
func (l *Log) seal() (*segment, error) {
	l.tail.addTime()
	if err := l.writeIndexes(); err != nil {
		return nil, err
	}
	if err := l.release(); err != nil {
		return nil, err
	}
	s := &segment{base: l.tail.base, end: l.tail.next, size: l.tail.size, files: l.active}
	newest := l.tail.newest
	s.newest.Store(&newest)
	return s, nil
}

// release cuts preallocated space and lets go of the writer's handle.
func (l *Log) release() error {
	if l.reserved > l.tail.size {
		if err := l.openWriter(); err != nil {
			return err
		}
		if err := l.writer.File().Truncate(l.tail.size); err != nil {
			return l.dir.fail("release preallocated space", err)
		}
	}
	l.reserved = 0
	if l.writer != nil {
		l.writer.Release()
		l.writer = nil
	}
	return nil
}

// createFiles makes the three empty files of a segment. Leftovers of index files are emptied.
func (l *Log) createFiles(files *segmentFiles) error {
	for _, suffix := range [...]string{suffixIndex, suffixTime, suffixLog} {
		mode := vfs.Create
		if suffix == suffixLog {
			mode = vfs.CreateNew
		}
		l.dir.files.Forget(l.dir.fs, files.name(suffix))
		f, err := l.dir.fs.Open(files.name(suffix), mode)
		if err == nil {
			if suffix != suffixLog {
				err = f.Truncate(0)
			}
			_ = f.Close()
		}
		if err != nil {
			err = l.dir.check("create segment", err)
			if l.dir.Failed() == nil {
				_ = files.unlink()
			}
			return err
		}
	}
	l.mu.Lock()
	l.dirtyDir = true
	l.mu.Unlock()
	return nil
}

// begin makes files the active segment, which is empty, and publishes it behind what change leaves of the segments.
func (l *Log) begin(files *segmentFiles, base, created int64, change func([]*segment) []*segment) {
	l.active, l.tail = files, newTail(base)
	l.created = created
	l.jitter = l.dir.random(l.cfg.SegmentJitter.Milliseconds())
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := make([]*segment, len(l.view.segs), len(l.view.segs)+1)
	copy(segs, l.view.segs)
	l.view.segs = append(change(segs), &segment{base: base, files: files})
	l.view.sealedBytes = sealedBytes(l.view.segs)
	l.publishTail()
}

func sealedBytes(segs []*segment) (n int64) {
	for _, s := range segs[:len(segs)-1] {
		n += s.size
	}
	return n
}

// unlink removes a segment's files for good; files that are not there are no error. Spans keep the inode.
func (f *segmentFiles) unlink() error { return f.unlinkAs("") }

// unlinkAs is unlink for names that end in ending besides.
func (f *segmentFiles) unlinkAs(ending string) error {
	f.gone.Store(true)
	// The log last: an index without a log is removed at the next start, a log without an index is rebuilt.
	for _, suffix := range [...]string{suffixIndex, suffixTime, suffixTxn, suffixLog} {
		name := f.name(suffix) + ending
		err := f.dir.fs.Remove(name)
		f.dir.files.Forget(f.dir.fs, name)
		if err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// Rest lets go of everything that an unused log does not need: pending index entries are written, preallocated space is
// given back, files are closed. The next append takes it again. A log in use may be rested at any time.
func (l *Log) Rest() error {
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.writeIndexes(); err != nil {
		return fmt.Errorf("rest %v: %w", l.tp, err)
	}
	if err := l.release(); err != nil {
		return fmt.Errorf("rest %v: %w", l.tp, err)
	}
	for _, suffix := range [...]string{suffixLog, suffixIndex, suffixTime} {
		l.dir.files.Forget(l.dir.fs, l.active.name(suffix))
	}
	return nil
}

// Close flushes, gives back what is preallocated and closes the log cleanly. It waits for the device. The log is closed whatever it
// returns; after an error the directory does not count as cleanly shut down.
func (l *Log) Close() error {
	if l.closed {
		return nil
	}
	err := l.usable()
	if err == nil {
		l.tail.addTime()
		err = l.writeIndexes()
	}
	if err == nil {
		err = l.release()
	}
	if err == nil {
		_, err = l.job.flush()
	}
	if err == nil {
		err = l.syncIndexes()
	}
	l.closed = true
	l.letGo()
	l.dir.forget(l, err == nil, true)
	if err != nil {
		return fmt.Errorf("close %v: %w", l.tp, err)
	}
	return nil
}

// letGo releases handles without looking back.
func (l *Log) letGo() {
	if l.writer != nil {
		l.writer.Release()
		l.writer = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.dirty {
		d.handle.Release()
	}
	l.dirty = nil
	l.deleted = true
}

// Delete closes the log and renames its directory to <topic>-<partition>.<id>-delete, durably; Dir.Sweep unlinks it. Spans keep what
// they have.
func (l *Log) Delete() error {
	if err := l.usable(); err != nil {
		return err
	}
	for _, s := range l.view.segs {
		s.files.gone.Store(true)
	}
	l.closed = true
	l.letGo()
	l.dir.forget(l, true, false)
	if err := l.dir.retire(l.tp, suffixDirDelete); err != nil {
		return fmt.Errorf("delete %v: %w", l.tp, err)
	}
	return nil
}

// isGone reports whether a file is not there although its name was right a moment ago.
func isGone(err error) bool { return errors.Is(err, vfs.ErrNotExist) || errors.Is(err, ErrOutOfRange) }

// isShort reports whether a read found the end of the file.
func isShort(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
