package keeper

import (
	"slices"
	"time"

	"cairn/engine/ensemble/znode"
)

// sessions are the clients' sessions with their deadlines, in buckets of one tick (ExpiryQueue): a touch that leaves
// the session in its bucket costs one look-up.
type sessions struct {
	tick    time.Duration
	byID    map[int64]*timer
	buckets map[int64]map[int64]struct{} // number of the tick → sessions
	next    int64                        // the next tick that was not looked at
	due     []int64                      // expired, by deadline and id, not proposed yet
	voices  voices
}

type timer struct {
	timeout time.Duration
	box     uint64
	bucket  int64
	closing bool // was due: no touch helps any more
	queued  bool // stands in due
}

func newSessions(cfg Config, now time.Duration) sessions {
	return sessions{
		tick: cfg.Tick, byID: make(map[int64]*timer), buckets: make(map[int64]map[int64]struct{}), next: int64(now/cfg.Tick) + 1,
		voices: newVoices(cfg, now),
	}
}

// bucketOf is the tick at which something ends that may last until at: the next one, and never one that has passed.
func (s *sessions) bucketOf(at time.Duration) int64 { return max(int64(at/s.tick)+1, s.next) }

func (s *sessions) open(info znode.SessionInfo, now time.Duration) {
	t := s.byID[info.ID]
	if t == nil {
		t = &timer{}
		s.byID[info.ID] = t
	} else {
		s.leave(info.ID, t)
	}
	t.timeout = time.Duration(info.TimeoutMs) * time.Millisecond
	t.box, t.closing = info.Box, false
	s.enter(info.ID, t, s.bucketOf(now+t.timeout))
}

func (s *sessions) close(id int64) {
	if t := s.byID[id]; t != nil {
		s.leave(id, t)
		delete(s.byID, id)
	}
}

func (s *sessions) touch(id int64, now time.Duration) bool {
	t := s.byID[id]
	if t == nil || t.closing {
		return false
	}
	if b := s.bucketOf(now + t.timeout); b > t.bucket { // time does not go back
		s.leave(id, t)
		s.enter(id, t, b)
	}
	return true
}

func (s *sessions) enter(id int64, t *timer, bucket int64) {
	t.bucket = bucket
	b := s.buckets[bucket]
	if b == nil {
		b = make(map[int64]struct{})
		s.buckets[bucket] = b
	}
	b[id] = struct{}{}
}

func (s *sessions) leave(id int64, t *timer) {
	b := s.buckets[t.bucket]
	delete(b, id)
	if len(b) == 0 {
		delete(s.buckets, t.bucket)
	}
}

// expired appends an entry for every session whose tick has come, until there are most. One that was proposed and is
// not closed is proposed again a tick later.
func (s *sessions) expired(propose []*znode.Entry, most int, now time.Duration) []*znode.Entry {
	if last := int64(now / s.tick); len(s.buckets) > 0 && s.next <= last {
		var ticks []int64
		for tick := range s.buckets {
			if tick <= last {
				ticks = append(ticks, tick)
			}
		}
		slices.Sort(ticks)
		s.next = last + 1
		for _, tick := range ticks {
			s.ripe(tick, now)
		}
	} else {
		s.next = max(s.next, last+1)
	}
	n := 0
	for ; n < len(s.due) && len(propose) < most; n++ {
		id := s.due[n]
		t := s.byID[id]
		if t == nil {
			continue
		}
		t.queued = false
		if !t.closing { // opened again since
			continue
		}
		propose = append(propose, &znode.Entry{
			Kind: znode.KindExpireSession, Flags: znode.FlagInternal, Session: id, Box: t.box,
		})
	}
	s.due = slices.Delete(s.due, 0, n)
	if len(s.due) == 0 {
		s.due = nil
	}
	return propose
}

// hear tells that a box was heard. When it comes back from a silence, all that it holds begins anew: it may have answered
// their clients until now.
func (s *sessions) hear(box uint64, now time.Duration) {
	if !s.voices.hear(box, now) {
		return
	}
	for id, t := range s.byID {
		if t.box == box {
			s.touch(id, now)
		}
	}
}

// ripe moves the sessions of a tick to due, and into the next bucket, where they are found if the proposal is lost. One
// whose box is silent waits until nobody can have answered its client for its timeout.
func (s *sessions) ripe(tick int64, now time.Duration) {
	ids := make([]int64, 0, len(s.buckets[tick]))
	for id := range s.buckets[tick] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	delete(s.buckets, tick)
	for _, id := range ids {
		t := s.byID[id]
		if until := s.voices.until(t.box, now); !t.closing && until != 0 && int64((until+t.timeout)/s.tick) >= tick {
			s.enter(id, t, s.bucketOf(until+t.timeout))
			continue
		}
		if !t.queued {
			s.due = append(s.due, id)
		}
		t.closing, t.queued = true, true
		s.enter(id, t, s.next)
	}
}

// wake is when the next bucket ends, or 0.
func (s *sessions) wake() time.Duration {
	if len(s.due) > 0 {
		return 1 // at once
	}
	first := int64(0)
	for tick := range s.buckets {
		if first == 0 || tick < first {
			first = tick
		}
	}
	return time.Duration(first) * s.tick
}

// Buckets shows the sessions by the tick at which they expire, for the four-letter word dump: monotonic times, rising,
// each with the sessions' ids, rising.
func (k *Keeper) Buckets() (at []time.Duration, ids [][]int64) {
	var ticks []int64
	for tick := range k.buckets {
		ticks = append(ticks, tick)
	}
	slices.Sort(ticks)
	for _, tick := range ticks {
		var in []int64
		for id := range k.buckets[tick] {
			in = append(in, id)
		}
		slices.Sort(in)
		at, ids = append(at, time.Duration(tick)*k.tick), append(ids, in)
	}
	return at, ids
}
