package fetcher

import (
	"errors"
	"maps"
	"slices"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/platform/clock"
	"cairn/platform/observe"
)

type kind uint8

const (
	msgFollow kind = iota
	msgRegistered
	msgVouched
	msgAnswered
	msgCopied
)

type message struct {
	kind        kind
	inSync      bool
	leader      int32
	brokerEpoch int64
	replica     *replica.Replica
	lane        lane
	round       int
	answers     []Answer
	err         error
	copied      *replica.CopyRequest
	part        *part
}

// owner is the Step behind Fetcher.
type owner struct {
	cfg         Config
	deps        Deps
	post        func(message)
	now         time.Duration
	brokerEpoch int64
	parts       map[*replica.Replica]*part
	sources     map[lane]*source
	telling     []*part       // may vouch for more
	unheard     []*part       // have vouched without effect; looked at again at tellAt
	tellAt      time.Duration // 0: never
	throttle    replica.Throttle
	bytes       *observe.Counter
}

func newOwner(cfg Config, deps Deps) *owner {
	return &owner{
		cfg: cfg, deps: deps, parts: map[*replica.Replica]*part{}, sources: map[lane]*source{},
		bytes: deps.Observer.Metrics.Counter("cairn_replication_received_bytes_total"),
	}
}

// Step takes what arrived, asks whoever may be asked, and tells what is to be told.
func (o *owner) Step(now clock.Now, batch []message) time.Duration {
	o.now = now.Mono
	for i := range batch {
		m := &batch[i]
		switch m.kind {
		case msgFollow:
			o.follow(m.replica, m.leader, m.inSync)
		case msgRegistered:
			o.registered(m.brokerEpoch)
		case msgVouched:
			if p := o.parts[m.replica]; p != nil {
				o.toTell(p)
			}
		case msgAnswered:
			o.answered(m.lane, m.round, m.answers, m.err)
		case msgCopied:
			o.copied(m.part, m.copied)
		}
	}
	wake := o.tell()
	for _, s := range o.inOrder() {
		if at := o.ask(s); at > 0 && (wake == 0 || at < wake) {
			wake = at
		}
	}
	return wake
}

// inOrder are the sources by their lanes: one seed gives one trace.
func (o *owner) inOrder() []*source {
	return slices.SortedFunc(maps.Values(o.sources), func(a, b *source) int { return compareLanes(a.lane, b.lane) })
}

func (o *owner) follow(r *replica.Replica, leader int32, inSync bool) {
	p, from := o.parts[r], lane{leader, !inSync}
	if p != nil && p.source.lane != from { // what is on its way there is of no use any more
		o.leave(p)
		p = nil
	}
	if leader == NoLeader || leader == o.cfg.BrokerID {
		return
	}
	if p == nil {
		s := o.sources[from]
		if s == nil {
			s = &source{lane: from, whole: true}
			o.sources[from] = s
		}
		p = &part{key: keyOf(r), replica: r, source: s, since: s.asked + 1}
		i, there := s.find(p.key)
		if there { // a topic's old incarnation, of the same id: it is closed, or about to be
			delete(o.parts, s.order[i].replica)
			s.unname(s.order[i])
			s.order[i] = p
		} else {
			s.order = slices.Insert(s.order, i, p)
		}
		o.parts[r] = p
	}
	p.inSync, p.retryAt = inSync, 0
	p.source.change(p)
	o.toTell(p)
}

// toTell has a part's voucher looked at.
func (o *owner) toTell(p *part) {
	if !p.telling {
		p.telling = true
		o.telling = append(o.telling, p)
	}
}

// leave ends the following of a replica. What its source is asked, or copies, comes to its end.
func (o *owner) leave(p *part) {
	delete(o.parts, p.replica)
	p.source.unname(p)
	if i, there := p.source.find(p.key); there && p.source.order[i] == p {
		p.source.order = slices.Delete(p.source.order, i, i+1)
	}
	o.drop(p.source)
}

// drop forgets a source that nothing follows any more.
func (o *owner) drop(s *source) {
	if len(s.order) == 0 && s.asked == s.answered && s.copying == 0 && o.sources[s.lane] == s {
		delete(o.sources, s.lane)
	}
}

// registered notes the epoch that vouchers go out under. While this box was not registered nobody waited for it, and what its leaders
// let go of then it has not followed: it vouches again for what it has asked about since. Another registration may be all that it hears
// of that, and the replicas stay in their leader epochs.
func (o *owner) registered(epoch int64) {
	if epoch == o.brokerEpoch {
		return
	}
	o.brokerEpoch = epoch
	if epoch == 0 {
		return // nothing is said now
	}
	for _, s := range o.inOrder() {
		for _, p := range s.order {
			p.heard, p.since = false, s.asked+1
			s.unname(p)
			s.change(p)
		}
	}
}

// retriesTogether is the part of Backoff within which what is to be asked again goes into one question.
const retriesTogether = 8

// ask puts the next question to a source: when the last one is answered and taken, or when there is a part that the
// question on its way does not name. It returns when there is something to ask later.
func (o *owner) ask(s *source) (wake time.Duration) {
	on := s.asked - s.answered
	switch {
	case on > 1 || on == 0 && s.copying > 0:
		return 0
	case len(s.order) == 0:
		o.drop(s)
		return 0
	case s.retryAt > o.now:
		return s.retryAt
	}
	s.retryDue(o.now, o.cfg.Backoff/retriesTogether)
	q := Question{BytesMax: o.cfg.BytesMax, Behind: s.behind}
	o.name(s, &q)
	if s.named == 0 || on == 1 && len(q.Parts) == 0 {
		return s.retryPartAt
	}
	if q.Wait = o.cfg.WaitMax; s.pending > 0 {
		q.Wait = min(q.Wait, o.cfg.WaitPending)
	}
	q.Whole, s.whole = s.whole, false
	if !q.Whole {
		q.Gone = s.gone
	}
	s.gone = nil
	s.asked++
	from, round, post := s.lane, s.asked, o.post
	o.deps.Leaders.Fetch(from.broker, q, func(answers []Answer, err error) {
		post(message{kind: msgAnswered, lane: from, round: round, answers: answers, err: err})
	})
	return s.retryPartAt
}

// name looks at the parts that have changed, and puts those into the question that are asked about from elsewhere now.
func (o *owner) name(s *source, q *Question) {
	if s.whole {
		for _, p := range s.order {
			s.unname(p)
			s.change(p)
		}
	}
	throttled := s.throttled
	s.throttled = nil
	for _, p := range throttled {
		s.change(p)
	}
	slices.SortFunc(s.changed, func(a, b *part) int { return a.key.Compare(b.key) })
	for _, p := range s.changed {
		p.changed = false
		if o.parts[p.replica] != p || p.source != s {
			continue // it follows nobody any more, or another
		}
		v := p.replica.View()
		switch {
		case p.copying && !p.moves:
			continue // it has nothing to come back for: named anew it would be told anew, and so on
		case p.copying || v.Err != nil:
			s.unname(p) // it is asked about when it has been copied; the topics room says what becomes of the other
			continue
		case v.Leader: // it has not heard yet that it leads no more
			p.retryAt = max(p.retryAt, o.now+o.cfg.Backoff)
		}
		if rate, ok := o.throttled(p); ok && p.retryAt <= o.now {
			if left, wait := o.throttle.Left(o.now, rate); left <= 0 {
				p.retryAt = o.now + wait
			} else {
				s.throttled = append(s.throttled, p)
				q.BytesMax = min(q.BytesMax, max(left, throttledBytesMin))
			}
		}
		if p.retryAt > o.now {
			s.unname(p)
			s.retry(p, p.retryAt)
			continue
		}
		at, known := v.Position(), p.named
		if known = known && at == p.asked; !known {
			q.Parts = append(q.Parts, Part{p.key.Topic, p.key.Partition, at, v.LeadStart})
		}
		s.name(p, at, v.HighWatermark < v.End)
	}
	clear(s.changed)
	s.changed = s.changed[:0]
}

// answered hands what a source has said to the replicas.
func (o *owner) answered(from lane, round int, answers []Answer, err error) {
	s := o.sources[from]
	if s == nil || round <= s.answered {
		return
	}
	s.answered = round
	if err != nil {
		s.retryAt, s.whole = o.now+o.cfg.Backoff, true
		o.deps.Observer.Log.Debug("a leader was not asked", "broker", from.broker, "error", err)
		o.drop(s)
		return
	}
	for i := range answers {
		a := &answers[i]
		at, there := s.find(Key{a.Topic, a.Partition})
		if !there {
			continue
		}
		p := s.order[at]
		if p.copying {
			p.missed = true
			continue
		}
		if a.Err == nil {
			p.round = round
			o.copy(p, a)
			continue
		}
		p.retryAt = o.now + o.cfg.Backoff
		s.change(p)
		o.deps.Observer.Log.Debug("a leader refuses a follower", "broker", from.broker, "topic", p.replica.TopicPartition().Topic,
			"partition", a.Partition, "error", a.Err)
	}
	o.drop(s)
}

func (o *owner) copy(p *part, a *Answer) {
	p.copying, p.moves = true, len(a.Batches) > 0 || a.Diverging != nil || a.Beyond
	p.source.copying++
	p.source.change(p)
	o.bytes.Add(len(a.Batches))
	if rate, ok := o.throttled(p); ok {
		o.throttle.Took(o.now, rate, len(a.Batches))
	}
	post := o.post
	p.replica.Copy(&replica.CopyRequest{Asked: a.Position, Answer: a.Answer, Batches: a.Batches, Behind: p.source.behind, Done: func(c *replica.CopyRequest) {
		post(message{kind: msgCopied, part: p, copied: c})
	}})
}

// throttled reports whether a partition is copied no faster than a rate (ReplicaFetcherThread.shouldFollowerThrottle).
func (o *owner) throttled(p *part) (rate int64, ok bool) {
	if o.deps.Throttled == nil || p.inSync {
		return 0, false
	}
	return o.deps.Throttled(p.replica.TopicPartition().Topic, p.key.Partition)
}

// copied goes on after a replica has taken an answer, or refused it.
func (o *owner) copied(p *part, c *replica.CopyRequest) {
	p.copying = false
	p.source.copying--
	if p.missed || c.Stale { // the leader believes that this box knows what it has not taken
		p.missed = false
		p.source.unname(p)
	}
	p.source.change(p)
	tp := p.replica.TopicPartition()
	switch {
	case c.Err == nil && !c.Stale && !p.heard && p.round >= p.since:
		p.heard = true
		o.toTell(p)
	case c.Err == nil:
	case errors.Is(c.Err, partition.ErrFenced), errors.Is(c.Err, replica.ErrClosed): // the topics room says what follows
		p.retryAt = o.now + o.cfg.Backoff
	default:
		p.retryAt = o.now + 5*o.cfg.Backoff
		o.deps.Observer.Log.Error("a follower cannot copy", "topic", tp.Topic, "partition", tp.Partition, "error", c.Err)
	}
	o.drop(p.source)
}

// tellsMin is how often something is said in each leader epoch and registration, at growing distances: 15 s in all where TellInterval is one.
// A leader that has nothing new to acknowledge shows no effect, and would find this box late.
const tellsMin = 5

// tell says the vouchers that are news, and once in a while those that have had no effect: the leader may not have known this
// box's registration, or the word was lost. It returns when that is due.
func (o *owner) tell() time.Duration {
	look := o.telling
	o.telling = nil
	if o.tellAt > 0 && o.now >= o.tellAt {
		for _, p := range o.unheard {
			if p.unheard = false; !p.telling {
				look = append(look, p)
			}
		}
		o.unheard, o.tellAt = nil, 0
	}
	byBroker := map[int32][]Voucher{}
	for _, p := range look {
		p.telling = false
		if o.parts[p.replica] != p {
			continue
		}
		v := p.replica.View()
		if v.Vouches < 0 || v.Err != nil || o.brokerEpoch == 0 || !p.heard {
			continue
		}
		voucher := Voucher{p.key.Topic, p.key.Partition, partition.Member{Broker: o.cfg.BrokerID, Epoch: o.brokerEpoch}, v.LeaderEpoch, v.Vouches}
		if voucher.Epoch != p.told.Epoch || voucher.Member != p.told.Member {
			p.tells = 0
		}
		unheard, pause := !p.inSync || v.HighWatermark < v.Vouches, o.cfg.TellInterval
		if !unheard && p.tells > 0 {
			pause <<= min(p.tells, tellsMin) - 1
		}
		if voucher != p.told || (unheard || p.tells < tellsMin) && o.now-p.toldAt >= pause {
			byBroker[p.source.broker] = append(byBroker[p.source.broker], voucher)
			p.told, p.toldAt, p.tells = voucher, o.now, p.tells+1
		}
		if (unheard || p.tells < tellsMin) && !p.unheard {
			p.unheard = true
			o.unheard = append(o.unheard, p)
		}
	}
	if len(o.unheard) > 0 && o.tellAt == 0 {
		o.tellAt = o.now + o.cfg.TellInterval
	}
	for _, broker := range slices.Sorted(maps.Keys(byBroker)) {
		list := byBroker[broker]
		slices.SortFunc(list, func(a, b Voucher) int {
			return Key{a.Topic, a.Partition}.Compare(Key{b.Topic, b.Partition})
		})
		o.deps.Leaders.Vouch(broker, list)
	}
	return o.tellAt
}
