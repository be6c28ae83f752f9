package seglog

import (
	"errors"
	"fmt"
	"math"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// Rewrite is a segment in the making that is to take the place of some sealed ones: the files <base>.*.cleaned. It is made
// off the log's owner, by one goroutine at a time, and one at a time for each log; Log.Replace then puts it in their place.
type Rewrite struct {
	log      *Log
	of       View // that it is made from
	old      []*segment
	end      int64
	interval int
	files    *segmentFiles
	tail     tail
	out      map[string]vfs.File
	sealed   bool
}

// rewriteEntriesMax is how many index entries of a Rewrite wait in memory.
const rewriteEntriesMax = 4096

// Rewrite begins a segment that is to replace sealed segments from to to-1 of the view. interval is index.interval.bytes.
// Errors: ErrFull, ErrFailed, ErrClosed.
func (v View) Rewrite(from, to, interval int) (*Rewrite, error) {
	l := v.log
	if from < 0 || from >= to || to >= len(v.segs) {
		return nil, fmt.Errorf("rewrite segments %d to %d of %v, which has %d: %w", from, to, l.tp, len(v.segs), ErrInvalid)
	}
	w := &Rewrite{
		log: l, of: v, old: v.segs[from:to:to], end: v.segs[to].base, interval: interval,
		files: newSegmentFiles(l.dir, l.path, v.segs[from].base), tail: newTail(v.segs[from].base), out: map[string]vfs.File{},
	}
	err := l.dir.Failed()
	if err == nil {
		// A .cleaned file says that no replacement at or behind it was begun: an earlier one must be over for good.
		err = l.checkGone(syncDir(l.dir.fs, l.path))
	}
	for _, suffix := range [...]string{suffixLog, suffixIndex, suffixTime} {
		if err == nil {
			_, err = w.file(suffix)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rewrite segment %d of %v: %w", w.tail.base, l.tp, err), w.Discard())
	}
	return w, nil
}

// checkGone is Dir.check for work that may go on while its partition is deleted.
func (l *Log) checkGone(err error) error {
	switch {
	case err == nil:
		return nil
	case l.isDeleted():
		return fmt.Errorf("%v: %w", l.tp, ErrClosed)
	}
	return l.dir.check("rewrite segment", err)
}

// file is one of the files, made empty at first use.
func (w *Rewrite) file(suffix string) (vfs.File, error) {
	if f := w.out[suffix]; f != nil {
		return f, nil
	}
	f, err := w.log.dir.fs.Open(w.files.name(suffix)+suffixCleaned, vfs.Create)
	if err == nil {
		if err = f.Truncate(0); err != nil {
			_ = f.Close()
		}
	}
	if err != nil {
		return nil, w.log.checkGone(err)
	}
	w.out[suffix] = f
	return f, nil
}

// Append adds one whole batch, whose offsets lie behind those before and within the segments that are replaced. b is
// borrowed until return.
func (w *Rewrite) Append(b []byte) error {
	h, err := batch.Parse(b)
	if err == nil && h.Size() != len(b) {
		err = batch.ErrTruncated
	}
	if err == nil && (h.BaseOffset < w.tail.next || h.NextOffset() > w.end || !w.tail.fits(h.LastOffset()) || w.tail.size+int64(len(b)) > math.MaxInt32) {
		err = fmt.Errorf("%w: batch at offset %d behind %d, with %d bytes", ErrInvalid, h.BaseOffset, w.tail.next, w.tail.size)
	}
	if err == nil {
		err = w.log.dir.take(int64(len(b)))
	}
	if err == nil {
		_, err = w.out[suffixLog].WriteAt(b, w.tail.size)
		err = w.log.checkGone(err)
	}
	if err != nil {
		return fmt.Errorf("rewrite segment %d of %v: %w", w.tail.base, w.log.tp, err)
	}
	w.tail.add(&h, w.interval)
	if len(w.tail.index) >= rewriteEntriesMax {
		return w.writeIndexes()
	}
	return nil
}

// AppendAborted adds a row to the transaction index.
func (w *Rewrite) AppendAborted(txn AbortedTxn) error {
	f, err := w.file(suffixTxn)
	if err != nil {
		return err
	}
	n, err := entries(f, abortedSize)
	if err == nil {
		_, err = f.WriteAt(txn.append(nil), n*abortedSize)
	}
	return w.log.checkGone(err)
}

func (w *Rewrite) writeIndexes() error {
	t := &w.tail
	_, err := w.out[suffixTime].WriteAt(t.pendingTimes(), t.timesOnDisk*timeEntrySize)
	if err == nil {
		_, err = w.out[suffixIndex].WriteAt(t.pendingIndex(), t.indexOnDisk*indexEntrySize)
	}
	t.timesOnDisk, t.indexOnDisk = t.timesOnDisk+int64(len(t.times)), t.indexOnDisk+int64(len(t.index))
	t.times, t.index = nil, nil
	return w.log.checkGone(err)
}

// Size is the bytes of log so far.
func (w *Rewrite) Size() int64 { return w.tail.size }

// End is the offset after the last batch so far.
func (w *Rewrite) End() int64 { return w.tail.next }

// Seal makes the files durable. It waits for the device.
func (w *Rewrite) Seal() error {
	w.tail.addTime()
	if err := w.writeIndexes(); err != nil {
		return err
	}
	for _, suffix := range [...]string{suffixTxn, suffixTime, suffixIndex, suffixLog} {
		f := w.out[suffix]
		if f == nil {
			continue
		}
		if err := synced(f.Sync()); err != nil {
			return w.log.dir.check("sync "+w.files.name(suffix)+suffixCleaned, err)
		}
	}
	w.close()
	w.sealed = true
	return nil
}

func (w *Rewrite) close() {
	for suffix, f := range w.out {
		if f != nil {
			_ = f.Close()
			w.out[suffix] = nil
		}
	}
}

// Discard removes what there is of a segment that is not to replace anything.
func (w *Rewrite) Discard() error {
	w.close()
	for suffix := range w.out {
		err := w.log.dir.fs.Remove(w.files.name(suffix) + suffixCleaned)
		if err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return w.log.checkGone(err)
		}
	}
	return nil
}
