package compact

import (
	"fmt"
	"math"
	"time"

	"cairn/engine/broker/seglog"
)

// Settings are what a topic says about its compaction, and about the segments that it makes. Kafka's names are given with each.
type Settings struct {
	// SegmentBytes (segment.bytes), IndexBytes (segment.index.bytes) and IndexInterval (index.interval.bytes) hold for the
	// segments that are written.
	SegmentBytes, IndexBytes int64
	IndexInterval            int
	// DeleteRetention (delete.retention.ms) is how long a tombstone, or a marker of a transaction without records, stays.
	DeleteRetention time.Duration
	// LagMin (min.compaction.lag.ms) is how long a record stays untouched; LagMax (max.compaction.lag.ms) after how long its
	// log is compacted however small the dirty part is, negative for never.
	LagMin, LagMax time.Duration
	// DirtyRatioMin (min.cleanable.dirty.ratio) is how much of a log has to be dirty, from 0 to 1.
	DirtyRatioMin float64
}

// Time is the wall clock of a pass: milliseconds since 1970, and whether it is known to be right. A clock that is not
// deletes no tombstone and dates none; what waits for its lag waits on.
type Time struct {
	Ms   int64
	Good bool
}

// Look is what a look at a log found.
type Look struct {
	// Dirty is where the dirty part begins, and Limit where it ends; there is nothing to do unless Dirty < Limit.
	Dirty, Limit int64
	// CleanBytes lie before the dirty part, DirtyBytes in it.
	CleanBytes, DirtyBytes int64
	// Overdue says that the dirty part is older than max.compaction.lag.ms.
	Overdue bool
	// Waits says that time alone will make more of the log, or the log, due.
	Waits bool

	segments int // of the view, that lie before Limit
}

// Ratio is the dirty share of what a pass would go through (LogToClean.cleanableRatio).
func (l Look) Ratio() float64 {
	if l.DirtyBytes == 0 {
		return 0
	}
	return float64(l.DirtyBytes) / float64(l.CleanBytes+l.DirtyBytes)
}

// Due reports whether the log is to be compacted now.
func (l Look) Due(s Settings) bool {
	return l.Dirty < l.Limit && l.DirtyBytes > 0 && (l.Overdue || l.Ratio() > s.DirtyRatioMin)
}

// Examine looks at a log (LogCleanerManager.cleanableOffsets, calculateCleanableBytes, maxCompactionDelay). cleaned is where its
// last pass ended, and stable its last stable offset. It may read the disk for the segments' times.
func Examine(v seglog.View, cleaned, stable int64, s Settings, now Time) (Look, error) {
	// A record must not give way to one that a power cut may take.
	stable = min(stable, v.FlushedEnd())
	l := Look{Dirty: cleaned}
	if cleaned < v.StartOffset() || cleaned > v.EndOffset() {
		l.Dirty = v.StartOffset()
	}
	l.Limit = l.Dirty
	oldest := int64(math.MaxInt64)
	for i, p := range v.Parts() {
		if p.End <= l.Dirty {
			l.CleanBytes += p.Size
			l.segments++
			continue
		}
		if p.End > stable {
			break
		}
		young, err := tooYoung(v, i, s, now)
		if err != nil {
			return l, err
		}
		if young {
			l.Waits = true
			break
		}
		if s.LagMax >= 0 {
			at, err := v.PartOldest(i)
			if err != nil {
				return l, fmt.Errorf("age of segment %d: %w", p.Base, err)
			}
			if at > 0 {
				oldest = min(oldest, at)
			}
		}
		l.DirtyBytes += p.Size
		l.Limit = p.End
		l.segments++
	}
	if oldest < math.MaxInt64 {
		l.Overdue = now.Good && oldest < now.Ms-max(s.LagMax, s.LagMin).Milliseconds()
		l.Waits = l.Waits || !l.Overdue
	}
	return l, nil
}

// tooYoung reports whether a segment has a record that min.compaction.lag.ms keeps from being touched.
func tooYoung(v seglog.View, i int, s Settings, now Time) (bool, error) {
	if s.LagMin <= 0 {
		return false, nil
	}
	newest, err := v.PartNewest(i)
	return !now.Good || newest > now.Ms-s.LagMin.Milliseconds(), err
}

// group is a run of segments that become one.
type group struct{ from, to int }

// groups joins neighbours as long as what they are now would fit one segment (Cleaner.groupSegmentsBySize).
func groups(v seglog.View, segments int, s Settings) ([]group, error) {
	parts := v.Parts()[:segments]
	var out []group
	var bytes, offsets, times int64
	for i, p := range parts {
		index, timeIndex, err := v.PartIndexes(i)
		if err != nil {
			return nil, err
		}
		if n := len(out); n > 0 && bytes+p.Size <= s.SegmentBytes && offsets+index <= s.IndexBytes && times+timeIndex <= s.IndexBytes &&
			p.End-1-parts[out[n-1].from].Base <= math.MaxInt32 {
			out[n-1].to = i + 1
		} else {
			out = append(out, group{i, i + 1})
			bytes, offsets, times = 0, 0, 0
		}
		bytes, offsets, times = bytes+p.Size, offsets+index, times+timeIndex
	}
	return out, nil
}
