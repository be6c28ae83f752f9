package seglog

import (
	"errors"
	"fmt"
	"slices"

	"cairn/platform/vfs"
)

// SaveProducerState stores a blob that describes the producers before offset, in <offset>.snapshot. It becomes durable with
// the next Flush, and may be torn by a crash before: the blob carries its own checksum. One is kept for each segment, and
// the newest two. ErrFull leaves nothing behind.
func (l *Log) SaveProducerState(offset int64, blob []byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	if offset < 0 || offset > l.tail.next || len(blob) > l.dir.cfg.Limits.ProducerStateBytesMax {
		return fmt.Errorf("producer state of %v at offset %d of %d, %d bytes: %w", l.tp, offset, l.tail.next, len(blob), ErrInvalid)
	}
	name := l.snapshotName(offset)
	f, err := l.dir.fs.Open(name, vfs.Create)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(blob, 0)
		}
		_ = f.Close()
	}
	if err != nil {
		_ = l.dir.fs.Remove(name)
		return fmt.Errorf("producer state of %v: %w", l.tp, l.dir.check("write snapshot", err))
	}
	l.mu.Lock()
	l.dirtyNames = append(l.dirtyNames, name)
	l.dirtyDir = true
	l.mu.Unlock()
	if i, found := slices.BinarySearch(l.snapshots, offset); !found {
		l.snapshots = slices.Insert(l.snapshots, i, offset)
	}
	l.sinceSave = 0
	l.thinSnapshots()
	return nil
}

// KeepState says who knows the producers' state at the log's end, as a blob for SaveProducerState. It is asked, on the owner's goroutine,
// before segments go without which no snapshot would be of use: one from before the log's first segment does not tell what was between.
func (l *Log) KeepState(state func() []byte) { l.state = state }

// saveStateBefore saves the producers' state when what is before base is about to go and no snapshot stands there or behind. The newest is
// durable before a checkpoint holds the new start. Where there is no room for it, the segments that go make some.
func (l *Log) saveStateBefore(base int64) error {
	if l.state == nil {
		return nil
	}
	if n := len(l.snapshots); n == 0 || l.snapshots[n-1] < base {
		err := l.SaveProducerState(l.tail.next, l.state())
		if errors.Is(err, ErrFailed) {
			return err
		}
		if err != nil {
			l.dir.log.Warn("producer snapshot not written; producers are forgotten by an unclean start", "partition", l.tp.String(), "error", err)
			return nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unkept = l.snapshotName(l.snapshots[len(l.snapshots)-1])
	return nil
}

// ProducerState returns the newest blob at or below offset; ok is false if there is none. The blob is the caller's. It may
// be torn: the caller checks it and asks again below its offset.
func (l *Log) ProducerState(atMost int64) (offset int64, blob []byte, ok bool, err error) {
	if err := l.usable(); err != nil {
		return 0, nil, false, err
	}
	for i := len(l.snapshots) - 1; i >= 0; i-- {
		offset := l.snapshots[i]
		if offset > atMost {
			continue
		}
		blob, err := readFile(l.dir.fs, l.snapshotName(offset), int64(l.dir.cfg.Limits.ProducerStateBytesMax))
		switch {
		case errors.Is(err, vfs.ErrNotExist) || errors.Is(err, ErrCorrupt):
			continue
		case err != nil:
			return 0, nil, false, fmt.Errorf("producer state of %v: %w", l.tp, l.dir.check("read snapshot", err))
		}
		return offset, blob, true, nil
	}
	return 0, nil, false, nil
}

func (l *Log) snapshotName(offset int64) string {
	return l.path + "/" + offsetName(offset) + suffixSnapshot
}

func (l *Log) removeSnapshot(offset int64) { _ = l.dir.fs.Remove(l.snapshotName(offset)) }

// keepSnapshots takes over a list of snapshots and removes those beyond offset, durably: after a crash they would be taken for the
// state of the records that are there by then, which may survive a power cut that nothing was flushed before.
func (l *Log) keepSnapshots(found []int64, offset int64) error {
	slices.Sort(found)
	n, _ := slices.BinarySearch(found, offset+1)
	for _, gone := range found[n:] {
		if err := l.dir.fs.Remove(l.snapshotName(gone)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return err
		}
	}
	l.snapshots = found[:n]
	if n == len(found) {
		return nil
	}
	return syncDir(l.dir.fs, l.path)
}

// thinSnapshots removes snapshots that neither stand at the beginning of a segment nor are among the newest two, but for the newest
// that a start after a crash would take; and those below the first segment.
func (l *Log) thinSnapshots() {
	l.mu.Lock()
	trusted, _ := slices.BinarySearch(l.snapshots, l.vouched)
	l.mu.Unlock()
	kept := l.snapshots[:0]
	for i, offset := range l.snapshots {
		s := segmentFor(l.view.segs, offset)
		if s >= 0 && (i+2 >= len(l.snapshots) || i+1 == trusted || l.view.segs[s].base == offset) {
			kept = append(kept, offset)
			continue
		}
		l.removeSnapshot(offset)
	}
	l.snapshots = kept
}

// dropSnapshots removes snapshots below the first segment: what lay between is gone, and with it what it did to the producers.
func (l *Log) dropSnapshots(base int64) {
	kept := l.snapshots[:0]
	for _, offset := range l.snapshots {
		if offset >= base {
			kept = append(kept, offset)
			continue
		}
		l.removeSnapshot(offset)
	}
	l.snapshots = kept
}
