package coordinator

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/group"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"

	"github.com/twmb/franz-go/pkg/kerr"
)

// kind tells messages apart.
type kind uint8

const (
	msgRequest kind = iota
	msgList
	msgLead
	msgResign
	msgTopicsDeleted
	msgLoaded
	msgAppended
	msgDrain
	msgStop
)

// message is everything that the owner is told. It is a value, so that sending one allocates nothing.
type message struct {
	kind      kind
	partition int32
	epoch     int32
	request   group.Request
	done      func(group.Answer)
	listed    func([]group.Listed, *kerr.Error)
	names     []string
	log       Log
	load      *load
	number    uint64
	life      uint64
	err       error
}

// owner is the Step behind Coordinator.
type owner struct {
	cfg  Config
	deps Deps
	box  *mailbox.Mailbox[message]
	now  clock.Now

	parts    []*part // by partition
	tickets  int     // requests that wait, of all parts
	lives    uint64  // counts the times that a partition was begun with
	draining bool
	settings group.Settings
	builder  *batch.Builder

	metrics metrics
}

type metrics struct {
	appends, failed, records, loads, expired, rebalances *observe.Counter
	loadSeconds                                          *observe.Histogram
	groups, offsets, bytes, parked                       atomic.Int64
}

func newOwner(cfg Config, deps Deps) *owner {
	o := &owner{cfg: cfg, deps: deps, builder: batch.NewBuilder(batch.NewOptions())}
	m := deps.Observer.Metrics
	o.metrics.appends = m.Counter("cairn_group_appends_total")
	o.metrics.failed = m.Counter("cairn_group_appends_failed_total")
	o.metrics.records = m.Counter("cairn_group_records_total")
	o.metrics.loads = m.Counter("cairn_group_loads_total")
	o.metrics.expired = m.Counter("cairn_group_offsets_expired_total")
	o.metrics.rebalances = m.Counter("cairn_group_rebalances_total")
	o.metrics.loadSeconds = m.Histogram("cairn_group_load_seconds")
	for name, v := range map[string]*atomic.Int64{
		"cairn_groups": &o.metrics.groups, "cairn_group_offsets": &o.metrics.offsets,
		"cairn_group_memory_bytes": &o.metrics.bytes, "cairn_group_requests_waiting": &o.metrics.parked,
	} {
		m.Gauge(name, func() float64 { return float64(v.Load()) })
	}
	return o
}

// now as the rules take it.
func (o *owner) time() group.Time { return group.Time{Mono: o.now.Mono, Wall: o.now.UnixMilli()} }

// Step handles what has arrived, then looks after every partition.
func (o *owner) Step(now clock.Now, messages []message) (wake time.Duration) {
	o.now, o.settings = now, o.deps.Settings()
	o.configure()
	for i := range messages {
		o.handle(&messages[i])
	}
	var bytes, offsets, groups int64
	for _, p := range slices.Clone(o.parts) {
		if next := o.settle(p); next != 0 && (wake == 0 || next < wake) {
			wake = next
		}
		if p.groups != nil {
			bytes += p.groups.Bytes()
			offsets += int64(p.groups.Offsets())
			groups += int64(p.groups.Len())
		}
	}
	o.metrics.bytes.Store(bytes)
	o.metrics.offsets.Store(offsets)
	o.metrics.groups.Store(groups)
	o.metrics.parked.Store(int64(o.tickets))
	return wake
}

// configure hands the settings, and what is left of the memory for groups, to every partition.
func (o *owner) configure() {
	spare := o.cfg.Limits.BytesMax - o.metrics.bytes.Load()
	for _, p := range o.parts {
		if p.groups != nil {
			p.groups.Configure(o.settings, spare)
		}
	}
}

func (o *owner) handle(m *message) {
	switch m.kind {
	case msgRequest:
		o.request(m)
	case msgList:
		o.list(m)
	case msgLead:
		o.lead(m.partition, m.log, m.epoch)
	case msgResign:
		o.drop(m.partition, kerr.NotCoordinator)
	case msgTopicsDeleted:
		for _, p := range o.parts {
			p.deleted = append(p.deleted, m.names...)
			o.deleteTopics(p, m.names)
		}
	case msgLoaded:
		o.loaded(m.load)
	case msgAppended:
		o.appended(m)
	case msgDrain:
		o.drain()
	case msgStop:
		o.draining = true
		for len(o.parts) > 0 {
			o.drop(o.parts[0].id, kerr.CoordinatorNotAvailable)
		}
	}
}

func (o *owner) find(partition int32) (*part, int) {
	i, ok := slices.BinarySearchFunc(o.parts, partition, func(p *part, id int32) int { return int(p.id) - int(id) })
	if !ok {
		return nil, i
	}
	return o.parts[i], i
}

func (o *owner) request(m *message) {
	p, _ := o.find(m.partition)
	switch {
	case o.draining:
		m.done(refusal(m.request, kerr.CoordinatorNotAvailable))
	case p == nil || p.gone:
		m.done(refusal(m.request, kerr.NotCoordinator))
	case p.phase != active:
		m.done(refusal(m.request, kerr.CoordinatorLoadInProgress))
	case o.tickets >= o.cfg.Limits.ParkedMax:
		m.done(refusal(m.request, kerr.CoordinatorNotAvailable))
	default:
		p.last++
		p.waiting[p.last] = waiter{m.request, m.done}
		o.tickets++
		group.SetTicket(m.request, p.last)
		p.groups.Step(o.time(), m.request)
		o.answer(p)
	}
}

func (o *owner) list(m *message) {
	var list []group.Listed
	for _, p := range o.parts {
		if p.phase != active {
			m.listed(nil, kerr.CoordinatorLoadInProgress)
			return
		}
		list = p.groups.List(list, m.names)
	}
	m.listed(list, nil)
}

// answer takes the replies out of the rules: those that rest on committed records leave, the others are held.
func (o *owner) answer(p *part) {
	for _, r := range p.groups.TakeReplies() {
		if r.After != 0 {
			p.held = append(p.held, r)
			continue
		}
		o.send(p, r)
	}
}

func (o *owner) send(p *part, r group.Reply) {
	w, ok := p.waiting[r.To]
	if !ok && o.draining {
		return // it was not waited for
	}
	if !ok {
		o.deps.Observer.Log.Error("group request answered twice: this is a bug in cairn", "partition", p.id)
		return
	}
	delete(p.waiting, r.To)
	o.tickets--
	w.done(r.Answer)
}

// fail answers everybody who waits at a partition.
func (o *owner) fail(p *part, err *kerr.Error) {
	o.refuse(p, err, func(group.Ticket, group.Request) bool { return true })
	p.held = nil
}

// refuse answers those who wait and are chosen, in the order in which they came.
func (o *owner) refuse(p *part, err *kerr.Error, choose func(group.Ticket, group.Request) bool) {
	for _, t := range slices.Sorted(maps.Keys(p.waiting)) {
		w := p.waiting[t]
		if choose(t, w.request) {
			delete(p.waiting, t)
			o.tickets--
			w.done(refusal(w.request, err))
		}
	}
}

// drain answers those who wait for other members. Replies that wait for the log alone stay.
func (o *owner) drain() {
	o.draining = true
	for _, p := range o.parts {
		held := make(map[group.Ticket]bool, len(p.held))
		for _, r := range p.held {
			held[r.To] = true
		}
		o.refuse(p, kerr.CoordinatorNotAvailable, func(t group.Ticket, q group.Request) bool {
			switch q.(type) {
			case *group.Join, *group.Sync:
				return !held[t]
			}
			return false
		})
	}
}
