package seglog

import (
	"fmt"

	"cairn/platform/vfs"
)

// AppendAborted adds a row to the active segment's transaction index. Rows come in the order of their markers.
func (l *Log) AppendAborted(txn AbortedTxn) error {
	if err := l.usable(); err != nil {
		return err
	}
	name := l.active.name(suffixTxn)
	h, err := l.dir.files.Acquire(l.dir.fs, name, vfs.Create)
	if err != nil {
		return fmt.Errorf("aborted transaction of %v: %w", l.tp, l.dir.check("open transaction index", err))
	}
	defer h.Release()
	n, err := entries(h.File(), abortedSize)
	if err == nil {
		if _, err = h.File().WriteAt(txn.append(nil), n*abortedSize); err != nil {
			_ = h.File().Truncate(n * abortedSize)
		}
	}
	if err != nil {
		return fmt.Errorf("aborted transaction of %v: %w", l.tp, l.dir.check("write transaction index", err))
	}
	l.markUnindexed(l.active)
	return nil
}

// cutAborted removes rows of transactions that end at or beyond offset.
func (l *Log) cutAborted(files *segmentFiles, offset int64) error {
	h, err := l.dir.files.Acquire(l.dir.fs, files.name(suffixTxn), vfs.ReadWrite)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Release()
	n, err := entries(h.File(), abortedSize)
	if err != nil {
		return err
	}
	keep, err := search(n, func(i int64) (bool, error) {
		a, err := readAborted(h.File(), i)
		return a.LastOffset >= offset, err
	})
	if err != nil {
		return err
	}
	return h.File().Truncate(keep * abortedSize)
}

func readAborted(f vfs.File, i int64) (AbortedTxn, error) {
	var b [abortedSize]byte
	if err := readFull(f, b[:], i*abortedSize); err != nil {
		return AbortedTxn{}, err
	}
	return parseAborted(b[:])
}

// ResetAborted removes the rows of transactions that end at or beyond from, before the caller walks the batches from there again and
// appends the aborted ones anew: after an unclean stop, rows beyond the recovery point may be missing or torn. The new rows go to
// the active segment's index, where look-ups for any offset find them as well.
func (l *Log) ResetAborted(from int64) error {
	if err := l.usable(); err != nil {
		return err
	}
	for i := max(segmentFor(l.view.segs, from), 0); i < len(l.view.segs); i++ {
		files := l.view.segs[i].files
		if err := l.cutTornAborted(files, from); err != nil {
			return fmt.Errorf("reset aborted transactions of %v from offset %d: %w", l.tp, from, l.dir.check("cut transaction index", err))
		}
		l.markUnindexed(files)
	}
	return nil
}

// cutTornAborted keeps the leading whole rows that end below from.
func (l *Log) cutTornAborted(files *segmentFiles, from int64) error {
	h, err := l.dir.files.Acquire(l.dir.fs, files.name(suffixTxn), vfs.ReadWrite)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Release()
	n, err := entries(h.File(), abortedSize)
	if err != nil {
		return err
	}
	keep := int64(0)
	for ; keep < n; keep++ {
		if a, err := readAborted(h.File(), keep); err != nil || a.LastOffset >= from {
			break
		}
	}
	return h.File().Truncate(keep * abortedSize)
}

// Aborted lists the aborted transactions whose records overlap [from, to) (TransactionIndex.collectAbortedTxns). A reader
// of committed records needs all of them: where they are more than limits allow it is ErrInvalid, and a narrower range is asked for.
func (v View) Aborted(from, to int64) ([]AbortedTxn, error) {
	var out []AbortedTxn
	var last *segment
	for i := max(segmentFor(v.segs, from), 0); i < len(v.segs); i++ {
		s := v.segs[i].latest()
		if s == last {
			continue // one that replaces several
		}
		last = s
		had := len(out)
		done, err := v.abortedIn(s, from, to, &out)
		for s.moved(err) {
			s, out = s.latest(), out[:had]
			done, err = v.abortedIn(s, from, to, &out)
		}
		if err != nil {
			return nil, fmt.Errorf("aborted transactions of %v from offset %d: %w", v.log.tp, from, err)
		}
		if done {
			break
		}
	}
	return out, nil
}

// abortedIn adds the rows of one segment. It reports true at a row that shows that no later one can overlap.
func (v View) abortedIn(s *segment, from, to int64, out *[]AbortedTxn) (bool, error) {
	h, err := s.files.open(suffixTxn)
	if isGone(err) && !s.moved(err) {
		return false, nil
	}
	if err != nil {
		return false, v.log.dir.check("open transaction index", err)
	}
	defer h.Release()
	n, err := entries(h.File(), abortedSize)
	if err != nil {
		return false, v.log.dir.check("read transaction index", err)
	}
	for i := range n {
		a, err := readAborted(h.File(), i)
		if err != nil {
			return false, &CorruptionError{s.files.name(suffixTxn), i * abortedSize, err}
		}
		if a.LastOffset >= from && a.FirstOffset < to {
			if len(*out) >= v.log.dir.cfg.Limits.AbortedMax {
				return false, fmt.Errorf("%w: more than %d", ErrInvalid, len(*out))
			}
			*out = append(*out, a)
		}
		if a.LastStableOffset >= to {
			return true, nil
		}
	}
	return false, nil
}
