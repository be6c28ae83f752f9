package group

import (
	"container/heap"
	"fmt"
	"time"

	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Groups are the groups of one partition of __consumer_offsets.
type Groups struct {
	settings Settings
	limits   limits.Group
	now      Time // of the present step

	groups map[string]*group
	wakes  wakes
	txns   map[int64]*txn // offsets of transactions under way, by producer id

	replies []Reply
	events  []Event
	records []Record
	// batch is the number of the batch that records are gathered for; committed is the last one that is known to be
	// committed. removed is the batch that holds the newest removal of a group, which stands for all groups that are
	// no more.
	batch, committed, removed uint64
	// position stands for a record's offset in the log: it grows with each record, in the order of the log, so that of
	// a plain and a transactional commit of one partition the newer can be told.
	position int64
	// bytes is about what the groups take in memory; spare is by how much they may still grow.
	bytes, spare int64
	// offsets counts the committed offsets of all groups.
	offsets int
	// unknownSince is when a good clock first looked at offsets that were stamped by a bad one.
	unknownSince int64
}

// New makes the groups of an empty partition.
func New(settings Settings, l limits.Group) *Groups {
	return &Groups{
		settings: settings, limits: l, groups: map[string]*group{}, txns: map[int64]*txn{},
		batch: 1, spare: l.BytesMax,
	}
}

// Configure changes the settings, and says by how many bytes the groups may grow until the next call.
func (s *Groups) Configure(settings Settings, spare int64) { s.settings, s.spare = settings, spare }

// Step handles one request at one moment. The answer comes in Replies, perhaps after other steps.
func (s *Groups) Step(now Time, q Request) {
	s.now = now
	if err := s.check(q); err != nil {
		s.reply(q.target().Ticket, 0, Refuse(q, err))
		return
	}
	switch q := q.(type) {
	case *Join:
		s.join(q)
	case *Sync:
		s.sync(q)
	case *Heartbeat:
		s.heartbeat(q)
	case *Leave:
		s.leave(q)
	case *Commit:
		s.commit(q)
	case *FetchOffsets:
		s.fetchOffsets(q)
	case *DeleteOffsets:
		s.deleteOffsets(q)
	case *Delete:
		s.delete(q)
	case *Describe:
		s.describe(q)
	}
}

// check refuses group ids that no member may have or no record can hold. Only the requests that work without a group
// take the empty id, as Kafka's coordinator does for the sake of old clients.
func (s *Groups) check(q Request) *kerr.Error {
	id := q.GroupID()
	if len(id) > nameBytesMax {
		return kerr.InvalidGroupID
	}
	if id != "" {
		return nil
	}
	switch q.(type) {
	case *Commit, *FetchOffsets, *Delete, *Describe:
		return nil
	}
	return kerr.InvalidGroupID
}

// Tick does what has come due: sessions that ended, rebalances that have waited long enough. It returns when the next
// thing comes due on the monotonic clock, 0 for never.
func (s *Groups) Tick(now Time) time.Duration {
	s.now = now
	for len(s.wakes) > 0 && s.wakes[0].wake <= now.Mono {
		g := s.wakes[0]
		s.fire(g)
		s.schedule(g)
	}
	if len(s.wakes) == 0 {
		return 0
	}
	return s.wakes[0].wake
}

// Seal ends the batch that records are gathered for and returns its records and its number; without records, ok is
// false and nothing ends.
func (s *Groups) Seal() (records []Record, number uint64, ok bool) {
	if len(s.records) == 0 {
		return nil, 0, false
	}
	records, number = s.records, s.batch
	s.records = nil
	s.batch++
	return records, number, true
}

// Committed says that the batches up to number are committed. The owner sends the replies that waited for them.
func (s *Groups) Committed(number uint64) { s.committed = number }

// TakeReplies returns the answers since the last call, in order.
func (s *Groups) TakeReplies() []Reply {
	r := s.replies
	s.replies = nil
	return r
}

// TakeEvents returns what is worth a line in the log since the last call.
func (s *Groups) TakeEvents() []Event {
	e := s.events
	s.events = nil
	return e
}

// Bytes is about what the groups take in memory.
func (s *Groups) Bytes() int64 { return s.bytes }

// Len is the number of groups; Offsets is the number of their committed offsets.
func (s *Groups) Len() int { return len(s.groups) }

// Offsets is the number of committed offsets of all groups.
func (s *Groups) Offsets() int { return s.offsets }

// Count adds the groups by state to counts.
func (s *Groups) Count(counts *[int(Dead) + 1]int) {
	for _, g := range s.groups {
		counts[g.state]++
	}
}

func (s *Groups) reply(to Ticket, after uint64, a Answer) {
	if to != 0 {
		s.replies = append(s.replies, Reply{To: to, After: after, Answer: a})
	}
}

// after is the batch that must be committed before anybody may be told of g's state; nil is a group that is not there,
// perhaps because it was just removed.
func (s *Groups) after(g *group) uint64 {
	w := s.removed
	if g != nil {
		w = g.written
	}
	if w <= s.committed {
		return 0
	}
	return w
}

// write adds a record about g to the present batch.
func (s *Groups) write(g *group, r Record) {
	s.records = append(s.records, r)
	g.written = s.batch
	s.position++
}

// create makes a group, or says that there are too many.
func (s *Groups) create(id string) (*group, *kerr.Error) {
	if len(s.groups) >= s.limits.GroupsMax || s.spare < int64(groupBytes+len(id)) {
		return nil, kerr.GroupMaxSizeReached
	}
	return s.add(id), nil
}

func (s *Groups) add(id string) *group {
	g := &group{
		id: id, since: s.now.Wall, member: map[string]*member{}, static: map[string]*member{},
		supported: map[string]int{}, at: -1,
	}
	s.groups[id] = g
	s.grow(g, groupBytes+len(id))
	return g
}

// forget drops a group from memory; whoever calls has written the tombstones.
func (s *Groups) forget(g *group) {
	delete(s.groups, g.id)
	s.offsets -= g.offsetCount
	s.bytes -= g.bytes
	s.spare += g.bytes
	if g.at >= 0 {
		heap.Remove(&s.wakes, g.at)
	}
}

// dropUnused forgets a group that was made for a member that never came back.
func (s *Groups) dropUnused(g *group) {
	if g.state == Empty && !g.persisted && len(g.members) == 0 && len(g.pendingJoin) == 0 && g.offsetCount == 0 &&
		g.txnOffsets == 0 && s.groups[g.id] == g {
		s.forget(g)
	}
}

func (s *Groups) grow(g *group, n int) {
	g.bytes += int64(n)
	s.bytes += int64(n)
	s.spare -= int64(n)
}

// wakes is a heap of the groups that wait for a time, the earliest first.
type wakes []*group

func (w wakes) Len() int { return len(w) }
func (w wakes) Less(i, j int) bool {
	if w[i].wake == w[j].wake {
		return w[i].id < w[j].id
	}
	return w[i].wake < w[j].wake
}
func (w wakes) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

// Push and Pop are container/heap's.
func (w *wakes) Push(x any) {
	g := x.(*group)
	g.at = len(*w)
	*w = append(*w, g)
}

// Pop removes the last element.
func (w *wakes) Pop() any {
	old := *w
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	g.at = -1
	return g
}

// wakeAt makes sure that g is looked at by t. A deadline that moves to later leaves the old entry: the group is then
// looked at once for nothing, which is cheaper than moving it at every heartbeat.
func (s *Groups) wakeAt(g *group, t time.Duration) {
	switch {
	case s.groups[g.id] != g:
	case g.at < 0:
		g.wake = t
		heap.Push(&s.wakes, g)
	case t < g.wake:
		g.wake = t
		heap.Fix(&s.wakes, g.at)
	}
}

// schedule puts g where its next deadline belongs.
func (s *Groups) schedule(g *group) {
	if g.at >= 0 {
		heap.Remove(&s.wakes, g.at)
	}
	if next := g.nextDeadline(); next != 0 {
		s.wakeAt(g, next)
	}
}

// EventKind says what happened to a group.
type EventKind uint8

// The kinds of events.
const (
	Rebalancing   EventKind = iota // a rebalance began
	Stabilized                     // a generation's members are fixed
	Assigned                       // a generation has its assignment
	Emptied                        // the last member went
	MemberExpired                  // a member was silent for too long
	Removed                        // the group was deleted or expired
	OffsetsGone                    // offsets expired or their topic was deleted
)

// Event is something that an operator may want to know.
type Event struct {
	Kind       EventKind
	Group      string
	Generation int32
	// Count is the number of members, or of offsets for OffsetsGone.
	Count  int
	Reason string
}

func (s *Groups) event(kind EventKind, g *group, count int, format string, args ...any) {
	s.events = append(s.events, Event{Kind: kind, Group: g.id, Generation: g.generation, Count: count, Reason: fmt.Sprintf(format, args...)})
}
