package controller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/settings"
	"cairn/platform/clock"
	"cairn/platform/observe"

	"github.com/twmb/franz-go/pkg/kerr"
)

var (
	errNotController = &Error{Kind: kerr.NotController}
	errStopping      = &Error{Kind: kerr.BrokerNotAvailable, Message: "the broker is stopping"}
	errTimeout       = &Error{Kind: kerr.RequestTimedOut}
)

// retryDelay is waited after a failure that may pass.
const retryDelay = 100 * time.Millisecond

// fullDelay is waited when the tree refuses what nobody waits for.
const fullDelay = 5 * time.Second

type messageKind uint8

const (
	requested messageKind = iota
	leadershipChanged
	catalogChanged
	indexRead
	multiDone
	epochsReported
	topicDropped
	closing
)

// message is what the owner is told.
type message struct {
	kind       messageKind
	request    *pending
	leadership catalog.Leadership
	err        error
	results    []catalog.OpResult
	reign      int // of indexRead and multiDone: which reign asked
	broker     int32
	epoch      int64 // broker epoch
	logs       []PartitionEpoch
	topic      catalog.UUID
}

// pending is a request that waits.
type pending struct {
	plan     plan
	timeout  time.Duration
	deadline time.Duration
	release  func()
	inFlight bool // ready as soon as the multi under way is applied
	part     bool // the multi under way has operations of it
}

// phase is how far this box is with being the controller.
type phase uint8

const (
	unknown  phase = iota // nothing was heard of leadership yet: requests wait
	follower              // another box leads: requests are refused
	reading               // leads, and waits for a read index
	taking                // writes the controller epoch
	active
)

// owner is the controller's state; Step alone touches it. At most one multi is under way, and everything is planned on a
// snapshot that shows all multis before it.
type owner struct {
	cfg      Config
	tree     catalog.Tree
	catalog  *catalog.Catalog
	brokers  Brokers
	random   io.Reader
	log      *slog.Logger
	post     func(message)
	seen     func() // the message about a changed catalog was taken
	multis   *observe.Counter
	failures *observe.Counter

	phase   phase
	reign   int   // counts the times that this box came to lead; completions of an earlier one are dropped
	version int32 // of controller_epoch: what every write checks
	epoch   int32

	now      time.Duration
	wall     time.Time
	retryAt  time.Duration // nothing is planned before; 0 for at once
	requests []*pending
	single   bool // after a refusal by the tree: one request a multi, or elections alone, to find out whose it was
	inFlight bool
	indexing bool // a read index is under way
	unsure   bool // a multi may have been applied: a read index settles it before the next

	facts     facts
	planned   *catalog.Snapshot // what dirty was derived from
	dirty     map[string]bool   // topics whose partitions may need a new state
	electAt   time.Duration     // no elections are planned before: the tree did not take them
	all       bool              // all of them, from sweep on
	sweep     string
	balanceAt time.Duration    // preferred leaders are looked at then
	balancing []TopicPartition // what is to be given back to its preferred leader yet
	healAt    time.Duration    // the replicas are looked at then; 0 for not before something changes
	removals  map[catalog.UUID]*removal
	stopped   bool
}

func newOwner(cfg Config, deps Deps) *owner {
	o := &owner{
		cfg: cfg, tree: deps.Tree, catalog: deps.Catalog, brokers: deps.Brokers, random: deps.Random,
		log: deps.Observer.Log, dirty: map[string]bool{}, removals: map[catalog.UUID]*removal{},
		multis:   deps.Observer.Metrics.Counter("cairn_controller_multis_total"),
		failures: deps.Observer.Metrics.Counter("cairn_controller_multi_failures_total"),
	}
	o.facts = facts{epochs: epochs{}, leaving: leaving{}, partitionsMax: cfg.PartitionsMax, thisBroker: cfg.BrokerID}
	o.facts.newID = func() (catalog.UUID, error) { return catalog.NewUUID(o.random) }
	return o
}

// Step takes what arrived, then plans the next multi if none is under way.
func (o *owner) Step(now clock.Now, batch []message) time.Duration {
	o.now, o.wall = now.Mono, now.Wall
	o.facts.now = now.Mono
	for i := range batch {
		o.take(&batch[i])
	}
	o.expire()
	if (o.phase == reading || o.unsure) && !o.indexing && o.now >= o.retryAt {
		o.readIndex()
	}
	for o.phase == active && !o.inFlight && !o.unsure && o.now >= o.retryAt && o.plan() {
		// What was answered without a multi may have left requests behind that can be planned now.
	}
	return o.wake()
}

func (o *owner) take(m *message) {
	switch m.kind {
	case requested:
		o.request(m.request)
	case leadershipChanged:
		o.lead(m.leadership)
	case catalogChanged:
		o.seen()
	case indexRead:
		o.indexRead(m)
	case multiDone:
		o.multiDone(m)
	case epochsReported:
		o.epochsReported(m)
	case topicDropped:
		if r := o.removals[m.topic]; r != nil {
			if m.err != nil {
				o.log.Warn("a broker could not drop a deleted topic", "topic", r.name, "broker", m.broker, "error", m.err)
			}
			delete(r.waiting, m.broker)
		}
	case closing:
		o.stopped = true
		o.failAll(errStopping)
	}
}

func (o *owner) request(p *pending) {
	p.deadline = o.now + p.timeout
	o.requests = append(o.requests, p)
	switch {
	case o.stopped:
		o.failAll(errStopping)
	case o.phase == follower:
		o.failAll(errNotController)
	}
}

// lead begins or ends a reign.
func (o *owner) lead(l catalog.Leadership) {
	o.reign++
	o.inFlight, o.unsure, o.indexing, o.retryAt = false, false, false, 0
	for _, p := range o.requests {
		p.inFlight, p.part = false, false
	}
	o.facts.epochs, o.facts.leaving, o.facts.load, o.facts.absent = epochs{}, leaving{}, load{}, nil
	o.removals = map[catalog.UUID]*removal{}
	if !l.Leader {
		if o.phase > follower {
			o.log.Info("this box is no longer the controller", "term", l.Term)
		}
		o.phase = follower
		o.failAll(errNotController)
		return
	}
	o.phase = reading
}

// readIndex asks for one; Step does so whenever one is wanted and none is under way.
func (o *owner) readIndex() {
	o.indexing, o.retryAt = true, 0
	reign, post := o.reign, o.post
	o.tree.ReadIndex(func(err error) { post(message{kind: indexRead, reign: reign, err: err}) })
}

// indexRead goes on after a read index: to the taking of the epoch, or to the next multi after an uncertain one.
func (o *owner) indexRead(m *message) {
	if m.reign != o.reign {
		return
	}
	o.indexing = false
	if m.err != nil {
		o.retryAt = o.now + retryDelay
		return
	}
	if o.phase == reading {
		o.takeOver()
	}
	o.unsure = false
}

// takeOver writes the controller epoch and this box's name, and what the tree lacks before anything else can be written.
func (o *owner) takeOver() {
	o.phase = taking
	var ops []catalog.Op
	for _, path := range catalog.SkeletonPaths() {
		if _, _, ok := o.tree.Read(path); !ok {
			ops = append(ops, create(path, nil))
		}
	}
	s := o.catalog.Current()
	o.epoch = s.ControllerEpoch + 1
	taken := put(s.ControllerEpochVersion >= 0, catalog.ControllerEpochPath, catalog.EncodeControllerEpoch(o.epoch))
	if taken.Kind == catalog.OpSet {
		taken.Version = s.ControllerEpochVersion
	}
	ops = append(ops, taken)
	_, _, named := o.tree.Read(catalog.ControllerPath)
	ops = append(ops, put(named, catalog.ControllerPath, catalog.EncodeController(o.cfg.BrokerID, o.wall)))
	if s.ClusterID == "" {
		id := o.cfg.ClusterID
		if id == "" {
			drawn, err := o.facts.newID()
			if err != nil {
				o.log.Error("the cluster gets no id", "error", err)
			}
			id = drawn.String()
		}
		// As Kafka does where replicas outside the ISR can be elected: min.insync.replicas is a dynamic setting of the whole
		// cluster, and kafka-topics shows it as one.
		if _, exists := s.DefaultBrokerOverrides(); !exists {
			ops = append(ops, create(catalog.DefaultBrokerConfigPath(), catalog.EncodeConfig(map[string]string{"min.insync.replicas": settings.Auto})))
		}
		_, _, exists := o.tree.Read(catalog.ClusterIDPath)
		ops = append(ops, put(exists, catalog.ClusterIDPath, catalog.EncodeClusterID(id)))
	}
	o.multi(ops)
}

// multi sends operations; its completion comes as a message.
func (o *owner) multi(ops []catalog.Op) {
	o.inFlight = true
	o.multis.Inc()
	reign, post := o.reign, o.post
	o.tree.Multi(ops, func(results []catalog.OpResult, err error) {
		post(message{kind: multiDone, reign: reign, results: slices.Clone(results), err: err})
	})
}

// multiDone takes the outcome of the multi under way. When it was applied, the catalog shows it.
func (o *owner) multiDone(m *message) {
	if m.reign != o.reign {
		return
	}
	o.inFlight = false
	if m.err != nil {
		o.multiFailed(m)
		return
	}
	if o.phase == taking {
		o.reignBegins()
		return
	}
	o.finish(nil)
}

// reignBegins starts the work of the active controller with everything to be looked at.
func (o *owner) reignBegins() {
	s := o.catalog.Current()
	o.phase, o.version = active, s.ControllerEpochVersion
	o.planned, o.all, o.sweep = s, true, ""
	clear(o.dirty)
	o.healLater(healInterval)
	o.balancing, o.balanceAt = nil, o.now+imbalanceInterval(s.Settings)
	o.log.Info("this box is the controller", "epoch", o.epoch)
}

// multiFailed decides what a failed multi means. Whatever it is, the next plan starts from a newer snapshot.
func (o *owner) multiFailed(m *message) {
	o.failures.Inc()
	o.retryAt = o.now + retryDelay
	switch {
	case o.phase == taking:
		level := slog.LevelWarn
		if errors.Is(m.err, catalog.ErrNodeExists) {
			level = slog.LevelDebug // a broker that registered meanwhile has made the node above it
		}
		o.log.Log(context.Background(), level, "the controller epoch was not taken", "error", m.err, "operation", firstFailed(m.results))
		o.phase = reading
	case errors.Is(m.err, catalog.ErrFull):
		o.retryAt = 0
		o.refusedAsFull(m.err)
	case errors.Is(m.err, catalog.ErrUncertain):
		o.unsure, o.retryAt = true, 0
	case errors.Is(m.err, catalog.ErrNotLeader), errors.Is(m.err, catalog.ErrNoQuorum), errors.Is(m.err, catalog.ErrBusy),
		errors.Is(m.err, catalog.ErrClosed):
		// leadership says what follows, or it passes
	case len(m.results) > 0 && errors.Is(m.results[0].Err, catalog.ErrBadVersion):
		o.log.Warn("another controller has taken the epoch", "epoch", o.epoch)
		o.phase = reading
	default:
		o.log.Error("a multi was refused: this is a bug in cairn", "error", m.err, "operation", firstFailed(m.results))
	}
	o.release()
}

// refusedAsFull decides whose growth the tree has refused. As long as it can be that of several, they are tried one by
// one; a request that is refused alone is failed, whether it was about to be answered or had more to write, because it
// would fail again. Elections that are refused alone wait: they must not keep requests waiting, deletions above all.
func (o *owner) refusedAsFull(cause error) {
	if !o.single {
		o.single = true
		return
	}
	alone := slices.IndexFunc(o.requests, func(p *pending) bool { return p.part })
	if alone < 0 {
		o.log.Warn("the tree takes no more", "error", cause)
		o.electAt, o.retryAt = o.now+fullDelay, o.now+retryDelay // nor is anything healed before electAt
		return
	}
	p := o.requests[alone]
	o.requests = slices.Delete(o.requests, alone, alone+1)
	p.plan.fail(refuse(kerr.PolicyViolation, "the cluster's tree takes no more: %v", cause))
	p.release()
}

func firstFailed(results []catalog.OpResult) int {
	return slices.IndexFunc(results, func(r catalog.OpResult) bool { return r.Err != nil && !errors.Is(r.Err, catalog.ErrRolledBack) })
}

// release gives the requests of the multi under way back to planning.
func (o *owner) release() {
	for _, p := range o.requests {
		p.inFlight, p.part = false, false
	}
	o.planned, o.all, o.sweep = nil, true, ""
}

// finish answers the requests of the multi that was applied, or fails them.
func (o *owner) finish(err *Error) {
	kept := o.requests[:0]
	for _, p := range o.requests {
		switch {
		case !p.inFlight:
			p.part = false
			kept = append(kept, p)
			continue
		case err != nil:
			p.plan.fail(err)
		default:
			p.plan.answer()
		}
		p.release()
	}
	clear(o.requests[len(kept):])
	o.requests = kept
}

func (o *owner) failAll(err *Error) {
	for _, p := range o.requests {
		p.plan.fail(err)
		p.release()
	}
	clear(o.requests)
	o.requests = o.requests[:0]
}

// expire fails what has waited too long. A request of the multi under way is left to it.
func (o *owner) expire() {
	kept := o.requests[:0]
	for _, p := range o.requests {
		if p.inFlight || p.deadline > o.now {
			kept = append(kept, p)
			continue
		}
		p.plan.fail(errTimeout)
		p.release()
	}
	clear(o.requests[len(kept):])
	o.requests = kept
}

// wake is when something is due that no message will announce.
func (o *owner) wake() time.Duration {
	var at time.Duration
	due := func(t time.Duration) {
		if t > 0 && (at == 0 || t < at) {
			at = t
		}
	}
	for _, p := range o.requests {
		if !p.inFlight {
			due(p.deadline)
		}
	}
	for _, r := range o.removals {
		if len(r.waiting) > 0 && r.until > o.now {
			due(r.until)
		}
	}
	timers := []time.Duration{o.retryAt, o.electAt}
	if o.phase == active && !o.inFlight {
		timers = append(timers, o.healAt, o.balanceAt)
	}
	for _, t := range timers {
		if t > o.now { // what is overdue waits for something that a message will announce
			due(t)
		}
	}
	return at
}
