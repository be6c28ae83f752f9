package coordinator

import (
	"errors"
	"fmt"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kerr"
)

// phase is where a partition stands.
type phase uint8

const (
	loading   phase = iota // being read
	catchUp                // read; waits for the high watermark to pass what was read
	active                 // answers
	suspended              // failed; to be loaded again at retryAt
)

// part is one partition of __consumer_offsets that this box leads.
type part struct {
	id    int32
	log   Log
	epoch int32
	// life is new each time that the partition is begun with; completions of an earlier one are stale.
	life   uint64
	phase  phase
	load   *load
	groups *group.Groups // nil unless active

	last     group.Ticket
	waiting  map[group.Ticket]waiter
	held     []group.Reply // answers whose batch is not committed
	inFlight uint64        // the batch under way, 0 for none

	// deleted are topics whose offsets are to go: while the partition is being loaded, and until the batch deletedIn
	// that removes them is committed (0: it is still being gathered). Commits for a new topic of the same name come after.
	deleted   []string
	deletedIn uint64

	expireAt, retryAt time.Duration
	failures          int
	gone              bool // the log said that this box does not lead it
}

// waiter is a request that waits.
type waiter struct {
	request group.Request
	done    func(group.Answer)
}

// settle does what is due at a partition, appends what was gathered and says when it wants to be looked at again.
func (o *owner) settle(p *part) (wake time.Duration) {
	switch p.phase {
	case catchUp:
		return o.tryActivate(p)
	case suspended:
		if o.now.Mono < p.retryAt {
			return p.retryAt
		}
		o.begin(p)
		return 0
	case loading:
		return 0
	}
	wake = p.groups.Tick(o.time())
	if p.groups.Len() == 0 {
		p.expireAt = 0
	} else if p.expireAt == 0 {
		p.expireAt = o.now.Mono + o.cfg.ExpireInterval
	} else if o.now.Mono >= p.expireAt {
		p.expireAt = o.now.Mono + o.cfg.ExpireInterval
		if o.deps.GoodClock(o.now) {
			p.groups.Expire(o.time())
		}
	}
	if p.expireAt != 0 && (wake == 0 || p.expireAt < wake) {
		wake = p.expireAt
	}
	o.answer(p)
	o.tell(p)
	o.append(p)
	return wake
}

// deleteTopics removes the offsets of deleted topics, now or, if the partition is being loaded, later.
func (o *owner) deleteTopics(p *part, names []string) {
	switch {
	case p.phase != active:
	case p.groups.TopicsDeleted(o.time(), names):
		p.deletedIn = 0
	case p.deletedIn == 0 && len(p.deleted) == len(names):
		p.deleted = nil // nothing to remove, and nothing older on its way
	}
}

// append hands the gathered records over, unless an append is under way.
func (o *owner) append(p *part) {
	if p.inFlight != 0 {
		return
	}
	records, number, ok := p.groups.Seal()
	if !ok {
		return
	}
	p.inFlight = number
	if p.deletedIn == 0 {
		p.deletedIn = number
	}
	b, err := o.build(records)
	partition, life := p.id, p.life
	done := func(err error) {
		o.box.Post(message{kind: msgAppended, partition: partition, life: life, number: number, err: err})
	}
	if err != nil {
		done(err)
		return
	}
	o.metrics.appends.Inc()
	o.metrics.records.Add(len(records))
	p.log.Append(b, p.epoch, done)
}

// build makes batches of records; the leader stamps their offsets and epoch.
func (o *owner) build(records []group.Record) (b []byte, err error) {
	now := o.now.UnixMilli()
	o.builder.Reset(batch.NewOptions())
	for _, r := range records {
		if o.builder.Count() > 0 && o.builder.Size()+len(r.Key)+len(r.Value) > o.cfg.Limits.AppendBytesMax {
			if b, err = o.builder.Build(b); err != nil {
				return nil, fmt.Errorf("build group records: %w", err)
			}
			o.builder.Reset(batch.NewOptions())
		}
		o.builder.Append(now, r.Key, r.Value)
	}
	if b, err = o.builder.Build(b); err != nil {
		return nil, fmt.Errorf("build group records: %w", err)
	}
	if o.builder.Size() > 4*o.cfg.Limits.AppendBytesMax { // a burst's memory is given back
		o.builder = batch.NewBuilder(batch.NewOptions())
	}
	return b, nil
}

// appended ends an append: what rested on it leaves, or the partition is thrown away and replayed.
func (o *owner) appended(m *message) {
	p, _ := o.find(m.partition)
	if p == nil || p.life != m.life || p.inFlight != m.number {
		return
	}
	p.inFlight = 0
	if m.err != nil {
		o.metrics.failed.Inc()
		o.suspend(p, m.err, "append to a group partition failed")
		return
	}
	p.failures = 0
	p.groups.Committed(m.number)
	if p.deletedIn == m.number {
		p.deleted, p.deletedIn = nil, 0
	}
	held := p.held
	p.held = nil
	for _, r := range held {
		if r.After > m.number {
			p.held = append(p.held, r)
			continue
		}
		o.send(p, r)
	}
}

// suspend throws away what is in memory of a partition after a failure. If the box still leads it, it is loaded again
// after a pause that grows with each failure in a row: a full disk must not be answered with replays without end.
func (o *owner) suspend(p *part, cause error, what string) {
	p.gone = errors.Is(cause, ErrNotLeader)
	code := kerr.CoordinatorNotAvailable
	if p.gone {
		code = kerr.NotCoordinator
		o.deps.Observer.Log.Info(what, "partition", p.id, "epoch", p.epoch, "err", cause)
	} else {
		o.deps.Observer.Log.Error(what, "partition", p.id, "epoch", p.epoch, "err", cause)
	}
	o.unload(p)
	o.fail(p, code)
	p.phase = suspended
	p.failures++
	p.retryAt = o.now.Mono + min(retryMin<<min(p.failures-1, 10), retryMax)
}

// The pause before a failed partition is loaded again.
const (
	retryMin = 50 * time.Millisecond
	retryMax = 10 * time.Second
)

// tell logs and counts what happened to groups.
func (o *owner) tell(p *part) {
	for _, e := range p.groups.TakeEvents() {
		level := o.deps.Observer.Log.Debug
		text := ""
		switch e.Kind {
		case group.Rebalancing:
			o.metrics.rebalances.Inc()
			text, level = "group rebalances", o.deps.Observer.Log.Info
		case group.Stabilized:
			text = "group generation is fixed"
		case group.Assigned:
			text, level = "group has its assignment", o.deps.Observer.Log.Info
		case group.Emptied:
			text, level = "group is empty", o.deps.Observer.Log.Info
		case group.MemberExpired:
			text, level = "group member was silent for too long", o.deps.Observer.Log.Info
		case group.Removed:
			text, level = "group removed", o.deps.Observer.Log.Info
		case group.OffsetsGone:
			o.metrics.expired.Add(e.Count)
			text, level = "group offsets removed", o.deps.Observer.Log.Info
		}
		level(text, "group", e.Group, "generation", e.Generation, "count", e.Count, "reason", e.Reason)
	}
}
