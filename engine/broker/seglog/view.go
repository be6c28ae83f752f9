package seglog

import (
	"errors"
	"fmt"
	"sort"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// View is an immutable snapshot of a log: a small value, copied freely, usable from any goroutine. Its methods answer
// ErrOutOfRange for what was truncated or deleted after it was taken: a newer view decides.
type View struct {
	log         *Log
	segs        []*segment // the last is the active one
	epochs      epochs
	start, end  int64
	cuts        int // truncations before it: what was begun before one vouches for nothing after it, neither flushes nor compactions
	sealedBytes int64
	tail        tail // of the active segment
	hint        hint
	removable   bool // the device's budget may remove segments
}

// hint is an offset of the active segment whose position is known: where the last flush ended, which is where most reads do.
type hint struct {
	files            *segmentFiles
	offset, position int64
}

// StartOffset is the first offset that may be read.
func (v View) StartOffset() int64 { return v.start }

// FirstOffset is where the oldest segment begins, at or before the start: what is between can be scanned, for what it says about
// the rest.
func (v View) FirstOffset() int64 { return v.segs[0].base }

// EndOffset is the offset after the last record: the log end offset, LEO.
func (v View) EndOffset() int64 { return v.end }

// Size is the bytes in all segments.
func (v View) Size() int64 { return v.sealedBytes + v.tail.size }

// Segments is the number of segments.
func (v View) Segments() int { return len(v.segs) }

// LatestEpoch is the newest leader epoch, or -1.
func (v View) LatestEpoch() int32 { return v.epochs.latest() }

// EpochFor is the leader epoch of an offset, or -1.
func (v View) EpochFor(offset int64) int32 { return v.epochs.at(offset) }

// EpochEnd answers OffsetForLeaderEpoch: the greatest epoch at or below epoch and the offset at which it ends; -1, -1 when
// unknown (KIP-101, KIP-279).
func (v View) EpochEnd(epoch int32) (int32, int64) { return v.epochs.end(epoch, v.start, v.end) }

// Epochs are all leader epochs. The slice is shared: do not change it.
func (v View) Epochs() []EpochEntry { return v.epochs }

// Span is a range of bytes of a segment file, readable until Release: unlinking and replacing the file leave it alone.
// Only truncation can cut it, and then the file ends early.
type Span struct {
	File     vfs.File // nil when Length is 0
	Position int64    // byte in the file
	Length   int
	handle   *vfs.Handle
}

// Release gives the span back. It is called exactly once; on an empty span it does nothing.
func (s Span) Release() {
	if s.handle != nil {
		s.handle.Release()
	}
}

// Read finds the bytes from the batch that holds offset on: at most maxBytes, none of a batch that reaches limitOffset,
// from one segment. With atLeastOne the first batch is whole even if it is longer than maxBytes; without it a first batch
// that does not fit gives an empty span (KIP-74). The span may end inside a batch. An offset at the end, or at or beyond
// limitOffset, gives an empty span.
func (v View) Read(offset int64, maxBytes int, limitOffset int64, atLeastOne bool) (Span, error) {
	if offset < v.start || offset > v.end {
		return Span{}, fmt.Errorf("read %v at offset %d of %d..%d: %w", v.log.tp, offset, v.start, v.end, ErrOutOfRange)
	}
	limitOffset = min(limitOffset, v.end)
	if offset >= limitOffset {
		return Span{}, nil
	}
	buf := v.log.dir.buffer()
	defer v.log.dir.giveBack(buf)
	for i := segmentFor(v.segs, offset); i >= 0 && i < len(v.segs); i++ {
		s := v.segs[i].latest()
		span, ok, err := v.readIn(s, offset, maxBytes, limitOffset, atLeastOne, *buf)
		for s.moved(err) {
			s = s.latest()
			span, ok, err = v.readIn(s, offset, maxBytes, limitOffset, atLeastOne, *buf)
		}
		if err != nil {
			return Span{}, fmt.Errorf("read %v at offset %d: %w", v.log.tp, offset, err)
		}
		if ok {
			return span, nil
		}
	}
	return Span{}, nil
}

// readIn reads from one segment; false means that the offset lies in a gap behind its last batch.
func (v View) readIn(s *segment, offset int64, maxBytes int, limit int64, atLeastOne bool, buf []byte) (Span, bool, error) {
	h, err := s.files.open(suffixLog)
	if err != nil {
		return Span{}, false, v.readError(s, 0, err)
	}
	from, first, err := v.locate(s, h.File(), offset, buf)
	if err != nil || first == nil {
		h.Release()
		return Span{}, false, err
	}
	size := int64(first.Size())
	to, err := v.limitPosition(s, h.File(), limit, buf)
	length := min(to-from, int64(maxBytes))
	if atLeastOne {
		length = max(length, min(size, to-from))
	}
	if err != nil || to-from < size || length < size {
		h.Release()
		return Span{}, err == nil, err
	}
	return Span{File: h.File(), Position: from, Length: int(length), handle: h}, true, nil
}

// limitPosition is the position at which the first batch begins that reaches limit, or the segment's end.
func (v View) limitPosition(s *segment, f vfs.File, limit int64, buf []byte) (int64, error) {
	size, end := v.extent(s)
	if limit >= end {
		return size, nil
	}
	if v.hint.files == s.files && v.hint.offset == limit && v.hint.position <= size {
		return v.hint.position, nil
	}
	position, first, err := v.locate(s, f, limit, buf)
	if err != nil || first == nil {
		return size, err
	}
	return position, nil
}

// extent is the length in bytes and the end offset of a segment in this view.
func (v View) extent(s *segment) (size, end int64) {
	if s == v.segs[len(v.segs)-1] {
		return v.tail.size, v.tail.next
	}
	return s.size, s.end
}

// locate finds the first batch of a segment that reaches offset: its position and header, which is nil if there is none.
func (v View) locate(s *segment, f vfs.File, offset int64, buf []byte) (int64, *batch.Header, error) {
	size, _ := v.extent(s)
	from, check, err := v.floor(s, offset, buf)
	if err != nil {
		return 0, nil, v.readError(s, 0, err)
	}
	r := newBatchReader(f, from, size, buf)
	for {
		ok, err := r.next()
		if err == nil && check >= 0 && (!ok || r.h.LastOffset() != check) {
			err = errDamaged
		}
		if errors.Is(err, errDamaged) && check >= 0 {
			// The index is wrong, or the log is. Without the index it will show.
			v.log.dir.misled(s)
			r, check = newBatchReader(f, 0, size, buf), -1
			continue
		}
		check = -1
		if err != nil {
			return 0, nil, v.readError(s, r.pos, err)
		}
		if !ok {
			return 0, nil, nil
		}
		if r.h.LastOffset() >= offset {
			header := r.h
			return r.pos, &header, nil
		}
	}
}

// readError tells a view that is too old from damage and from a failing device.
func (v View) readError(s *segment, position int64, err error) error {
	switch {
	case s.files.gone.Load() || position >= s.files.cut.Load() || errors.Is(err, ErrOutOfRange):
		return ErrOutOfRange
	case errors.Is(err, errDamaged) || isShort(err):
		return &CorruptionError{s.files.logName, position, err}
	}
	return v.log.dir.check("read the log", err)
}

// floor is a position at or in front of the first batch that reaches offset, from the index, and the last offset of the batch there
// (-1 where the position is the beginning and nothing is known of it).
func (v View) floor(s *segment, offset int64, buf []byte) (position, lastOffset int64, err error) {
	if s == v.segs[len(v.segs)-1] {
		if i := sort.Search(len(v.tail.index), func(i int) bool { return s.base+int64(v.tail.index[i].relative) > offset }); i > 0 {
			e := v.tail.index[i-1]
			return int64(e.position), s.base + int64(e.relative), nil
		}
	}
	h, err := s.files.open(suffixIndex)
	if isGone(err) && !s.files.gone.Load() {
		v.log.dir.misled(s)
		return 0, -1, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer h.Release()
	n := v.tail.indexOnDisk
	if s != v.segs[len(v.segs)-1] {
		if n, err = entries(h.File(), indexEntrySize); err != nil {
			return 0, 0, err
		}
	}
	if n == 0 {
		return 0, -1, nil
	}
	e, _, ok, err := floorIndex(h.File(), n, s.base, offset+1, buf)
	if err != nil && !isShort(err) {
		return 0, 0, err
	}
	if err != nil || !ok {
		return 0, -1, nil
	}
	return int64(e.position), s.base + int64(e.relative), nil
}

// Scan calls f for each batch from the one that holds from on, while they begin before to. control is the whole batch for
// control batches and nil otherwise; both arguments are valid during the call only. An error of f ends the scan and is returned. from is
// at or above the first offset.
func (v View) Scan(from, to int64, f func(h *batch.Header, control []byte) error) error {
	if from < min(v.start, v.FirstOffset()) || from > v.end {
		return fmt.Errorf("scan %v from offset %d of %d..%d: %w", v.log.tp, from, v.start, v.end, ErrOutOfRange)
	}
	buf := make([]byte, scanSize)
	var whole []byte
	next := from // a segment that replaces several is met as often, and may begin before what was seen already
	seen := func(h *batch.Header, control []byte) error {
		next = h.NextOffset()
		return f(h, control)
	}
	for i := max(segmentFor(v.segs, from), 0); i < len(v.segs) && v.segs[i].base < to; i++ {
		s, begun := v.segs[i].latest(), next
		var err error
		whole, err = v.scanSegment(s, begun, to, buf, whole, seen)
		for s.moved(err) && next == begun {
			s = s.latest()
			whole, err = v.scanSegment(s, begun, to, buf, whole, seen)
		}
		if err != nil {
			return fmt.Errorf("scan %v: %w", v.log.tp, err)
		}
	}
	return nil
}

// controlSizeMax bounds a control batch, in bytes: one marker is less than 100.
const controlSizeMax = 1 << 20

func (v View) scanSegment(s *segment, from, to int64, buf, whole []byte, f func(h *batch.Header, control []byte) error) ([]byte, error) {
	h, err := s.files.open(suffixLog)
	if err != nil {
		return whole, v.readError(s, 0, err)
	}
	defer h.Release()
	at, first, err := v.locate(s, h.File(), from, buf)
	if err != nil || first == nil {
		return whole, err
	}
	size, _ := v.extent(s)
	r := newBatchReader(h.File(), at, size, buf)
	for {
		ok, err := r.next()
		if err != nil {
			return whole, v.readError(s, r.pos, err)
		}
		if !ok || r.h.BaseOffset >= to {
			return whole, nil
		}
		var control []byte
		if r.h.Attributes.Control() && r.size <= controlSizeMax {
			if whole, err = r.whole(whole); err != nil {
				return whole, v.readError(s, r.pos, err)
			}
			control = whole
		}
		header := r.h
		if err := f(&header, control); err != nil {
			return whole, err
		}
	}
}
