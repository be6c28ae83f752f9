package fetcher

import (
	"cmp"
	"slices"
	"time"

	"cairn/engine/broker/replica"
)

func keyOf(r *replica.Replica) Key { return Key{r.TopicID(), r.TopicPartition().Partition} }

// part is one replica that follows.
type part struct {
	key     Key
	replica *replica.Replica
	source  *source
	inSync  bool
	copying bool
	missed  bool    // another answer came meanwhile, and was not taken
	moves   bool    // what is copied moves its end: it is not asked about from where it was
	told    Voucher // what was said last, at toldAt
	toldAt  time.Duration
	tells   int  // how often something was said in its leader epoch and registration
	telling bool // in owner.telling
	unheard bool // in owner.unheard

	retryAt time.Duration    // it is asked about no sooner
	changed bool             // in source.changed
	retries bool             // in source.retrying
	round   int              // of the question whose answer is copied
	since   int              // the first question that is put since it follows here under this registration
	heard   bool             // and one of those was answered, and taken: it knows where its leader's log begins
	asked   replica.Position // where it is asked about from
	named   bool             // it is asked about
	pending bool             // and is not known to be acknowledged to its end
}

// lane is a broker that leads something here, and whether it is asked about replicas that are not in sync with it. Those have questions of
// their own: what a replica lacks is much, often on the leader's disk alone, and whoever waits for acks=all would wait behind it.
type lane struct {
	broker int32
	behind bool
}

func compareLanes(a, b lane) int {
	switch {
	case a.broker != b.broker || a.behind == b.behind:
		return cmp.Compare(a.broker, b.broker)
	case b.behind:
		return -1
	}
	return 1
}

// source is what is asked in one lane.
type source struct {
	lane
	order    []*part // by key: one seed gives one trace
	asked    int     // questions so far
	answered int     // and those that were answered: at most two less
	copying  int     // parts of answers that are not taken yet
	retryAt  time.Duration

	// What is asked is kept as it changes: nothing is done for a partition at which nothing happens.
	whole          bool    // the next question says everything
	changed        []*part // to be looked at for the next question
	gone           []Key   // asked about by the questions before
	throttled      []*part // asked about, and only as much as the throttle leaves
	named, pending int     // parts
	retrying       []*part // with a retryAt; the first of them at retryPartAt, 0: none
	retryPartAt    time.Duration
}

// find is where a key stands in the order.
func (s *source) find(k Key) (int, bool) {
	return slices.BinarySearchFunc(s.order, k, func(p *part, k Key) int { return p.key.Compare(k) })
}

// change has a part looked at for the next question.
func (s *source) change(p *part) {
	if !p.changed {
		p.changed = true
		s.changed = append(s.changed, p)
	}
}

// unname takes a part out of what is asked.
func (s *source) unname(p *part) {
	if p.named {
		s.named--
		s.gone = append(s.gone, p.key)
	}
	if p.pending {
		s.pending--
	}
	p.named, p.pending = false, false
}

// name has a part asked about from a position.
func (s *source) name(p *part, at replica.Position, pending bool) {
	if !p.named {
		s.named++
	}
	if pending != p.pending {
		if s.pending++; p.pending {
			s.pending -= 2
		}
	}
	p.named, p.pending, p.asked = true, pending, at
}

// retry has a part looked at again at a time.
func (s *source) retry(p *part, at time.Duration) {
	p.retryAt = at
	if !p.retries {
		p.retries = true
		s.retrying = append(s.retrying, p)
	}
	if s.retryPartAt == 0 || at < s.retryPartAt {
		s.retryPartAt = at
	}
}

// retryDue has the parts looked at whose time has come. Those that are due within pause are left to one look.
func (s *source) retryDue(now, pause time.Duration) {
	if s.retryPartAt == 0 || now < s.retryPartAt {
		return
	}
	s.retryPartAt = 0
	left := s.retrying[:0]
	for _, p := range s.retrying {
		if p.retryAt > now {
			left = append(left, p)
			if at := max(p.retryAt, now+pause); s.retryPartAt == 0 || at < s.retryPartAt {
				s.retryPartAt = at
			}
			continue
		}
		p.retries = false
		s.change(p)
	}
	clear(s.retrying[len(left):])
	s.retrying = left
}
