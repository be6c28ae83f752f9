package seglog

import (
	"errors"
	"fmt"
	"math"
	"sort"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// loadPlan says how a segment is read when its tail state is not known: at the start, and before a truncation.
type loadPlan struct {
	base int64
	size int64 // bytes of log that the file has
	// verify is the offset from which batches are checked against their CRC: everything before is vouched for.
	verify int64
	// vouched is the offset up to which damage is ErrCorrupt; beyond, it is where the log ends.
	vouched int64
	// before ends the segment in front of the first batch that reaches this offset.
	before int64
	// epochs are collected if set.
	epochs *epochs
}

// loaded is a segment whose tail is known.
type loaded struct {
	tail tail
	// why the segment ends before the file does; nil if it does not.
	cut error
	// verified is the bytes of batches whose CRC was computed.
	verified int64
}

// load finds the end of a segment and rebuilds the part of its indexes that is not vouched for. It reads from the last
// trusted index entry on, and changes nothing.
func (d *Dir) load(files *segmentFiles, interval int, p loadPlan) (loaded, error) {
	h, err := files.open(suffixLog)
	if err != nil {
		return loaded{}, err
	}
	defer h.Release()
	buf := make([]byte, scanSize)
	t, err := d.trustedIndex(files, h.File(), p, buf)
	if err != nil {
		return loaded{}, err
	}
	if ok, err := d.trustedTimes(files, &t, p.verify == math.MaxInt64 && p.before == math.MaxInt64); err != nil {
		return loaded{}, err
	} else if !ok {
		t = newTail(p.base) // without it the greatest timestamp is known to the batches alone
	}
	r := newBatchReader(h.File(), t.size, p.size, buf)
	verified := int64(0)
	for {
		ok, err := r.next()
		if err == nil && ok {
			err = checkNext(&t, &r.h)
		}
		if err == nil && ok && r.h.LastOffset() >= p.before {
			return loaded{t, fmt.Errorf("offset %d is cut away", r.h.LastOffset()), verified}, nil
		}
		if err == nil && ok && r.h.LastOffset() >= p.verify {
			err = r.verify()
			verified += r.size
		}
		switch {
		case err != nil && !errors.Is(err, errDamaged):
			return loaded{}, err
		case err != nil && t.next < p.vouched:
			return loaded{}, &CorruptionError{files.logName, r.pos, err}
		case err != nil:
			return loaded{t, err, verified}, nil
		case !ok:
			return loaded{t, nil, verified}, nil
		}
		t.add(&r.h, interval)
		if p.epochs != nil {
			*p.epochs = p.epochs.assign(r.h.LeaderEpoch, r.h.BaseOffset)
		}
	}
}

// checkNext refuses a batch that cannot follow what is there.
func checkNext(t *tail, h *batch.Header) error {
	if h.BaseOffset < t.next || !t.fits(h.LastOffset()) {
		return fmt.Errorf("%w: batch at offset %d after offset %d in segment %d", errDamaged, h.BaseOffset, t.next, t.base)
	}
	return nil
}

// trustedIndex starts a tail at the last index entry below the offset from which nothing is vouched for. An entry that does not lead to
// its batch makes the whole index worthless, and the tail starts at the beginning.
func (d *Dir) trustedIndex(files *segmentFiles, log vfs.File, p loadPlan, buf []byte) (tail, error) {
	t := newTail(p.base)
	index, err := files.open(suffixIndex)
	if isGone(err) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	defer index.Release()
	n, err := entries(index.File(), indexEntrySize)
	if err != nil {
		return t, err
	}
	e, i, ok, err := floorIndex(index.File(), n, p.base, min(p.verify, p.before), buf)
	if err != nil || !ok {
		return t, err
	}
	r := newBatchReader(log, int64(e.position), p.size, buf)
	found, err := r.next()
	if err != nil && !errors.Is(err, errDamaged) {
		return t, err
	}
	if err != nil || !found || r.h.LastOffset() != p.base+int64(e.relative) {
		d.rebuilt.Inc()
		d.log.Warn("index does not lead to its batch and is rebuilt", "file", files.name(suffixIndex), "entry", i)
		return t, nil
	}
	// The tail's state behind the entry's batch, as add left it.
	at := newTail(p.base)
	at.next, at.size, at.indexOnDisk, at.sinceIndex = r.h.NextOffset(), r.pos+r.size, i+1, int(r.size)
	return at, nil
}

// trustedTimes gives a tail the time index entries up to its end, or all of them if everything is vouched for. It reports false if
// the time index is missing.
func (d *Dir) trustedTimes(files *segmentFiles, t *tail, all bool) (bool, error) {
	times, err := files.open(suffixTime)
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer times.Release()
	n, err := entries(times.File(), timeEntrySize)
	if err != nil {
		return false, err
	}
	e, i, ok, err := floorTime(times.File(), n, t.base, func(e timeEntry) bool { return !all && e.offset >= t.next || e.offset < t.base })
	if err != nil {
		return false, err
	}
	if ok {
		t.lastTime, t.newest, t.timesOnDisk = e, e, i+1
	}
	return true, nil
}

// commitTail makes the files of a segment say what its loaded tail says: the log is cut at its end, index entries
// beyond the trusted ones go. The entries to come are written if the segment is sealed, and wait in the tail otherwise.
func (d *Dir) commitTail(files *segmentFiles, t *tail, logSize int64, sealed bool) error {
	if err := cutLog(files, t, logSize); err != nil {
		return err
	}
	for _, x := range [...]struct {
		suffix string
		size   int64
	}{{suffixTime, t.timesOnDisk * timeEntrySize}, {suffixIndex, t.indexOnDisk * indexEntrySize}} {
		if err := d.truncateIndex(files.name(x.suffix), x.size); err != nil {
			return err
		}
	}
	if !sealed {
		return nil
	}
	t.addTime()
	return writeTail(files, t)
}

// commitRebuilt is commitTail for a sealed segment without one of its indexes. A segment that has both may be trusted unread by the next start,
// so both are there, and durable, before the offset index has its name.
func (d *Dir) commitRebuilt(files *segmentFiles, t *tail, logSize int64) error {
	if err := cutLog(files, t, logSize); err != nil {
		return err
	}
	if err := d.fs.Remove(files.name(suffixIndex)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return err
	}
	t.addTime()
	for _, x := range [...]struct {
		suffix  string
		entries []byte
	}{{suffixTime, t.pendingTimes()}, {suffixIndex, t.pendingIndex()}} {
		err := writeFile(d.fs, files.name(x.suffix), x.entries)
		d.files.Forget(d.fs, files.name(x.suffix))
		if err != nil {
			return err
		}
	}
	t.timesOnDisk, t.indexOnDisk = int64(len(t.times)), int64(len(t.index))
	t.times, t.index = nil, nil
	return nil
}

func cutLog(files *segmentFiles, t *tail, logSize int64) error {
	if logSize == t.size {
		return nil
	}
	h, err := files.open(suffixLog)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.File().Truncate(t.size)
}

// truncateIndex cuts an index file, making it if it is missing.
func (d *Dir) truncateIndex(name string, size int64) error {
	h, err := d.files.Acquire(d.fs, name, vfs.Create)
	if err != nil {
		return err
	}
	defer h.Release()
	has, err := h.File().Size()
	if err != nil || has == size {
		return err
	}
	return h.File().Truncate(size)
}

// found is what a partition's directory holds.
type foundFiles struct {
	logs      map[int64]int64 // base offset → size of the .log file
	index     map[int64]bool  // base offsets with both index files
	snapshots []int64
	deletable []string // leftovers
	swaps     []int64  // base offsets of .log.swap files
	swapped   []string // all files with .swap
	orphans   []string // index files without a log
}

// listPartition sorts out the names in a partition's directory. What it does not know it leaves alone.
func listPartition(fs vfs.FS, path string) (foundFiles, error) {
	infos, err := fs.List(path)
	if err != nil {
		return foundFiles{}, err
	}
	f := foundFiles{logs: map[int64]int64{}, index: map[int64]bool{}}
	cleaned := int64(math.MaxInt64) // the least offset of a .cleaned file
	indexes, times, others := map[int64]bool{}, map[int64]bool{}, map[string]int64{}
	for _, info := range infos {
		offset, suffix, ok := parseOffsetName(info.Name)
		if !ok || info.IsDir {
			continue
		}
		switch suffix {
		case suffixLog:
			f.logs[offset] = info.Size
		case suffixIndex:
			indexes[offset] = true
			others[info.Name] = offset
		case suffixTime:
			times[offset] = true
			others[info.Name] = offset
		case suffixTxn:
			others[info.Name] = offset
		case suffixSnapshot:
			f.snapshots = append(f.snapshots, offset)
		default:
			switch {
			case hasSuffix(suffix, suffixCleaned):
				cleaned = min(cleaned, offset)
				f.deletable = append(f.deletable, info.Name)
			case hasSuffix(suffix, suffixDeleted) || hasSuffix(suffix, suffixTemporary):
				f.deletable = append(f.deletable, info.Name)
			case hasSuffix(suffix, suffixSwap):
				f.swapped = append(f.swapped, info.Name)
			}
		}
	}
	f.sortSwapped(cleaned)
	for name, offset := range others {
		if _, ok := f.logs[offset]; !ok {
			f.orphans = append(f.orphans, name)
		}
	}
	for offset := range indexes {
		f.index[offset] = times[offset]
	}
	sort.Strings(f.orphans)
	return f, nil
}

// sortSwapped tells the .swap files of a replacement that holds from those of one that was not whole yet: as long as a .cleaned file is
// there, what was to be replaced at or behind it is there too (LogLoader.removeTempFilesAndCollectSwapFiles).
func (f *foundFiles) sortSwapped(cleaned int64) {
	var holds, undone []string
	for _, name := range f.swapped {
		offset, suffix, _ := parseOffsetName(name)
		switch {
		case offset >= cleaned:
			undone = append(undone, name)
			continue
		case suffix == suffixLog+suffixSwap:
			f.swaps = append(f.swaps, offset)
		}
		holds = append(holds, name)
	}
	f.swapped = holds
	f.deletable = append(undone, f.deletable...) // before the .cleaned files, without which they would be taken for whole
}

func hasSuffix(s, suffix string) bool {
	return len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix
}

// tidy deals with what an interrupted deletion, compaction or segment replacement left (LogLoader): .deleted and .cleaned files
// go; .swap files without a .cleaned one at or before them are whole, and replace the segments whose offsets they cover.
func (d *Dir) tidy(path string) (foundFiles, error) {
	f, err := listPartition(d.fs, path)
	if err != nil {
		return f, err
	}
	for _, name := range f.deletable {
		d.log.Info("leftover removed", "file", path+"/"+name)
		if err := d.fs.Remove(path + "/" + name); err != nil {
			return f, err
		}
	}
	if len(f.swapped) > 0 {
		if err := d.finishSwap(path, f); err != nil {
			return f, err
		}
	}
	if len(f.swapped) > 0 || len(f.deletable) > 0 {
		if err := syncDir(d.fs, path); err != nil {
			return f, err
		}
		if f, err = listPartition(d.fs, path); err != nil {
			return f, err
		}
	}
	for _, name := range f.orphans {
		if err := d.fs.Remove(path + "/" + name); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (d *Dir) finishSwap(path string, f foundFiles) error {
	low, high := int64(math.MaxInt64), int64(0)
	for _, base := range f.swaps {
		name := path + "/" + offsetName(base) + suffixLog + suffixSwap
		end, err := d.endOf(name, base)
		if err != nil {
			return err
		}
		low, high = min(low, base), max(high, end)
	}
	for base := range f.logs {
		if base < low || base >= high {
			continue
		}
		// A segment that reaches beyond what was swapped in is not covered by it.
		if end, err := d.endOf(path+"/"+offsetName(base)+suffixLog, base); err != nil || end > high {
			if err != nil {
				return err
			}
			continue
		}
		if err := newSegmentFiles(d, path, base).unlink(); err != nil {
			return err
		}
	}
	// The log last, as Replace does: another crash in between finds it, and goes on.
	for _, last := range [...]bool{false, true} {
		for _, swapped := range f.swapped {
			if hasSuffix(swapped, suffixLog+suffixSwap) != last {
				continue
			}
			name := path + "/" + swapped
			d.log.Info("interrupted replacement finished", "file", name)
			if err := d.fs.Rename(name, name[:len(name)-len(suffixSwap)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// endOf is the offset after the last whole batch of a log file, read by its headers.
func (d *Dir) endOf(name string, base int64) (int64, error) {
	f, err := d.fs.Open(name, vfs.ReadOnly)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	end := base
	r := newBatchReader(f, 0, size, make([]byte, scanSize))
	for {
		ok, err := r.next()
		if err != nil && !errors.Is(err, errDamaged) {
			return 0, err
		}
		if err != nil || !ok {
			return end, nil
		}
		end = r.h.NextOffset()
	}
}
