package main

import (
	"fmt"
	"slices"
	"sync"
)

const (
	violationsMax = 200 // that are kept of a round
	violationsTop = 15  // that are printed of a round
)

// Place is a partition of the load's topics.
type Place struct {
	Topic     string
	Partition int32
}

func (p Place) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.Partition) }

// Ack is one acknowledged record.
type Ack struct {
	Place  int32
	ID     ID
	Offset int64
}

// span is numbers of a key that may be there or not: From to Until-1.
type span struct{ From, Until int64 }

// seat is what the ledger knows of one partition in one group.
type seat struct {
	from      int64 // offsets below were judged in an earlier chunk
	seen      []ID  // by offset - from; number 0: not seen
	committed int64 // highest acknowledged commit; 0: none
}

// Ledger is what was acknowledged, and what went wrong. All clients write into it.
type Ledger struct {
	Places []Place

	mu         sync.Mutex // protects what follows
	made       []int64    // by key: number of the last record that was made
	doubts     [][]span   // by key
	acks       [][]Ack    // by place
	acked      int        // entries of acks
	probe      int64      // number of the last probe
	seats      [groupsCount][]seat
	commits    int
	violations []string
	count      int // of all violations since Take
	save       func(Ack)
}

// NewLedger makes an empty one for so many keys.
func NewLedger(places []Place, keys int) *Ledger {
	l := &Ledger{Places: places, made: make([]int64, keys), doubts: make([][]span, keys), acks: make([][]Ack, len(places)), save: func(Ack) {}}
	for g := range l.seats {
		l.seats[g] = make([]seat, len(places))
	}
	return l
}

// Place finds a partition; -1 for one that is not of the load.
func (l *Ledger) Place(topic string, partition int32) int {
	return slices.Index(l.Places, Place{topic, partition})
}

// PlaceOf is where the records of a key go.
func (l *Ledger) PlaceOf(key int32) int { return int(key) / producersCount % len(l.Places) }

// Violation notes that something is not as it was acknowledged.
func (l *Ledger) Violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violate(format, args...)
}

func (l *Ledger) violate(format string, args ...any) {
	l.count++
	if len(l.violations) < violationsMax {
		l.violations = append(l.violations, fmt.Sprintf(format, args...))
	}
}

// Take gives what went wrong since it was asked last.
func (l *Ledger) Take() (count int, violations []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count, violations = l.count, l.violations
	l.count, l.violations = 0, nil
	return count, violations
}

// Next numbers a key's next record.
func (l *Ledger) Next(key int32) ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[key]++
	return ID{key, l.made[key]}
}

// NextProbe numbers the next probe.
func (l *Ledger) NextProbe() ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probe++
	return ID{probes, l.probe}
}

// Acked notes an acknowledgement.
func (l *Ledger) Acked(place int, id ID, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := Ack{int32(place), id, offset}
	l.keep(a)
	l.save(a)
}

func (l *Ledger) keep(a Ack) {
	l.acks[a.Place] = append(l.acks[a.Place], a)
	l.acked++
}

// Refused notes that a record's outcome will never be known.
func (l *Ledger) Refused(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubts[id.Key] = append(l.doubts[id.Key], span{id.Number, id.Number + 1})
}

// Seen notes that a group was given a record. Two different ones at one offset are a violation.
func (l *Ledger) Seen(group, place int, offset int64, id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.seats[group][place]
	at := offset - s.from
	if at < 0 {
		return
	}
	for int64(len(s.seen)) <= at {
		s.seen = append(s.seen, ID{})
	}
	if was := s.seen[at]; was.Number != 0 && was != id {
		l.violate("%v: group %d was given %v at offset %d, and before it %v", l.Places[place], group, id, offset, was)
	}
	s.seen[at] = id
}

// Committed notes an acknowledged commit.
func (l *Ledger) Committed(group, place int, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	s := &l.seats[group][place]
	s.committed = max(s.committed, offset)
}

// Begin forgets what a group would have seen below an offset: a run that was killed has seen it.
func (l *Ledger) Begin(group, place int, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := &l.seats[group][place]; offset > s.from {
		*s = seat{from: offset, committed: s.committed}
	}
}

// Floor is the highest acknowledged commit.
func (l *Ledger) Floor(group, place int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seats[group][place].committed
}

// Totals counts acknowledged records and commits.
func (l *Ledger) Totals() (acks, commits int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.commits
}

// Judge compares a partition's log with what was acknowledged and seen. Nothing may be under way.
func (l *Ledger) Judge(place int, log *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	where := l.Places[place]
	records := make([]ID, log.End())
	last := map[int32]int64{}
	for _, b := range log.Batches {
		err := b.records(func(offset int64, _, v []byte) {
			id, err := readValue(v)
			if err != nil {
				l.violate("%v: at offset %d is %v", where, offset, err)
				return
			}
			if offset < b.Base || offset > b.Last {
				l.violate("%v: offset %d is in the batch of %v", where, offset, b)
				return
			}
			records[offset] = id
			if id.Key == probes {
				return
			}
			if int(id.Key) >= len(l.made) || l.PlaceOf(id.Key) != place || id.Number > l.made[id.Key] {
				l.violate("%v: at offset %d is %v, which nobody has made", where, offset, id)
				return
			}
			if id.Number <= last[id.Key] {
				l.violate("%v: at offset %d is %v after number %d: a duplicate, or out of order", where, offset, id, last[id.Key])
				return
			}
			l.gap(where, id.Key, last[id.Key]+1, id.Number, offset)
			last[id.Key] = id.Number
		})
		if err != nil {
			l.violate("%v: %v", where, err)
		}
	}
	for key := range int32(len(l.made)) {
		if l.PlaceOf(key) == place {
			l.gap(where, key, last[key]+1, l.made[key]+1, log.End())
		}
	}
	for _, a := range l.acks[place] {
		if a.Offset >= int64(len(records)) || records[a.Offset] != a.ID {
			there := "nothing"
			if a.Offset < int64(len(records)) {
				there = fmt.Sprint(records[a.Offset])
			}
			l.violate("%v: %v was acknowledged at offset %d, where %s is", where, a.ID, a.Offset, there)
		}
	}
	l.judgeGroups(place, records)
}

// gap judges the numbers of a key that are missing before an offset.
func (l *Ledger) gap(where Place, key int32, from, until, offset int64) {
	for n := from; n < until; n++ {
		i := slices.IndexFunc(l.doubts[key], func(s span) bool { return n >= s.From && n < s.Until })
		if i < 0 {
			l.violate("%v: key %d number %d is missing before offset %d", where, key, n, offset)
			continue
		}
		n = min(until, l.doubts[key][i].Until) - 1
	}
}

// judgeGroups asks whether each group was given what is in the log, and all of it.
func (l *Ledger) judgeGroups(place int, records []ID) {
	for group := range l.seats {
		s := &l.seats[group][place]
		for offset := s.from; offset < int64(len(records)); offset++ {
			var seen ID
			if at := offset - s.from; at < int64(len(s.seen)) {
				seen = s.seen[at]
			}
			if seen != records[offset] {
				l.violate("%v: group %d was given %v at offset %d, where %v is", l.Places[place], group, seen, offset, records[offset])
			}
		}
	}
}
