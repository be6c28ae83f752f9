package seglog

import (
	"errors"
	"time"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
)

// futureTolerance is how far beyond our clock a record's timestamp may lie and still be believed: two boxes' clocks differ.
const futureTolerance = time.Hour

// Removed says what retention or a trim removed.
type Removed struct {
	Segments    int
	Bytes       int64
	StartOffset int64 // the log's start afterwards
}

// Retention removes oldest segments: those below the start offset always, and with DeleteOld those past Retention (only
// with a good clock) and those beyond RetentionBytes. Nothing at or beyond bound goes, the lesser of high watermark and last stable offset. An active
// segment is rolled before it goes. The files are unlinked by Dir.Sweep once the checkpoint that holds the new start is durable.
//
// A timestamp from the future, or none, says nothing about a segment's age; such a segment goes when one behind it is old enough, for it is
// older than that.
func (l *Log) Retention(now clock.Now, goodClock bool, bound int64) (Removed, error) {
	if err := l.usable(); err != nil {
		return Removed{}, err
	}
	v := &l.view
	n := 0
	for n < len(v.segs) && l.endOf(n) <= v.start && (n+1 < len(v.segs) || l.tail.size > 0) {
		n++
	}
	if l.cfg.DeleteOld && l.cfg.Retention >= 0 && goodClock {
		aged, err := l.aged(now)
		if err != nil {
			return Removed{}, err
		}
		n = max(n, aged)
	}
	if l.cfg.DeleteOld && l.cfg.RetentionBytes >= 0 {
		over := v.Size() - l.cfg.RetentionBytes
		k := 0
		for k < len(v.segs) && over-l.sizeOf(k) >= 0 && l.sizeOf(k) > 0 {
			over -= l.sizeOf(k)
			k++
		}
		n = max(n, k)
	}
	return l.remove(now, n, bound)
}

// TrimTo removes whole segments that end at or before offset, none that ends beyond bound: what PlanBudget asked for.
func (l *Log) TrimTo(now clock.Now, offset, bound int64) (Removed, error) {
	if err := l.usable(); err != nil {
		return Removed{}, err
	}
	n := 0
	for n < len(l.view.segs) && l.endOf(n) <= offset {
		n++
	}
	return l.remove(now, n, bound)
}

func (l *Log) endOf(i int) int64 {
	if i+1 < len(l.view.segs) {
		return l.view.segs[i+1].base
	}
	return l.tail.next
}

func (l *Log) sizeOf(i int) int64 {
	if i+1 < len(l.view.segs) {
		return l.view.segs[i].size
	}
	return l.tail.size
}

// aged is how many of the oldest segments are past the retention time.
func (l *Log) aged(now clock.Now) (int, error) {
	nowMs := now.UnixMilli()
	n := 0
	for i, s := range l.view.segs {
		newest, err := l.view.newestOf(s)
		if err != nil {
			return 0, l.dir.check("read time index", err)
		}
		switch {
		case newest.timestamp == batch.NoTimestamp || newest.timestamp > nowMs+futureTolerance.Milliseconds():
			continue
		case nowMs-newest.timestamp <= l.cfg.Retention.Milliseconds():
			return n, nil
		}
		n = i + 1
	}
	return n, nil
}

// remove takes n segments off the front, as far as bound allows.
func (l *Log) remove(now clock.Now, n int, bound int64) (Removed, error) {
	for n > 0 && l.endOf(n-1) > bound {
		n--
	}
	if n == len(l.view.segs) {
		if l.tail.size == 0 {
			n--
		} else if err := l.roll(now, l.tail.next); err != nil {
			if !errors.Is(err, ErrFull) {
				return Removed{StartOffset: l.view.start}, err
			}
			n-- // no room for a new segment's files before an old one is gone
		}
	}
	out := Removed{StartOffset: l.view.start}
	if n <= 0 {
		return out, nil
	}
	if err := l.saveStateBefore(l.view.segs[n].base); err != nil {
		return out, err
	}
	gone := l.view.segs[:n]
	segments := make([]doomed, n)
	for i, s := range gone {
		segments[i] = doomed{log: l, files: s.files, end: l.endOf(i)}
		out.Bytes += s.size
	}
	out.Segments = n
	l.mu.Lock()
	l.view.segs = l.view.segs[n:len(l.view.segs):len(l.view.segs)]
	l.view.sealedBytes = sealedBytes(l.view.segs)
	l.mu.Unlock()
	l.raiseStart(l.view.segs[0].base)
	out.StartOffset = l.view.start
	l.dir.removed.Add(n)
	l.dir.doom(segments)
	l.dropSnapshots(l.view.segs[0].base)
	return out, nil
}
