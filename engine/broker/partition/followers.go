package partition

import (
	"math"
	"slices"
	"time"
)

// Member is a replica as the catalog names it: a broker, in one of its registrations. What an earlier registration of the
// broker has vouched for says nothing about this one (KIP-841, KIP-903).
type Member struct {
	Broker int32
	Epoch  int64 // broker epoch; 0 while the broker is not registered
}

// Membership is what the catalog says of a partition's replicas.
type Membership struct {
	// Epoch is the partition epoch: it grows with each change of the state that the controller writes (KIP-497).
	Epoch int32
	// Replicas are all replicas but the leader's own, each in its present registration.
	Replicas []Member
	// InSync are the brokers of the ISR, the leader included.
	InSync []int32
	// InSyncMin is min.insync.replicas, at most as many as there are replicas. With fewer in sync nothing more is
	// acknowledged to all, and the high watermark rests, so that every in-sync or eligible replica has all that lies below
	// it (KIP-966).
	InSyncMin int
}

// Equal compares.
func (m Membership) Equal(n Membership) bool {
	return m.Epoch == n.Epoch && m.InSyncMin == n.InSyncMin && slices.Equal(m.Replicas, n.Replicas) && slices.Equal(m.InSync, n.InSync)
}

// noBound is the bound of a partition without followers in sync.
const noBound = math.MaxInt64

// followers is what a leader knows of the other replicas, in its leader epoch. It decides how far all that are in sync
// vouch, and which of them should leave the ISR or join it. At most one change of the ISR is on its way. The zero value
// is a partition that has no other replica.
type followers struct {
	epoch    int32 // the partition epoch that the catalog showed last
	list     []follower
	inSync   int // replicas in sync by the catalog, the leader included
	min      int
	proposed bool // a change of the ISR, from epoch on, is on its way
}

// follower is one of them.
type follower struct {
	Member
	inSync bool // by the catalog
	// joining: this box has asked for its joining. It counts like one that is in sync until the answer is known: the
	// controller may have written it (the maximal ISR of KIP-497).
	joining bool
	// vouched is the offset before which it has flushed everything of this leader's log; -1 before its first word.
	vouched int64
	// When it last had all that the leader had: a follower that reaches the end that the log had at its last word was
	// caught up then (Partition.updateFollowerFetchState).
	caughtUp time.Duration
	toldEnd  int64
	toldAt   time.Duration
}

// begin forgets what an earlier leadership knew.
func (f *followers) begin(m Membership, now time.Duration) {
	*f = followers{epoch: -1}
	f.set(m, now)
}

// set takes a newer state of the catalog. What a replica has vouched for stays while its registration does.
func (f *followers) set(m Membership, now time.Duration) {
	if m.Epoch > f.epoch {
		f.proposed = false
	}
	old := f.list
	f.epoch, f.min, f.inSync = m.Epoch, m.InSyncMin, len(m.InSync)
	f.list = make([]follower, 0, len(m.Replicas))
	for _, r := range m.Replicas {
		next := follower{Member: r, vouched: -1, caughtUp: now, toldAt: now, inSync: slices.Contains(m.InSync, r.Broker)}
		if i := slices.IndexFunc(old, func(w follower) bool { return w.Member == r }); i >= 0 {
			w := old[i]
			next.vouched, next.toldEnd, next.toldAt = w.vouched, w.toldEnd, w.toldAt
			next.joining = f.proposed && w.joining && !next.inSync
			if w.inSync || !next.inSync {
				next.caughtUp = w.caughtUp
			}
		}
		f.list = append(f.list, next)
	}
}

// grows notes that the log, which ended at end, goes on: who had all of it was caught up until now, however long ago it said so. A
// follower says nothing while there is nothing new, where Kafka's fetches on; without this the first records after a quiet time
// would find everybody late.
func (f *followers) grows(end int64, now time.Duration) {
	for i := range f.list {
		if w := &f.list[i]; w.vouched >= end {
			w.caughtUp = now
		}
	}
}

// vouch notes what a follower has on stable storage, where the leader's log ends at end. It reports whether anything is
// known of such a member.
func (f *followers) vouch(m Member, offset, end int64, now time.Duration) bool {
	i := slices.IndexFunc(f.list, func(w follower) bool { return w.Member == m })
	if i < 0 || m.Epoch == 0 || offset > end {
		return false
	}
	w := &f.list[i]
	w.vouched = max(w.vouched, offset)
	switch {
	case w.vouched >= end:
		w.caughtUp = now
	case w.vouched >= w.toldEnd:
		w.caughtUp = max(w.caughtUp, w.toldAt)
	}
	w.toldEnd, w.toldAt = end, now
	return true
}

// lag is how many records the follower furthest behind has not vouched for, of those that are registered; 0 without any.
func (f *followers) lag(start, end int64) (lag int64) {
	for i := range f.list {
		if w := &f.list[i]; w.Member.Epoch != 0 {
			lag = max(lag, end-max(w.vouched, start))
		}
	}
	return lag
}

// bound is the offset before which all others that are in sync, or may be by now, vouch for everything.
func (f *followers) bound() int64 {
	bound := int64(noBound)
	for i := range f.list {
		if w := &f.list[i]; w.inSync || w.joining {
			bound = min(bound, w.vouched)
		}
	}
	return bound
}

// enough reports whether as many are in sync as must be for the high watermark to move.
func (f *followers) enough() bool { return f.inSync >= f.min || len(f.list) == 0 }

// propose decides on a change of the ISR: replicas that have been behind for longer than lagMax leave, and those that
// vouch for everything that is acknowledged, and for the beginning of this leader's epoch, join (Partition.maybeExpandIsr,
// maybeShrinkIsr). It returns the ISR without the leader. ok is false when nothing is to be changed, or a change is on its
// way: until settle, or until the catalog shows a newer state.
func (f *followers) propose(highWatermark, epochStart, end int64, now, lagMax time.Duration) (isr []Member, ok bool) {
	if f.proposed {
		return nil, false
	}
	for i := range f.list {
		w := &f.list[i]
		switch {
		case w.inSync && w.vouched < end && now-w.caughtUp > lagMax:
			ok = true
			continue
		case !w.inSync && w.Epoch != 0 && w.vouched >= max(highWatermark, epochStart):
			ok, w.joining = true, true
		case !w.inSync:
			continue
		}
		isr = append(isr, w.Member)
	}
	f.proposed = ok
	return isr, ok
}

// waits reports whether one that is in sync has yet to vouch for everything before end, and nothing is on its way that may take it out.
func (f *followers) waits(end int64) bool {
	return !f.proposed && slices.ContainsFunc(f.list, func(w follower) bool { return w.inSync && w.vouched < end })
}

// settle ends a proposal that the controller has refused for good: it is known that nothing was written.
func (f *followers) settle() {
	f.proposed = false
	for i := range f.list {
		f.list[i].joining = false
	}
}
