package seglog

import (
	"errors"
	"fmt"

	"cairn/engine/broker/batch"
)

// TimestampOffset is a record's timestamp (ms since 1970), offset and leader epoch.
type TimestampOffset struct {
	Timestamp, Offset int64
	LeaderEpoch       int32
}

// newestOf is the greatest timestamp of a segment and the last offset of its batch. For a sealed one it is the last entry of its time
// index, which is read once.
func (v View) newestOf(s *segment) (timeEntry, error) {
	if s == v.segs[len(v.segs)-1] {
		return v.tail.newest, nil
	}
	s = s.latest()
	e, err := v.newestOnDisk(s)
	for s.moved(err) {
		s = s.latest()
		e, err = v.newestOnDisk(s)
	}
	return e, err
}

func (v View) newestOnDisk(s *segment) (timeEntry, error) {
	if known := s.newest.Load(); known != nil {
		return *known, nil
	}
	e := timeEntry{batch.NoTimestamp, s.base}
	h, err := s.files.open(suffixTime)
	if isGone(err) && !s.files.gone.Load() {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	defer h.Release()
	n, err := entries(h.File(), timeEntrySize)
	if err == nil && n > 0 {
		e, err = readTimeEntry(h.File(), s.base, n-1)
	}
	if err != nil {
		return e, err
	}
	s.newest.Store(&e)
	return e, nil
}

// OffsetForTimestamp finds the first record at or above the start and below limit whose timestamp is at least ts (LogSegment.findOffsetByTimestamp).
// A compressed batch is opened within limits; where that is not possible the answer is its first offset with its greatest timestamp.
func (v View) OffsetForTimestamp(ts, limit int64) (TimestampOffset, bool, error) {
	limit = min(limit, v.end)
	for _, s := range v.segs {
		if s.base >= limit {
			break
		}
		newest, err := v.newestOf(s)
		if err != nil {
			return TimestampOffset{}, false, fmt.Errorf("look up time %d in %v: %w", ts, v.log.tp, v.readError(s, 0, err))
		}
		if newest.timestamp < ts {
			continue
		}
		s = s.latest()
		found, ok, err := v.timestampIn(s, ts, limit)
		for s.moved(err) {
			s = s.latest()
			found, ok, err = v.timestampIn(s, ts, limit)
		}
		if err != nil || ok {
			if err != nil {
				err = fmt.Errorf("look up time %d in %v: %w", ts, v.log.tp, err)
			}
			return found, ok, err
		}
	}
	return TimestampOffset{}, false, nil
}

func (v View) timestampIn(s *segment, ts, limit int64) (TimestampOffset, bool, error) {
	none := TimestampOffset{}
	from, err := v.timeFloor(s, ts)
	if err != nil {
		return none, false, v.readError(s, 0, err)
	}
	h, err := s.files.open(suffixLog)
	if err != nil {
		return none, false, v.readError(s, 0, err)
	}
	defer h.Release()
	buf := make([]byte, scanSize)
	position, first, err := v.locate(s, h.File(), max(from, v.start), buf)
	if err != nil || first == nil {
		return none, false, err
	}
	size, _ := v.extent(s)
	r := newBatchReader(h.File(), position, size, buf)
	for {
		ok, err := r.next()
		if err != nil {
			return none, false, v.readError(s, r.pos, err)
		}
		if !ok || r.h.BaseOffset >= limit {
			return none, false, nil
		}
		if r.h.MaxTimestamp < ts {
			continue
		}
		found, ok, err := v.recordAt(s, &r, func(at, offset int64) bool { return at >= ts && offset >= v.start })
		if err != nil || ok {
			return found, ok && found.Offset < limit, err
		}
	}
}

// timeFloor is an offset such that every batch that ends before it has only timestamps below ts.
func (v View) timeFloor(s *segment, ts int64) (int64, error) {
	onDisk := int64(-1)
	if s == v.segs[len(v.segs)-1] {
		for i := len(v.tail.times) - 1; i >= 0; i-- {
			if v.tail.times[i].timestamp < ts {
				return v.tail.times[i].offset, nil
			}
		}
		onDisk = v.tail.timesOnDisk
	}
	h, err := s.files.open(suffixTime)
	if isGone(err) && !s.files.gone.Load() {
		return s.base, nil
	}
	if err != nil {
		return 0, err
	}
	defer h.Release()
	if onDisk < 0 {
		if onDisk, err = entries(h.File(), timeEntrySize); err != nil {
			return 0, err
		}
	}
	e, _, ok, err := floorTime(h.File(), onDisk, s.base, func(e timeEntry) bool { return e.timestamp >= ts })
	if isShort(err) || err == nil && (!ok || e.offset < s.base) {
		return s.base, nil
	}
	return e.offset, err
}

// recordAt finds the first record of the reader's batch for which match is true. A batch that cannot be opened matches as a whole.
func (v View) recordAt(s *segment, r *batchReader, match func(timestamp, offset int64) bool) (TimestampOffset, bool, error) {
	h := &r.h
	whole := TimestampOffset{h.MaxTimestamp, h.BaseOffset, h.LeaderEpoch}
	if h.Count == 0 {
		return whole, false, nil
	}
	bytesMax := v.log.dir.cfg.Limits.OpenBatchBytesMax
	if h.Attributes.LogAppendTime() && h.BaseOffset >= v.start || r.size > int64(bytesMax) {
		return whole, true, nil
	}
	b, err := r.whole(nil)
	if err != nil {
		return whole, false, v.readError(s, r.pos, err)
	}
	var opener batch.Opener
	records, err := opener.Records(h, b, bytesMax)
	if err != nil {
		return whole, true, nil //nolint:nilerr // what cannot be opened is answered by its batch
	}
	var out TimestampOffset
	found := false
	err = batch.Walk(h, records, func(rec *batch.Record) error {
		if at, offset := rec.Timestamp(h), h.BaseOffset+int64(rec.OffsetDelta); match(at, offset) {
			out, found = TimestampOffset{at, offset, h.LeaderEpoch}, true
			return errFound
		}
		return nil
	})
	if err != nil && err != errFound {
		return whole, true, nil //nolint:nilerr // the same for records that do not parse
	}
	return out, found, nil
}

// errFound ends a walk.
var errFound = errors.New("found")

// MaxTimestamp finds the first record below limit with the greatest timestamp (KIP-734).
func (v View) MaxTimestamp(limit int64) (TimestampOffset, bool, error) {
	limit = min(limit, v.end)
	var best timeEntry
	var in *segment
	for _, s := range v.segs {
		if s.base >= limit {
			break
		}
		at := s.latest()
		newest, err := v.newestWithin(at, limit)
		for at.moved(err) {
			at = at.latest()
			newest, err = v.newestWithin(at, limit)
		}
		if err != nil {
			return TimestampOffset{}, false, fmt.Errorf("greatest timestamp of %v: %w", v.log.tp, err)
		}
		if newest.timestamp > batch.NoTimestamp && newest.offset >= v.start && (in == nil || newest.timestamp > best.timestamp) {
			best, in = newest, s
		}
	}
	if in == nil {
		return TimestampOffset{}, false, nil
	}
	in = in.latest()
	found, ok, err := v.maxIn(in, best)
	for in.moved(err) {
		in = in.latest()
		found, ok, err = v.maxIn(in, best)
	}
	if err != nil {
		err = fmt.Errorf("greatest timestamp of %v: %w", v.log.tp, err)
	}
	return found, ok, err
}

func (v View) maxIn(s *segment, best timeEntry) (TimestampOffset, bool, error) {
	h, err := s.files.open(suffixLog)
	if err != nil {
		return TimestampOffset{}, false, v.readError(s, 0, err)
	}
	defer h.Release()
	buf := make([]byte, chunkSize)
	position, first, err := v.locate(s, h.File(), best.offset, buf)
	if err != nil || first == nil {
		return TimestampOffset{}, false, err
	}
	size, _ := v.extent(s)
	r := newBatchReader(h.File(), position, size, buf)
	if ok, err := r.next(); err != nil || !ok {
		return TimestampOffset{}, false, v.readError(s, position, err)
	}
	return v.recordAt(s, &r, func(at, offset int64) bool { return at >= r.h.MaxTimestamp && offset >= v.start })
}

// newestWithin is newestOf for the batches that end below limit.
func (v View) newestWithin(s *segment, limit int64) (timeEntry, error) {
	size, end := v.extent(s)
	if limit >= end {
		e, err := v.newestOf(s)
		if err != nil {
			err = v.readError(s, 0, err)
		}
		return e, err
	}
	best := timeEntry{batch.NoTimestamp, s.base}
	h, err := s.files.open(suffixLog)
	if err != nil {
		return best, v.readError(s, 0, err)
	}
	defer h.Release()
	r := newBatchReader(h.File(), 0, size, make([]byte, scanSize))
	for {
		ok, err := r.next()
		if err != nil {
			return best, v.readError(s, r.pos, err)
		}
		if !ok || r.h.LastOffset() >= limit {
			return best, nil
		}
		if r.h.MaxTimestamp > best.timestamp {
			best = timeEntry{r.h.MaxTimestamp, r.h.LastOffset()}
		}
	}
}
