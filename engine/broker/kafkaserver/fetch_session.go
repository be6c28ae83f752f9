package kafkaserver

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"cairn/engine/broker/replica"
	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch sessions (KIP-227): a client names its partitions once, and from then on only says what changed; the answers
// hold only partitions that have something to say. The server keeps the session under an id and an epoch that counts
// the requests. A client that gets id 0 in an answer has no session and names everything each time.

// Epochs with a meaning of their own (FetchMetadata.java).
const (
	sessionEpochInitial int32 = 0  // begin a session
	sessionEpochFinal   int32 = -1 // no session, or the end of one
)

// sessionIdleMin is how long a session must have been unused before another takes its place in a full cache
// (min.incremental.fetch.session.eviction.ms).
const sessionIdleMin = 2 * time.Minute

// partitionKey names a partition within a session: by topic id if the session uses ids, else by name.
type partitionKey struct {
	topic     string
	id        [16]byte
	partition int32
}

// sessionPartition is what a session remembers of a partition: what the client asked, and what it was told last.
type sessionPartition struct {
	key              partitionKey
	offset           int64
	maxBytes         int32
	leaderEpoch      int32
	lastFetchedEpoch int32

	highWatermark, lastStable, logStart int64
	told                                bool  // false: whatever there is, the client is told
	knownStart                          int64 // the log's start as another box knows it, -1 before it was told

	// Of a session of another box, under followed.mu.
	noted, held, gone bool
	watcher           *replica.Waiter // at the replica; nil when it has woken, or there is none
}

// fetchSession is one session. Its partitions are touched under fetchSessions.mu only.
type fetchSession struct {
	id         int32
	epoch      int32 // of the next request
	byID       bool
	partitions map[partitionKey]*list.Element // of order
	order      *list.List                     // *sessionPartition; the front is served first
	used       time.Duration
	place      *list.Element // in fetchSessions.age
	followed   *followed     // of another box; nil of a client
}

// fetchSessions is a bounded cache of sessions. Clients have one, and other boxes another: a follower that gets no session copies
// nothing, so that it must not lack one for what clients hold (Kafka's privileged sessions put others out, FetchSession.scala), and
// no client that guesses an id comes to a follower's session.
type fetchSessions struct {
	max, partitionsMax int
	boxes              bool // the sessions are other boxes'
	draw               func() int32

	mu         sync.Mutex // protects the fields below and all sessions; nothing is called while it is held
	byID       map[int32]*fetchSession
	age        *list.List // *fetchSession, the one unused longest in front
	partitions int
}

func newFetchSessions(l limits.Kafka, draw func() int32) *fetchSessions {
	return &fetchSessions{max: l.FetchSessionsMax, partitionsMax: l.FetchSessionPartitionsMax, draw: draw, byID: map[int32]*fetchSession{}, age: list.New()}
}

func newFollowSessions(l limits.Kafka, draw func() int32) *fetchSessions {
	f := newFetchSessions(l, draw)
	f.max, f.partitionsMax, f.boxes = l.FollowSessionsMax, l.FollowSessionPartitionsMax, true
	return f
}

// sessions is the cache that the connection's sessions are in, which whoever handed it over decides, and nothing that is said on it.
func (c *conn) sessions() *fetchSessions {
	if c.isBox() {
		return c.server.follows
	}
	return c.server.sessions
}

func (f *fetchSessions) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byID)
}

// begin makes a session of what a full request names, or returns nil if there is no room: the client fetches without.
func (f *fetchSessions) begin(now time.Duration, req *kmsg.FetchRequest) *fetchSession {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n == 0 || f.max == 0 || n > f.partitionsMax {
		return nil
	}
	for len(f.byID) >= f.max || f.partitions+n > f.partitionsMax {
		oldest, ok := f.age.Front().Value.(*fetchSession)
		if !ok || now-oldest.used < sessionIdleMin {
			return nil
		}
		f.remove(oldest)
	}
	s := &fetchSession{epoch: 1, byID: req.Version >= 13, used: now, partitions: map[partitionKey]*list.Element{}, order: list.New()}
	if f.boxes {
		s.followed = &followed{}
	}
	for s.id <= 0 || f.byID[s.id] != nil {
		s.id = f.draw() & 0x7fffffff
	}
	f.byID[s.id] = s
	s.place = f.age.PushBack(s)
	if !f.update(s, req) {
		f.remove(s)
		return nil
	}
	return s
}

// next finds the session of an incremental request and brings it up to date. The code says why there is none; a session
// that has lost its last partition is over, and nil without a code.
func (f *fetchSessions) next(now time.Duration, req *kmsg.FetchRequest) (*fetchSession, int16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.byID[req.SessionID]
	switch {
	case s == nil:
		return nil, codeFetchSessionIDNotFound
	case s.epoch != req.SessionEpoch:
		return nil, codeInvalidFetchSessionEpoch
	case s.byID != (req.Version >= 13):
		return nil, codeFetchSessionTopicIDError
	}
	f.forget(s, req)
	if !f.update(s, req) {
		f.remove(s) // too many partitions, or none that could be: the client begins anew, and gets no session
		return nil, codeFetchSessionIDNotFound
	}
	if s.order.Len() == 0 {
		f.remove(s)
		return nil, codeNone
	}
	s.used = now
	if s.epoch++; s.epoch <= 0 {
		s.epoch = 1
	}
	f.age.MoveToBack(s.place)
	return s, codeNone
}

// end forgets a session that its client is done with.
func (f *fetchSessions) end(id int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.byID[id]; s != nil {
		f.remove(s)
	}
}

func (f *fetchSessions) remove(s *fetchSession) {
	delete(f.byID, s.id)
	f.age.Remove(s.place)
	f.partitions -= s.order.Len()
	if s.followed != nil {
		s.followed.end(s)
	}
}

func (f *fetchSessions) forget(s *fetchSession, req *kmsg.FetchRequest) {
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		for _, p := range t.Partitions {
			key := partitionKey{t.Topic, t.TopicID, p}
			if e := s.partitions[key]; e != nil {
				if s.followed != nil {
					s.followed.forget(e.Value.(*sessionPartition))
				}
				s.order.Remove(e)
				delete(s.partitions, key)
				f.partitions--
			}
		}
	}
}

// update notes what the request says of its partitions. It reports false when the cache is full, or a name is too long.
func (f *fetchSessions) update(s *fetchSession, req *kmsg.FetchRequest) bool {
	for i := range req.Topics {
		t := &req.Topics[i]
		if len(t.Topic) > topicNameMax {
			return false // no topic's name, and names are not what is counted
		}
		name := "" // a copy: the request's is borrowed
		for j := range t.Partitions {
			in := &t.Partitions[j]
			key := partitionKey{t.Topic, t.TopicID, in.Partition}
			e := s.partitions[key]
			if e == nil {
				if f.partitions >= f.partitionsMax {
					return false
				}
				if name == "" {
					name = strings.Clone(t.Topic)
				}
				key.topic = name
				e = s.order.PushBack(&sessionPartition{key: key})
				s.partitions[key] = e
				f.partitions++
			}
			p := e.Value.(*sessionPartition)
			if p.leaderEpoch != in.CurrentLeaderEpoch {
				p.told = false // a follower does not know before that its log agrees with this epoch's, also where there is no news
			}
			p.offset, p.maxBytes = in.FetchOffset, in.PartitionMaxBytes
			p.leaderEpoch, p.lastFetchedEpoch, p.knownStart = in.CurrentLeaderEpoch, in.LastFetchedEpoch, in.LogStartOffset
			if s.followed != nil {
				s.followed.note(p, false)
			}
		}
	}
	return true
}

// take appends what a look of another box's request is about: what has news.
func (f *fetchSessions) take(s *fetchSession, to []fetchPart) []fetchPart {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.followed.take(to, func(p *sessionPartition) {
		part := partOf(p)
		part.follows, part.knownStart = true, p.knownStart
		to = append(to, part)
	})
	return to
}

// list appends what a session's request asks for, in the order in which it is to be served.
func (f *fetchSessions) list(s *fetchSession, to []fetchPart) []fetchPart {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := s.order.Front(); e != nil; e = e.Next() {
		to = append(to, partOf(e.Value.(*sessionPartition)))
	}
	return to
}

func partOf(p *sessionPartition) fetchPart {
	return fetchPart{
		name: p.key.topic, id: p.key.id, partition: p.key.partition, cached: p,
		offset: p.offset, maxBytes: p.maxBytes, leaderEpoch: p.leaderEpoch, lastFetchedEpoch: p.lastFetchedEpoch,
	}
}

// settle decides which partitions an incremental answer tells of (FetchSession.CachedPartition), notes what it tells,
// and moves partitions that gave records behind the others, so that none starves (KIP-74).
func (f *fetchSessions) settle(s *fetchSession, parts []fetchPart, incremental bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range parts {
		p := &parts[i]
		c := p.cached
		p.tell = !incremental || !c.told || p.length() > 0 || p.code != codeNone || p.diverging != nil || p.preferred >= 0 ||
			p.highWatermark != c.highWatermark || p.lastStable != c.lastStable || p.logStart != c.logStart
		if !p.tell {
			continue
		}
		c.highWatermark, c.lastStable, c.logStart = p.highWatermark, p.lastStable, p.logStart
		c.told = p.code == codeNone && p.diverging == nil // after an error, or a cut, the next answer tells whatever there is
		if c.told {
			c.knownStart = p.logStart
		}
		if p.length() > 0 {
			if e := s.partitions[c.key]; e != nil && e.Value == c {
				s.order.MoveToBack(e)
			}
		}
	}
}
