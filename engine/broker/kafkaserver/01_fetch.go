package kafkaserver

import (
	"errors"
	"slices"
	"sync"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/wire"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch (1), versions 4 to 18: records of a number of partitions as file spans, up to the high watermark, or the last
// stable offset for read_committed, which also gets the list of aborted transactions.
//
// A request that finds less than its minimum of bytes, and no error, is parked until a high watermark (not a log end)
// moves, leadership or health changes, or its time is over. Limits (KIP-74): the first partition that has something
// returns a whole batch even beyond the limits; the total is also bounded by fetch.max.bytes. Sessions (KIP-227) are in
// fetch_session.go. Leader epochs are checked (KIP-320), a diverging log is told where it parted (KIP-595), and a
// client at the wrong box is told the leader from version 16 on (KIP-951). Answers may begin before the fetched offset
// and end inside a batch. An offset between the high watermark and the log's end is no error.
//
// Goroutines: the first look runs on the connection's reading goroutine, later ones on its responder.
//
// On a connection of another box (ServeBox) it is a follower's: it is given everything up to the log's end, and waits for
// that to move, or for another request to come behind: the follower has more to ask. Where it fetches acknowledges nothing.
// In a session, of which boxes have their own apart from clients', it looks only at partitions with news (followed.go). The replica id
// in the request is not looked at, nor believed. A follower that is not in sync is given a throttled replica no faster than
// leader.replication.throttled.rate (KIP-73).
//
// A consumer may read from a follower (KIP-392, version 11 on), as far as that knows the high watermark. Where
// replica.selector.class says so, a leader sends a consumer that names its rack to an in-sync replica in it.
//
// Not done: quotas. zstd is served to old versions too:
// Kafka would have to open the batch to know, and those clients cannot have produced it.

// fetchPart is one partition of a fetch.
type fetchPart struct {
	name             string // up to version 12
	id               [16]byte
	partition        int32
	offset           int64
	maxBytes         int32
	leaderEpoch      int32
	lastFetchedEpoch int32
	cached           *sessionPartition // of the session, if there is one

	// What the last look found.
	code                                int16
	topic                               *catalog.Topic
	replica                             Replica
	view                                *replica.View
	highWatermark, lastStable, logStart int64
	span                                seglog.Span
	aborted                             []wire.FetchAborted
	diverging                           *wire.FetchEpochEnd
	preferred                           int32 // the replica to read from instead, or -1
	led                                 bool  // this box was found to lead: whoever waits for a leader is not left with a follower
	tell                                bool  // it is in the answer
	follows                             bool  // the partition is one of another box's session
	knownStart                          int64 // the log's start that this box knows of; -1: none
}

func (p *fetchPart) length() int { return p.span.Length }

// fetch is a Fetch request under way. It is pooled with everything that it holds.
type fetch struct {
	s       *Server
	r       *request
	version int16
	session *fetchSession
	id      int32 // of the session, in the answer
	full    bool  // the answer tells of all partitions

	maxBytes, minBytes int
	committed          bool
	rack               string        // the client's, where it is to be sent to a replica there
	deadline           time.Duration // monotonic; 0 means that it does not wait

	mu      sync.Mutex // protects the fields below: a parked fetch is woken by partitions, its timer, or the connection's end
	parts   []fetchPart
	snap    *catalog.Snapshot
	encoder wire.FetchEncoder
	waiter  *replica.Waiter
	timer   *time.Timer
	again   *time.Timer   // for what the throttle holds back
	held    time.Duration // after which it may give more of what the throttle holds back; 0: it holds nothing back
	over    bool          // answered or abandoned
	sent    func()
}

// fetchWaitMax is the longest that a fetch waits, whatever it asks for; Kafka's clients ask for half a second.
const fetchWaitMax = 10 * time.Minute

func (s *Server) handle01Fetch(r *request) {
	req := r.body.(*kmsg.FetchRequest)
	f, ok := s.fetches.Get().(*fetch)
	if !ok {
		f = &fetch{s: s}
		f.sent = f.release
	}
	f.r, f.version, f.over = r, r.version, false
	if code := f.open(req); code != codeNone {
		f.over = true
		f.encoder.Begin(r.version, r.correlation, code, 0, 0)
		parts, _ := f.encoder.End(nil)
		r.respondParts(parts, f.sent)
		return
	}
	f.maxBytes = max(min(int(req.MaxBytes), s.settings().FetchMaxBytes), 0)
	f.minBytes = max(min(int(req.MinBytes), f.maxBytes), 0)
	f.committed = req.IsolationLevel == 1
	if f.rack = ""; s.settings().RackAware && !r.conn.isBox() {
		f.rack = req.Rack
	}
	f.deadline = 0
	if req.MaxWaitMillis > 0 {
		f.deadline = r.now() + min(time.Duration(req.MaxWaitMillis)*time.Millisecond, fetchWaitMax)
	}
	f.look(false)
}

// open finds out what is asked for: by the request alone, or with its session.
func (f *fetch) open(req *kmsg.FetchRequest) int16 {
	sessions := f.r.conn.sessions()
	f.session, f.id, f.full = nil, 0, true
	f.parts = f.parts[:0]
	if f.version >= 7 {
		switch req.SessionEpoch {
		case sessionEpochInitial, sessionEpochFinal:
			if req.SessionID != 0 {
				sessions.end(req.SessionID)
			}
			if req.SessionEpoch == sessionEpochInitial {
				f.beginSession(req)
			}
		default:
			s, code := sessions.next(f.r.now(), req)
			if code != codeNone {
				return code
			}
			if s == nil {
				return codeNone // nothing is left to fetch
			}
			f.session, f.full = s, false
		}
	}
	if f.session != nil {
		f.id = f.session.id
		if f.session.followed == nil {
			f.parts = sessions.list(f.session, f.parts)
		}
		return codeNone
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			f.parts = append(f.parts, fetchPart{
				name: t.Topic, id: t.TopicID, partition: p.Partition, offset: p.FetchOffset, maxBytes: p.PartitionMaxBytes,
				leaderEpoch: p.CurrentLeaderEpoch, lastFetchedEpoch: p.LastFetchedEpoch, tell: true,
			})
		}
	}
	return codeNone
}

// beginSession begins a session. A box's ends with its connection, or when that begins another: before it does, for the two are not
// to count together.
func (f *fetch) beginSession(req *kmsg.FetchRequest) {
	c := f.r.conn
	if c.session != 0 {
		c.sessions().end(c.session)
		c.session = 0
	}
	if f.session = c.sessions().begin(f.r.now(), req); f.session != nil && c.isBox() {
		c.session = f.session.id
	}
}

// followed is set where only what has news is looked at.
func (f *fetch) followed() *followed {
	if f.session == nil {
		return nil
	}
	return f.session.followed
}

// rests says that a follower has all of a partition, and was told so.
func (p *fetchPart) rests() bool {
	return p.code == codeNone && p.diverging == nil && p.view != nil && p.offset == p.view.End && p.cached.told
}

// newToFollower says that a follower was told nothing of a partition in this epoch, or of another start of the log: who waits to be
// in sync, or for a deletion, waits for the answer.
func (p *fetchPart) newToFollower() bool {
	return p.follows && p.code == codeNone && p.logStart != p.knownStart
}

// look looks at all partitions and answers, or parks the request. last says that the time is over.
func (f *fetch) look(last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	if f.waiter != nil {
		f.waiter.Cancel()
		f.waiter = nil
	}
	f.lookNoMore()
	f.held = 0
	f.snap = f.s.deps.Catalog.Current()
	if f.followed() != nil {
		f.parts = f.r.conn.sessions().take(f.session, f.parts)
	}
	bytes, ready := f.readAll()
	if ready || bytes >= f.minBytes || last || len(f.parts) == 0 && f.followed() == nil || f.deadline <= f.r.now() {
		f.answer()
		return
	}
	f.releaseSpans()
	f.park()
}

// readAll looks at the partitions in order. ready says that there is an error or a divergence to tell at once.
func (f *fetch) readAll() (bytes int, ready bool) {
	left := f.maxBytes
	for i := range f.parts {
		p := &f.parts[i]
		f.read(p, left, bytes == 0)
		bytes += p.length()
		left = max(left-p.length(), 0)
		if p.code != codeNone || p.diverging != nil || p.preferred >= 0 || p.newToFollower() {
			ready = true
		}
	}
	return bytes, ready
}

// read looks at one partition. atLeastOne lets a batch through that is longer than what is left.
func (f *fetch) read(p *fetchPart, left int, atLeastOne bool) {
	p.highWatermark, p.lastStable, p.logStart, p.preferred = -1, -1, -1, -1
	p.span, p.aborted, p.diverging, p.replica, p.view = seglog.Span{}, nil, nil, nil, nil
	p.topic, p.code = findTopic(f.snap, p.name, p.id, f.version >= 13)
	if p.code != codeNone {
		return
	}
	if f.version >= 11 && !f.r.conn.isBox() {
		p.replica, p.view, p.code = f.s.findReplica(p.topic, p.partition)
	} else {
		p.replica, p.view, p.code = f.s.findLeader(p.topic, p.partition)
	}
	if p.code == codeNone && p.led && !p.view.Leader {
		p.code = codeNotLeaderOrFollower
	}
	if p.code != codeNone {
		return
	}
	p.led = p.view.Leader
	if p.code = f.s.codeOf(p.view.CheckEpoch(p.leaderEpoch)); p.code != codeNone {
		return
	}
	err := f.readView(p, left, atLeastOne)
	if errors.Is(err, seglog.ErrOutOfRange) {
		if newer := p.replica.View(); newer != p.view { // what was there was deleted since: a newer view decides
			p.view = newer
			err = f.readView(p, left, atLeastOne)
		}
	}
	if err != nil {
		p.span.Release()
		p.span, p.code = seglog.Span{}, f.s.codeOf(err)
		if p.code != codeOffsetOutOfRange {
			p.highWatermark, p.lastStable, p.logStart = -1, -1, -1
		}
	}
}

func (f *fetch) readView(p *fetchPart, left int, atLeastOne bool) (err error) {
	v := p.view
	p.highWatermark, p.lastStable, p.logStart = v.HighWatermark, v.LastStable, v.Start
	if f.r.conn.isBox() {
		return f.readFollower(p, left, atLeastOne)
	}
	if p.lastFetchedEpoch >= 0 && f.version >= 12 {
		parted, err := v.Diverging(p.lastFetchedEpoch, p.offset)
		if err != nil {
			return seglog.ErrOutOfRange
		}
		if parted != nil {
			p.diverging = &wire.FetchEpochEnd{Epoch: parted.Epoch, EndOffset: parted.End}
			return nil
		}
	}
	if p.offset < v.Start || p.offset > v.End {
		return seglog.ErrOutOfRange
	}
	if f.rack != "" && v.Leader && p.offset <= v.HighWatermark {
		if id, ok := f.s.nearer(f.snap, p.topic, p.partition, f.rack); ok {
			p.preferred = id
			return nil
		}
	}
	limit := v.HighWatermark
	if f.committed {
		limit = v.LastStable
		p.aborted = []wire.FetchAborted{}
	}
	if p.offset >= limit {
		return nil
	}
	p.span, err = v.Log.Read(p.offset, min(max(int(p.maxBytes), 0), left), limit, atLeastOne)
	if err != nil || !f.committed || p.span.Length == 0 {
		return err
	}
	rows, err := v.Log.Aborted(p.offset, limit)
	for _, row := range rows {
		p.aborted = append(p.aborted, wire.FetchAborted{ProducerID: row.ProducerID, FirstOffset: row.FirstOffset})
	}
	return err
}

// readFollower looks at one partition for a follower.
func (f *fetch) readFollower(p *fetchPart, left int, atLeastOne bool) error {
	at := replica.Position{Epoch: p.leaderEpoch, Offset: p.offset, LastEpoch: p.lastFetchedEpoch}
	left = min(max(int(p.maxBytes), 0), left)
	if rate, ok := f.throttled(p); ok {
		bytes, wait := f.s.throttle.Left(f.r.now(), rate)
		if bytes <= 0 {
			atLeastOne = false
			if f.held == 0 || wait < f.held {
				f.held = wait
			}
		}
		left = min(left, bytes)
	}
	a, err := p.view.Answer(at, left, atLeastOne)
	switch {
	case err != nil:
		return err
	case a.Beyond:
		return seglog.ErrOutOfRange
	case a.Diverging != nil:
		p.diverging = &wire.FetchEpochEnd{Epoch: a.Diverging.Epoch, EndOffset: a.Diverging.End}
	}
	p.span = a.Span
	return nil
}

// throttled reports whether a follower is given no more of a partition than leader.replication.throttled.rate lets through: where
// its topic says so, and the follower is not in sync (ReplicaManager.shouldLeaderThrottle).
func (f *fetch) throttled(p *fetchPart) (rate int64, ok bool) {
	if p.topic == nil || !f.r.conn.isBox() || !p.topic.Settings.LeaderThrottled.Has(p.partition, f.s.cfg.BrokerID) {
		return 0, false
	}
	cp := p.topic.Partition(p.partition)
	if cp == nil || slices.Contains(cp.ISR, f.r.conn.broker) {
		return 0, false
	}
	return f.snap.Settings.Int("leader.replication.throttled.rate"), true
}

func (f *fetch) lookNoMore() {
	if f.again != nil {
		f.again.Stop()
		f.again = nil
	}
}

func (f *fetch) releaseSpans() {
	for i := range f.parts {
		f.parts[i].span.Release()
		f.parts[i].span = seglog.Span{}
	}
}

// park waits for partitions to move. mu is held, so that whoever wakes it waits until everything is set up.
func (f *fetch) park() {
	if f.timer == nil {
		wait := f.deadline - f.r.now()
		f.timer = time.AfterFunc(wait, func() { f.r.later(func() { f.look(true) }) })
		if !f.r.onClose(f.abandon) {
			f.timer.Stop()
			f.timer, f.over = nil, true
			f.r.abandon()
			return
		}
	}
	wake := func() { f.r.later(func() { f.look(false) }) }
	if f.held > 0 {
		f.again = time.AfterFunc(f.held, wake)
	}
	if list := f.followed(); list != nil {
		f.r.onNext(func() { f.r.later(func() { f.look(true) }) })
		f.watch(list)
		list.park(wake)
		return
	}
	f.waiter = replica.NewWaiter(wake)
	if f.r.conn.isBox() {
		f.waiter = replica.NewFollowerWaiter(wake)
		f.r.onNext(func() { f.r.later(func() { f.look(true) }) })
	}
	n := 0
	for i := range f.parts {
		p := &f.parts[i]
		if p.replica == nil {
			continue
		}
		if n++; n > f.s.limits.FetchPartitionsMax {
			break
		}
		p.replica.Await(f.r.context(), p.view, f.waiter)
	}
}

// watch has all partitions noted when they move that were looked at.
func (f *fetch) watch(list *followed) {
	for i := range f.parts {
		if p := &f.parts[i]; p.replica != nil {
			list.watch(f.r.context(), p.cached, p.replica, p.view)
		}
	}
}

// abandon ends a parked fetch whose connection has closed. The fetch is left to the collector: a wake-up may be on its
// way.
func (f *fetch) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	f.over = true
	f.unpark()
	f.releaseSpans()
	f.r.abandon()
}

func (f *fetch) unpark() {
	f.lookNoMore()
	if f.waiter != nil {
		f.waiter.Cancel()
		f.waiter = nil
	}
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	if list := f.followed(); list != nil {
		list.unpark()
	}
}

// answer encodes what was found. mu is held.
func (f *fetch) answer() {
	parked := f.timer != nil
	f.over = true
	f.unpark()
	if f.session != nil {
		f.r.conn.sessions().settle(f.session, f.parts, !f.full)
	}
	if list := f.followed(); list != nil {
		f.watch(list)
		list.giveBack(f.parts, (*fetchPart).rests)
	}
	for i := range f.parts {
		p := &f.parts[i]
		if p.span.Length == 0 {
			continue
		}
		if !f.r.conn.isBox() {
			p.replica.Sent(p.span.Length)
		} else if rate, ok := f.throttled(p); ok {
			f.s.throttle.Took(f.r.now(), rate, p.span.Length)
		}
	}
	parts, err := f.encode()
	if err != nil {
		f.releaseSpans()
		f.r.closeConn(err.Error())
		return
	}
	if parked {
		f.r.respondParts(parts, f.releaseSpans) // a late wake-up may still hold this fetch: it is not used again
		return
	}
	f.r.respondParts(parts, f.sent)
}

// release gives the fetch back to the pool, once its answer was sent.
func (f *fetch) release() {
	f.releaseSpans()
	clear(f.parts)
	f.r, f.session, f.snap = nil, nil, nil
	if cap(f.parts) <= fetchKeepMax {
		f.s.fetches.Put(f)
	}
}

// fetchKeepMax is the number of partitions up to which a fetch is kept for the next request.
const fetchKeepMax = 256
