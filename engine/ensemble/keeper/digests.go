package keeper

import (
	"slices"
	"time"
)

// DigestEvery is the number of entries of the log between two comparisons of the tree's digest among the boxes. It is the
// log that is counted and not zxids, because the log is the same on two boxes whose trees are not.
const DigestEvery = 1024

// digestsKept is how many a box remembers: one that lags behind by more is not compared.
const digestsKept = 64

// DigestDue tells whether the digest is to be noted after the entry at this index was applied.
func DigestDue(index uint64) bool { return index%DigestEvery == 0 }

// slot is where what is known about an index is kept; a newer index takes an older one's place.
func slot(index uint64) uint64 { return index / DigestEvery % digestsKept }

// Digests are the last digests of a box. The zero value is empty.
type Digests struct {
	notes [digestsKept]struct{ index, digest uint64 }
	last  uint64 // index
}

// Note remembers the digest after an entry for which DigestDue is true.
func (d *Digests) Note(index, digest uint64) {
	n := &d.notes[slot(index)]
	n.index, n.digest = index, digest
	d.last = index
}

// Last is the digest that was noted last.
func (d *Digests) Last() (index, digest uint64, ok bool) {
	digest, ok = d.At(d.last)
	return d.last, digest, ok
}

// At is the digest that was noted after the entry at index, if it was and still is remembered.
func (d *Digests) At(index uint64) (digest uint64, ok bool) {
	n := &d.notes[slot(index)]
	return n.digest, index != 0 && n.index == index
}

// Poll is what the members told a leader about their trees. The digest that most voters have is the right one. Where no
// such majority comes to be, because voters are away, the leader's own is: it is the leader whose snapshot the others go on
// from. The zero value is empty.
type Poll struct {
	questions [digestsKept]question
	open      bool // one of them is
}

// question is one index.
type question struct {
	index   uint64
	since   time.Duration
	said    map[uint64]uint64 // box → digest
	told    []uint64          // boxes that were found to differ
	right   uint64
	decided bool
	open    bool // something was said that Step has not looked at
}

// PollWait is how long a difference waits for voters that have said nothing yet: long enough for one that is restarted.
const PollWait = 10 * time.Second

// Say notes what a member, which may be the leader itself, says about an index for which DigestDue is true.
func (p *Poll) Say(now time.Duration, index, box, digest uint64) {
	q := &p.questions[slot(index)]
	if index < q.index {
		return
	}
	if index > q.index {
		*q = question{index: index, since: now, said: make(map[uint64]uint64)}
	}
	q.said[box] = digest
	q.open, p.open = true, true
}

// Open tells whether Step has something to look at.
func (p *Poll) Open() bool { return p.open }

// Finding is a box whose tree is not the right one after the entry at Index.
type Finding struct{ Box, Index, Right uint64 }

// Step gives the boxes that were found to differ, each once for an index. self is the leader.
func (p *Poll) Step(now time.Duration, self uint64, voters []uint64) (found []Finding) {
	if !p.open {
		return nil
	}
	p.open = false
	for i := range p.questions {
		q := &p.questions[i]
		if !q.open {
			continue
		}
		q.decide(self, voters, now-q.since >= PollWait)
		q.open = !q.decided
		p.open = p.open || q.open
		if !q.decided {
			continue
		}
		for box, digest := range q.said {
			if digest != q.right && !slices.Contains(q.told, box) {
				q.told = append(q.told, box)
				found = append(found, Finding{Box: box, Index: q.index, Right: q.right})
			}
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return int(a.Box) - int(b.Box) })
	return found
}

// decide says which digest is right, if that can be said.
func (q *question) decide(self uint64, voters []uint64, waited bool) {
	own, known := q.said[self]
	if q.decided || !known {
		return
	}
	heard, most := 0, make(map[uint64]int)
	for _, box := range voters {
		if digest, ok := q.said[box]; ok {
			heard++
			most[digest]++
		}
	}
	for digest, n := range most {
		if 2*n > len(voters) {
			q.right, q.decided = digest, true
			return
		}
	}
	if waited || heard == len(voters) {
		q.right, q.decided = own, true
	}
}
