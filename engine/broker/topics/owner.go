package topics

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/compact"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

type kind uint8

const (
	msgCatalog kind = iota
	msgStart
	msgMoved
	msgFailed
	msgOpened
	msgClosed
	msgLed
	msgRemoved
	msgSwept
	msgStop
	msgSettled
	msgDropped
	msgCompactLooked
	msgCompactProducers
	msgCompacted
	msgCompactReplaced
	msgCompactOver
	msgCompactAborted
)

// message is everything that the owner is told.
type message struct {
	kind     kind
	more     bool
	epoch    int32 // of msgLed: the epoch that was asked for
	logEpoch int32
	part     *part
	replica  *replica.Replica
	removed  seglog.Removed
	err      error
	stopped  func(error)
	topic    catalog.UUID
	settled  func()

	compactor *compactor
	looked    *looked
	producers map[int64]compact.Last
}

// phase is where a partition of this box stands.
type phase uint8

const (
	phaseQueued  phase = iota // waits for its turn to be opened
	phaseOpening              // being opened off the owner
	phaseOpen
	phaseOffline // cannot be opened; see err
	phaseClosing
)

// part is one partition that this box holds, or is letting go of.
type part struct {
	tp       seglog.TopicPartition
	topicID  catalog.UUID
	phase    phase
	remove   bool // deleted by the catalog: close with removal as soon as it can be
	replica  *replica.Replica
	err      error
	leading  bool                 // Lead was sent for epoch and not refused
	led      bool                 // and was confirmed
	refused  bool                 // a full device did not let it be opened
	broken   bool                 // the replica cannot lead: it has failed
	anew     bool                 // it is damaged or lost, others have all of it, and it begins anew
	unserved bool                 // it could not be opened, or has failed since, and is not open again
	held     bool                 // counts among the partitions that this box has open
	epoch    int32                // last epoch sent by Lead or Resign
	members  partition.Membership // last sent by Lead
	follows  following
	topic    *catalog.Topic
	config   *replica.Config
	placed   catalog.UUID // the log directory that it was opened in, or was to be; zero before one was found
	settings any          // the topic's settings that config was made from
	// uncleanable says that compaction has failed here.
	uncleanable bool
}

// following is what Follow was told last of a partition. The zero value is not: nothing was told.
type following struct {
	told   bool
	leader int32
	epoch  int32
	inSync bool
}

// owner is the Step behind Topics.
type owner struct {
	cfg   Config
	deps  Deps
	box   *mailbox.Mailbox[message]
	table *table
	now   clock.Now

	started  bool
	opened   bool
	settling []func()
	dropping []message
	applied  *catalog.Snapshot // what has been acted on
	parts    map[seglog.TopicPartition]*part
	found    map[seglog.TopicPartition]*seglog.Dir // at the start: where replicas are that the catalog names no log directory of
	queue    []*part                               // to be opened
	opening  int
	closing  int
	held     int // partitions that are open, being opened or being closed
	sweeping bool
	stopping func(error)
	stopErr  error

	compactors []*compactor
	compacted  compactMetrics

	retainAt, checkpointAt time.Duration
	offlineMoved           bool          // parts have become, or are no more, unserved
	refusedAt              time.Duration // when what a full device refused to open is tried again; 0: nothing was
	removedBytes           *observe.Counter
}

func newOwner(cfg Config, deps Deps, t *table) *owner {
	o := &owner{
		cfg: cfg, deps: deps, table: t,
		applied: catalog.Empty(deps.Catalog.Current().Base()),
		parts:   make(map[seglog.TopicPartition]*part),
		found:   make(map[seglog.TopicPartition]*seglog.Dir),
	}
	m := deps.Observer.Metrics
	o.removedBytes = m.Counter("cairn_log_removed_bytes_total")
	o.initCompaction()
	return o
}

// Step follows the catalog and the partitions that are being opened and closed.
func (o *owner) Step(now clock.Now, batch []message) time.Duration {
	o.now = now
	catalogMoved := false
	for i := range batch {
		m := &batch[i]
		switch m.kind {
		case msgCatalog:
			catalogMoved = true
		case msgStart:
			o.start()
			catalogMoved = true
		case msgMoved:
			if o.checkpointAt == 0 {
				o.checkpointAt = now.Mono + o.cfg.CheckpointInterval
			}
			o.compactSoon()
		case msgFailed:
			o.onFailed(m.replica)
		case msgOpened:
			o.onOpened(m.part, m.replica, m.err)
		case msgClosed:
			o.onClosed(m.part, m.err)
		case msgLed:
			o.onLed(m)
		case msgRemoved:
			o.removedBytes.Add(int(m.removed.Bytes))
			if m.removed.Segments > 0 {
				o.sweep()
			}
		case msgSwept:
			o.onSwept(m.more)
		case msgStop:
			o.stop(m.stopped)
		case msgSettled:
			o.settling = append(o.settling, m.settled)
		case msgDropped:
			o.dropping = append(o.dropping, *m)
		default:
			o.onCompaction(m)
		}
	}
	if catalogMoved && o.started && o.stopping == nil {
		o.follow()
	}
	o.openNext()
	o.sayOffline() // before what tells the node to register
	o.sayOpened()
	o.saySettled()
	o.sayDropped()
	return o.timers()
}

// onCompaction takes what comes back of a compaction.
func (o *owner) onCompaction(m *message) {
	switch m.kind {
	case msgCompactLooked:
		o.onCompactLooked(m.compactor, m.looked)
	case msgCompactProducers:
		o.onCompactProducers(m.compactor, m.producers, m.err)
	case msgCompacted:
		o.onCompacted(m.compactor, m.err)
	case msgCompactReplaced:
		o.onCompactReplaced(m.compactor, m.err)
	case msgCompactOver:
		o.onCompactOver(m.compactor, m.err)
	case msgCompactAborted:
		o.onCompactAborted(m.compactor, m.err)
	}
	if o.stopping != nil {
		o.finishStop()
	}
}

// start sets aside the directories that are not this box's by the catalog, which is current now, and goes on with the
// deletion of topics that the last stop interrupted.
func (o *owner) start() {
	if o.started {
		return
	}
	o.started = true
	o.retainAt = o.now.Mono + o.cfg.RetentionInterval
	snapshot := o.deps.Catalog.Current()
	for _, dir := range o.deps.Dirs {
		found, err := dir.Partitions()
		if err != nil {
			o.deps.Observer.Log.Error("log directory cannot be listed", "directory", dir.Path(), "error", err)
			continue
		}
		for _, f := range found {
			if o.belongs(snapshot, f, dir) {
				if t := snapshot.Topic(f.Topic); t.Deleting {
					o.add(f.TopicPartition, t, o.configOf(t)).remove = true
				}
				o.find(snapshot, f, dir)
				continue
			}
			o.deps.Observer.Log.Warn("stray partition set aside: the catalog does not give it to this box, or not in this log directory",
				"topic", f.Topic, "partition", f.Partition, "topic_id", f.TopicID.String(), "directory", dir.Path())
			if err := dir.SetAside(f.TopicPartition); err != nil {
				o.deps.Observer.Log.Error("stray partition cannot be set aside", "topic", f.Topic, "partition", f.Partition, "error", err)
			}
		}
	}
	o.sweep()
}

func (o *owner) belongs(s *catalog.Snapshot, f seglog.Found, dir *seglog.Dir) bool {
	t := s.Topic(f.Topic)
	if t == nil {
		return false
	}
	p := t.Partition(f.Partition)
	return p.Holds(o.cfg.BrokerID) && !o.leftBehind(p, dir) && (f.TopicID.IsZero() || seglog.ID(t.ID) == f.TopicID)
}

// follow acts on what changed in the catalog since the last time.
func (o *owner) follow() {
	after := o.deps.Catalog.Current()
	before := o.applied
	o.applied = after
	catalog.Diff(before, after, func(was, is *catalog.Topic) {
		if was != nil && (is == nil || is.Deleting || is.ID != was.ID) {
			o.dropTopic(was)
		}
		if is != nil && !is.Deleting {
			o.applyTopic(is)
		}
	})
	if !catalog.SameBrokers(before, after) {
		for _, p := range o.sorted() { // a registration decides who may lead, and who is offline
			o.applyLeadership(p)
			o.renew(p)
		}
	}
}

// sorted are the partitions by name, so that one seed gives one order.
func (o *owner) sorted() []*part {
	return slices.SortedFunc(maps.Values(o.parts), func(a, b *part) int {
		return a.tp.Compare(b.tp)
	})
}

// dropTopic lets go of a deleted topic's partitions. What is on disk of them goes too, also where it is not open yet.
func (o *owner) dropTopic(t *catalog.Topic) {
	for i := range t.Partitions {
		if p := o.parts[seglog.TopicPartition{Topic: t.Name, Partition: int32(i)}]; p != nil && p.topicID == t.ID {
			o.letGo(p)
		}
	}
}

func (o *owner) letGo(p *part) {
	p.remove = true
	switch p.phase {
	case phaseOpen:
		o.closePart(p)
	case phaseOffline:
		p.phase = phaseQueued
		o.queue = append(o.queue, p)
	}
}

// applyTopic brings a topic's partitions to what the catalog says.
func (o *owner) applyTopic(t *catalog.Topic) {
	var config *replica.Config
	for i, cp := range t.Partitions {
		tp := seglog.TopicPartition{Topic: t.Name, Partition: int32(i)}
		p := o.parts[tp]
		if !cp.Holds(o.cfg.BrokerID) || !cp.HasState {
			if p != nil && !cp.Holds(o.cfg.BrokerID) {
				o.letGo(p)
			}
			continue
		}
		if config == nil {
			config = o.configOf(t)
		}
		switch {
		case p == nil:
			o.add(tp, t, config)
		case p.remove:
			// forget takes the partition up again when the old one is gone
		default:
			o.update(p, t, config)
		}
	}
}

func (o *owner) add(tp seglog.TopicPartition, t *catalog.Topic, config *replica.Config) *part {
	p := &part{tp: tp, topicID: t.ID, topic: t, config: config, settings: t.Settings, epoch: -1}
	o.parts[tp] = p
	o.table.set(tp.Topic, tp.Partition, entry{err: ErrOpening})
	o.queue = append(o.queue, p)
	return p
}

func (o *owner) update(p *part, t *catalog.Topic, config *replica.Config) {
	p.topic, p.config = t, config
	if o.misplaced(p) {
		o.moveTo(p)
	}
	o.renew(p)
	if p.phase != phaseOpen {
		return // onOpened takes the newest
	}
	if p.settings != any(t.Settings) {
		p.settings = t.Settings
		p.replica.SetConfig(config)
		o.markUncleanable(p, false)
		o.compactSoon()
	}
	o.applyLeadership(p)
}

// applyLeadership leads or resigns as the catalog says now.
func (o *owner) applyLeadership(p *part) {
	if p.phase != phaseOpen || p.topic == nil {
		return
	}
	cp := p.topic.Partition(p.tp.Partition)
	if cp == nil {
		return
	}
	lead := o.registered() && o.applied.LeaderOf(cp) == o.cfg.BrokerID
	if p.epoch == cp.LeaderEpoch && p.leading == lead {
		if !lead {
			o.followLeader(p, cp)
		} else if m := o.membership(p, cp); !m.Equal(p.members) {
			p.members = m
			p.replica.Lead(p.epoch, m, func(int32, error) {}) // the first is answered, or on its way
		}
		return
	}
	was := p.leading
	p.epoch, p.leading, p.led, p.broken = cp.LeaderEpoch, lead, false, false
	if !lead {
		p.replica.Resign(cp.LeaderEpoch)
		if was {
			o.tell(p, false)
		}
		o.followLeader(p, cp)
		return
	}
	o.followNobody(p)
	epoch := cp.LeaderEpoch
	p.members = o.membership(p, cp)
	p.replica.Lead(epoch, p.members, func(logEpoch int32, err error) {
		o.box.Post(message{kind: msgLed, part: p, epoch: epoch, logEpoch: logEpoch, err: err})
	})
}

// followLeader has a partition follow whoever leads it, once this start of the box is registered: before, a leader takes no
// word of it.
func (o *owner) followLeader(p *part, cp *catalog.Partition) {
	leader := o.applied.LeaderOf(cp)
	if leader == catalog.NoLeader || leader == o.cfg.BrokerID || !o.registered() {
		o.followNobody(p)
		return
	}
	f := following{told: true, leader: leader, epoch: cp.LeaderEpoch, inSync: slices.Contains(cp.ISR, o.cfg.BrokerID)}
	if o.deps.Follow != nil && f != p.follows {
		p.follows = f
		o.deps.Follow(p.replica, leader, f.inSync)
	}
}

// followNobody ends that.
func (o *owner) followNobody(p *part) {
	if p.follows.told {
		p.follows = following{}
		o.deps.Follow(p.replica, catalog.NoLeader, false)
	}
}

// membership is what the catalog says of the other replicas of a partition that this box leads.
func (o *owner) membership(p *part, cp *catalog.Partition) partition.Membership {
	m := partition.Membership{Epoch: cp.PartitionEpoch, InSync: cp.ISR, InSyncMin: p.topic.Settings.EffectiveMinISR(cp.Factor())}
	for _, id := range cp.Replicas {
		if id == o.cfg.BrokerID {
			continue
		}
		member := partition.Member{Broker: id}
		if b := o.applied.Broker(id); b != nil {
			member.Epoch = b.Epoch
		}
		m.Replicas = append(m.Replicas, member)
	}
	return m
}

// registered reports whether the catalog shows this start of the box.
func (o *owner) registered() bool {
	b := o.applied.Broker(o.cfg.BrokerID)
	return b != nil && b.Incarnation == o.cfg.Incarnation
}

func (o *owner) onLed(m *message) {
	p := m.part
	if !p.leading || m.epoch != p.epoch {
		return // the answer to an older message; that to the newest is on its way
	}
	switch {
	case m.err == nil:
		p.led = true
		o.tell(p, true)
		return
	case errors.Is(m.err, partition.ErrStaleEpoch): // the controller was told the logs' epochs before it elected
		o.deps.Observer.Log.Error("leader epoch is not above the log's: the partition waits for another election",
			"topic", p.tp.Topic, "partition", p.tp.Partition, "epoch", m.epoch, "log_epoch", m.logEpoch)
	case errors.Is(m.err, partition.ErrFenced):
	default:
		p.broken = true
		o.deps.Observer.Log.Error("partition cannot be led", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", m.err)
	}
	p.leading = false
}

func (o *owner) tell(p *part, leader bool) {
	if o.deps.Led != nil {
		o.deps.Led(p.replica, leader, p.epoch)
	}
}

// sayOpened tells, once, that nothing is left to open.
func (o *owner) sayOpened() {
	if o.opened || !o.started || o.stopping != nil || len(o.queue) > 0 || o.opening > 0 {
		return
	}
	o.opened = true
	o.compactSoon() // what the last stop interrupted
	if o.deps.Opened != nil {
		o.deps.Opened()
	}
}

// saySettled tells those who wait that everything is led that is to be.
func (o *owner) saySettled() {
	if len(o.settling) == 0 || !o.opened || !o.registered() {
		return
	}
	for _, p := range o.parts {
		if p.phase == phaseOffline || p.broken {
			continue // it may stay so for long, and the others are there
		}
		if p.phase != phaseOpen || !p.led && o.mayLead(p) {
			return
		}
	}
	for _, done := range o.settling {
		done()
	}
	o.settling = nil
}

// mayLead reports whether this box leads the partition, or would once a leader is elected.
func (o *owner) mayLead(p *part) bool {
	cp := p.topic.Partition(p.tp.Partition)
	if cp == nil {
		return false
	}
	leader := o.applied.LeaderOf(cp)
	return leader == o.cfg.BrokerID || leader == catalog.NoLeader && slices.Contains(cp.ISR, o.cfg.BrokerID)
}

// sayDropped tells the controller which deleted topics are gone from this box. Before the start nobody knows what is on
// disk, and a stop closes partitions without deleting them: then nothing is said, and the controller asks again.
func (o *owner) sayDropped() {
	if len(o.dropping) == 0 || !o.started || o.stopping != nil {
		return
	}
	here := make(map[catalog.UUID]bool, len(o.parts))
	for _, p := range o.parts {
		here[p.topicID] = true
	}
	o.dropping = slices.DeleteFunc(o.dropping, func(m message) bool {
		if here[m.topic] {
			return false
		}
		m.settled()
		return true
	})
}

// timers runs what is due and returns when the next thing is.
func (o *owner) timers() time.Duration {
	if !o.started || o.stopping != nil {
		return 0
	}
	if o.now.Mono >= o.retainAt {
		o.retainAt = o.now.Mono + o.cfg.RetentionInterval
		o.retain()
		o.compactSoon()
	}
	next := o.retainAt
	if o.refusedAt != 0 && o.now.Mono >= o.refusedAt {
		o.refusedAt = 0
		o.openRefused()
	}
	if o.refusedAt != 0 {
		next = min(next, o.refusedAt)
	}
	if o.checkpointAt != 0 && o.now.Mono >= o.checkpointAt {
		o.checkpointAt = 0
		o.checkpoint()
	}
	if o.checkpointAt != 0 {
		next = min(next, o.checkpointAt)
	}
	if at := o.compactDue(); at != 0 {
		next = min(next, at)
	}
	return next
}

// describe names a partition in an error.
func (p *part) describe() string { return fmt.Sprintf("%s-%d", p.tp.Topic, p.tp.Partition) }
