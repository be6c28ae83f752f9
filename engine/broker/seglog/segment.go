package seglog

import (
	"errors"
	"math"
	"sort"
	"sync/atomic"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// segmentFiles are the files of one segment on disk. A name may be used again after a truncation; the object is not, so
// that a view from before knows that its files are not those of that name.
type segmentFiles struct {
	dir     *Dir
	logName string // path of the .log file
	// gone is set before the files are unlinked or replaced.
	gone atomic.Bool
	// swapping is set while the names of a segment that replaces others still end in .swap, or have just lost it.
	swapping atomic.Bool
	// successor holds the records since compaction has replaced the segment; nil before. It is set before gone is.
	successor atomic.Pointer[segment]
	// cut is the length of the .log file that is still valid for older views: they may have seen a longer one.
	cut atomic.Int64
}

func newSegmentFiles(d *Dir, partitionPath string, base int64) *segmentFiles {
	f := &segmentFiles{dir: d, logName: partitionPath + "/" + offsetName(base) + suffixLog}
	f.cut.Store(math.MaxInt64)
	return f
}

// name is the path of one of the segment's files.
func (f *segmentFiles) name(suffix string) string {
	return f.logName[:len(f.logName)-len(suffixLog)] + suffix
}

// open returns a handle on one of the segment's files for reading, or ErrOutOfRange if the segment is gone.
func (f *segmentFiles) open(suffix string) (*vfs.Handle, error) {
	name := f.logName
	if suffix != suffixLog {
		name = f.name(suffix)
	}
	var h *vfs.Handle
	err := vfs.ErrNotExist
	if f.swapping.Load() {
		h, err = f.dir.files.Acquire(f.dir.fs, name+suffixSwap, vfs.ReadWrite)
	}
	if errors.Is(err, vfs.ErrNotExist) {
		h, err = f.dir.files.Acquire(f.dir.fs, name, vfs.ReadWrite)
	}
	if f.gone.Load() {
		// What was opened may be another segment of the same name.
		if err == nil {
			h.Release()
		}
		return nil, ErrOutOfRange
	}
	return h, err
}

// segment is an immutable description of a segment. A sealed one never changes; of the active one the view carries what
// grows.
type segment struct {
	base  int64
	end   int64 // offset after the last record; of a sealed segment
	size  int64 // bytes of log; of a sealed segment
	files *segmentFiles
	// newest is the greatest timestamp and its offset, once somebody asked; nil before.
	newest atomic.Pointer[timeEntry]
}

// segmentFor is the index of the last segment that begins at or before offset, or -1.
func segmentFor(segs []*segment, offset int64) int {
	return sort.Search(len(segs), func(i int) bool { return segs[i].base > offset }) - 1
}

// tail is the state of a segment that grows: of the active one, and of one that is being recovered.
type tail struct {
	base int64 // of the segment
	next int64 // offset after the last record
	size int64 // bytes of log

	// Index entries in the files, and those that are not there yet. The slices are shared with views and only appended
	// to; after they were written to the files new ones are begun.
	indexOnDisk, timesOnDisk int64
	index                    []indexEntry
	times                    []timeEntry
	sinceIndex               int // bytes of log since the last index entry

	lastTime timeEntry // last entry of the time index, on disk or not; timestamp -1 if there is none
	newest   timeEntry // greatest timestamp so far and the last offset of its batch; timestamp -1 if there is none
	first    int64     // max timestamp of the first batch; -1 if unknown or none
}

func newTail(base int64) tail {
	none := timeEntry{timestamp: batch.NoTimestamp, offset: base}
	return tail{base: base, next: base, lastTime: none, newest: none, first: batch.NoTimestamp}
}

// add accounts for a batch at the end of the segment and makes the index entries that are due (LogSegment.append).
func (t *tail) add(h *batch.Header, interval int) {
	last := h.LastOffset()
	if h.MaxTimestamp > t.newest.timestamp {
		t.newest = timeEntry{h.MaxTimestamp, last}
	}
	if t.size == 0 {
		t.first = h.MaxTimestamp
	}
	if t.sinceIndex > interval {
		t.index = append(t.index, indexEntry{uint32(last - t.base), uint32(t.size)})
		t.addTime()
		t.sinceIndex = 0
	}
	t.sinceIndex += h.Size()
	t.size += int64(h.Size())
	t.next = last + 1
}

// addTime makes a time index entry if the greatest timestamp is above the last entry's (TimeIndex.maybeAppend).
func (t *tail) addTime() {
	if t.newest.timestamp > t.lastTime.timestamp {
		t.times = append(t.times, t.newest)
		t.lastTime = t.newest
	}
}

// pendingTimes are the time index entries that are not in the file yet, as they are there; pendingIndex those of the offset index.
func (t *tail) pendingTimes() []byte {
	b := make([]byte, 0, len(t.times)*timeEntrySize)
	for _, e := range t.times {
		b = appendTimeEntry(b, t.base, e)
	}
	return b
}

func (t *tail) pendingIndex() []byte {
	b := make([]byte, 0, len(t.index)*indexEntrySize)
	for _, e := range t.index {
		b = appendIndexEntry(b, e)
	}
	return b
}

// full reports whether an index has no room for another entry within indexBytes. One entry of the time index is kept for
// the one that is made when the segment is sealed.
func (t *tail) full(indexBytes int64) bool {
	return t.indexOnDisk+int64(len(t.index)) >= indexBytes/indexEntrySize ||
		t.timesOnDisk+int64(len(t.times)) >= indexBytes/timeEntrySize-1 && t.timesOnDisk+int64(len(t.times)) > 0
}

// fits reports whether an offset can be a relative offset of the segment.
func (t *tail) fits(last int64) bool { return last-t.base <= math.MaxInt32 }
