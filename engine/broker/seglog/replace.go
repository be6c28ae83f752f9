package seglog

import (
	"errors"
	"fmt"
	"slices"

	"cairn/platform/vfs"
)

// swapOrder is the order in which a segment's files change their names. The log is last: where its name has changed, so
// have the others.
var swapOrder = [...]string{suffixTxn, suffixTime, suffixIndex, suffixLog}

// Replace puts a sealed Rewrite in the place of the segments that it was made from (LocalLog.replaceSegments). Views from
// before read on, in the new one. ErrOutOfRange says that those segments are not all there any more, or that the log was cut since the view
// of which it was made, and nothing was changed: the caller discards it. After any other error the directory has failed.
//
// A cut may have taken the records for whose sake others were left out, however far behind the replaced segments it is.
//
// Once the names with .swap are durable the replacement holds; the old files then get out of the way under the name
// .deleted, for Sweep.
func (l *Log) Replace(w *Rewrite) error {
	if err := l.usable(); err != nil {
		return err
	}
	segs := l.view.segs
	i := slices.Index(segs, w.old[0])
	if w.of.Cut() || i < 0 || i+len(w.old) >= len(segs) || !slices.Equal(segs[i:i+len(w.old)], w.old) {
		return fmt.Errorf("replace segment %d of %v: %w", w.tail.base, l.tp, ErrOutOfRange)
	}
	if !w.sealed || w.tail.size == 0 {
		return fmt.Errorf("replace segment %d of %v: %w: not sealed", w.tail.base, l.tp, ErrInvalid)
	}
	if err := l.swapIn(w, i); err != nil {
		return fmt.Errorf("replace segment %d of %v: %w", w.tail.base, l.tp, l.unfinished("replace "+w.files.logName, err))
	}
	return nil
}

func (l *Log) swapIn(w *Rewrite, i int) error {
	if err := l.renameAll(w.files, suffixCleaned, suffixSwap); err != nil {
		return err
	}
	if err := syncDir(l.dir.fs, l.path); err != nil {
		return err
	}
	s := &segment{base: w.tail.base, end: w.tail.next, size: w.tail.size, files: w.files}
	newest := w.tail.newest
	s.newest.Store(&newest)
	w.files.swapping.Store(true)
	for _, old := range w.old {
		old.files.successor.Store(s)
		old.files.gone.Store(true)
	}
	l.mu.Lock()
	segs := slices.Concat(l.view.segs[:i], []*segment{s}, l.view.segs[i+len(w.old):])
	l.view.segs, l.view.sealedBytes = segs, sealedBytes(segs)
	l.dirtyDir = true
	l.mu.Unlock()
	for _, old := range w.old {
		if err := l.renameAll(old.files, "", suffixDeleted); err != nil {
			return err
		}
	}
	if err := l.renameAll(w.files, suffixSwap, ""); err != nil {
		return err
	}
	w.files.swapping.Store(false)
	l.dir.doomRenamed(l, w.old)
	return nil
}

// renameAll changes the endings of a segment's files; one that is not there is passed over.
func (l *Log) renameAll(files *segmentFiles, from, to string) error {
	for _, suffix := range swapOrder {
		name := files.name(suffix)
		l.dir.files.Forget(l.dir.fs, name+to) // what an earlier replacement may have left open
		err := l.dir.fs.Rename(name+from, name+to)
		l.dir.files.Forget(l.dir.fs, name+from)
		l.dir.files.Forget(l.dir.fs, name+to)
		if err != nil && (suffix == suffixLog || !errors.Is(err, vfs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// doomRenamed lets Sweep unlink replaced segments. Nothing has to be durable before: the new one is.
func (d *Dir) doomRenamed(l *Log, segs []*segment) {
	d.mu.Lock()
	for _, s := range segs {
		d.ready = append(d.ready, doomed{log: l, files: s.files, suffix: suffixDeleted})
	}
	d.mu.Unlock()
	d.askSweep()
}

// moved reports whether err came of a replacement that was made meanwhile: the records are in latest.
func (s *segment) moved(err error) bool {
	return errors.Is(err, ErrOutOfRange) && s.files.successor.Load() != nil
}

// latest is the segment that holds this one's records now: itself, unless compaction has replaced it.
func (s *segment) latest() *segment {
	for {
		next := s.files.successor.Load()
		if next == nil {
			return s
		}
		s = next
	}
}
