package replica

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

// kind tells messages apart.
type kind uint8

const (
	msgAppend kind = iota
	msgFlushed
	msgAwait
	msgDeleteRecords
	msgStartDurable
	msgStartFollowed
	msgAwaitStart
	msgProducers
	msgLead
	msgResign
	msgCopy
	msgVouch
	msgProposed
	msgConfig
	msgRetain
	msgTrim
	msgReplace
	msgCompacted
	msgClose
)

// message is everything that can be asked of a shard. Few fields are set for each kind; it is a value, so that sending
// one allocates nothing.
type message struct {
	kind      kind
	good      bool
	epoch     int32
	offset    int64
	replica   *Replica
	append    *AppendRequest
	seen      *View
	waiter    *Waiter
	config    *Config
	err       error
	deleted   func(int64, error)
	producers func(*partition.Producers, error)
	led       func(int32, error)

	membership *partition.Membership
	member     partition.Member
	copy       *CopyRequest
	removed    func(seglog.Removed, error)
	closed     func(error)
	rewrite    *seglog.Rewrite
	compacted  *seglog.View
	start      *startWaiter
}

// tickInterval is how often a shard looks at the partitions that were written to, or whose leader waits for a replica in sync: to let go of
// what idle ones hold, to time out parked appends, and to find who is late. A shard with no such partition has no timer.
const tickInterval = 5 * time.Second

// idleTicks without an append make a partition let go of its files.
const idleTicks = 6

// acksTimeoutDefault answers a parked append whose producer gave no time.
const acksTimeoutDefault = time.Minute

// shard owns the partitions that were given to it.
type shard struct {
	cfg  ShardsConfig
	deps Deps
	box  *mailbox.Mailbox[message]
	now  clock.Now

	touched []*Replica // of the present step
	active  []*Replica // written to lately, or waiting for a replica in sync
	scratch []byte     // gathers one write
	tick    time.Duration

	appends, bytes, refused *observe.Counter
}

func newShard(n int, cfg ShardsConfig, deps Deps) *shard {
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	m := deps.Observer.Metrics
	s := &shard{
		cfg: cfg, deps: deps,
		appends: m.Counter("cairn_partition_append_requests_total"),
		bytes:   m.Counter("cairn_partition_append_bytes_total"),
		refused: m.Counter("cairn_partition_append_refused_total"),
	}
	s.box = mailbox.New(deps.Runtime, fmt.Sprint("shard ", n), max(cfg.QueueMax, 64), s)
	return s
}

// Step handles what has arrived, writes what was gathered, asks for flushes and publishes what changed.
func (s *shard) Step(now clock.Now, batch []message) time.Duration {
	s.now = now
	for i := range batch {
		s.handle(&batch[i])
	}
	for _, r := range s.touched {
		s.settle(r)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	if len(s.active) == 0 {
		s.tick = 0
		return 0
	}
	if s.tick == 0 {
		s.tick = now.Mono + tickInterval
	}
	if now.Mono >= s.tick {
		s.onTick()
		s.tick = now.Mono + tickInterval
	}
	return s.tick
}

func (s *shard) handle(m *message) {
	r := m.replica
	s.touch(r)
	if m.kind == msgAppend {
		r.own.incoming = append(r.own.incoming, m.append)
		return
	}
	s.write(r) // keep the order of arrival
	switch m.kind {
	case msgFlushed:
		s.onFlushed(r, m.offset, m.err)
	case msgAwait:
		s.onAwait(r, m.seen, m.waiter)
	case msgDeleteRecords:
		s.onDeleteRecords(r, m.offset, m.deleted)
	case msgStartDurable:
		s.onStartDurable(r, m.offset, m.err, m.deleted)
	case msgStartFollowed:
		s.onStartFollowed(r, m.err)
	case msgAwaitStart:
		s.onAwaitStart(r, m.start)
	case msgProducers:
		if r.own.err != nil {
			m.producers(nil, r.own.err)
			return
		}
		m.producers(&r.own.state.Producers, nil)
	case msgLead:
		s.onLead(r, m.epoch, *m.membership, m.led)
	case msgResign:
		s.onResign(r, m.epoch)
	case msgCopy:
		s.onCopy(r, m.copy)
	case msgVouch:
		s.onVouch(r, m.member, m.epoch, m.offset)
	case msgProposed:
		s.onProposed(r, m.epoch, m.good)
	case msgConfig:
		s.onConfig(r, m.config)
	case msgRetain, msgTrim:
		s.onRemove(r, m)
	case msgReplace, msgCompacted:
		s.onCompaction(r, m)
	case msgClose:
		s.onClose(r, m.good, m.closed)
	}
}

func (s *shard) touch(r *Replica) {
	if !r.own.touched {
		r.own.touched = true
		s.touched = append(s.touched, r)
	}
}

// settle ends a step for one replica: gathered appends are written, a flush is asked for, the view is published, and
// what the new high watermark acknowledges is answered. Answers come after the view: who reads it next sees them.
func (s *shard) settle(r *Replica) {
	r.own.touched = false
	s.write(r)
	o := &r.own
	if o.state.Flushed() < o.state.End() && o.config.Durability == partition.Flushed {
		s.flush(r)
	}
	if o.changed {
		r.publish()
	}
	s.answer(r)
	if cap(o.incoming) > 64 {
		o.incoming = nil // a burst's memory is given back
	}
}

// flush asks for a flush unless one is under way; its end looks whether another is due.
func (s *shard) flush(r *Replica) {
	o := &r.own
	if o.err != nil || o.flushing {
		return
	}
	o.flushing = true
	o.log.Flush(o.behind, func(end int64, err error) {
		s.box.Post(message{kind: msgFlushed, replica: r, offset: end, err: err})
	})
}

// publish makes the owner's state visible and wakes who waits for it.
func (r *Replica) publish() {
	o := &r.own
	o.changed = false
	r.counts.lag.Store(o.state.Lag())
	leader, epoch := o.state.Leader()
	old := r.view.Load()
	v := &View{
		Err: o.err, Leader: leader && o.err == nil, LeaderEpoch: epoch, InSync: o.state.InSync(), PartitionEpoch: o.state.PartitionEpoch(),
		Start: o.state.Start(), LastStable: o.state.LastStable(), HighWatermark: o.state.HighWatermark(), End: o.state.End(),
		Log: o.log.View(), Config: o.config, Vouches: -1, LeadStart: o.leadStart,
	}
	if offset, ok := r.shard.vouches(o); ok {
		v.Vouches = offset
	}
	r.view.Store(v)
	if old == nil {
		return
	}
	if v.Start != old.Start {
		r.shard.startMoved(r)
	}
	o.waiters = slices.DeleteFunc(o.waiters, func(w *Waiter) bool {
		news := w.news(v, old)
		if news {
			w.fire()
		}
		return news || w.over.Load()
	})
}

// answer finishes the parked appends that are acknowledged now.
func (s *shard) answer(r *Replica) {
	o := &r.own
	o.written.answer(o.state.Own(), o.state.Start())
	o.parked.answer(o.state.HighWatermark(), o.state.Start())
}

func (s *shard) onFlushed(r *Replica, end int64, err error) {
	o := &r.own
	o.flushing = false
	if o.err != nil {
		return
	}
	if err != nil {
		s.fail(r, err)
		return
	}
	// A flush may come back after a truncation, and what was copied since lies where it says: the log knows.
	if o.state.FlushedTo(min(end, o.log.FlushedEnd())) {
		s.acknowledged(r)
		if err := s.followStart(r); err != nil {
			s.fail(r, err)
			return
		}
	}
	s.tellVouched(r)
	s.check(r)
}

// acknowledged notes that the high watermark has moved.
func (s *shard) acknowledged(r *Replica) {
	o := &r.own
	o.changed, o.unnamed = true, true
	o.log.SetHighWatermark(o.state.HighWatermark())
}

// fail makes a replica unusable: its directory has failed, or the state contradicts itself. Nothing that was not
// acknowledged will be.
func (s *shard) fail(r *Replica, err error) {
	o := &r.own
	if o.err != nil {
		return
	}
	o.err, o.changed = err, true
	s.deps.Observer.Log.Error("partition stopped", "topic", r.tp.Topic, "partition", r.tp.Partition, "error", err)
	s.refuse(r, err)
	s.refuseStarts(r, err)
	if s.deps.Failed != nil {
		s.deps.Failed(r)
	}
}

// refuse answers everything that waits with err.
func (s *shard) refuse(r *Replica, err error) {
	o := &r.own
	for _, a := range o.incoming {
		a.finish(err)
	}
	o.incoming = nil
	o.written.refuse(err)
	o.parked.refuse(err)
}

func (s *shard) check(r *Replica) {
	if err := r.own.state.CheckInvariants(); err != nil {
		s.fail(r, err)
	}
}

func (s *shard) onAwait(r *Replica, seen *View, w *Waiter) {
	o := &r.own
	if o.changed || o.err != nil || w.news(r.View(), seen) {
		w.fire()
		return
	}
	if len(o.waiters) > 0 && len(o.waiters) == cap(o.waiters) {
		live := o.waiters[:0] // those that were cancelled meanwhile go before the list grows
		for _, x := range o.waiters {
			if !x.over.Load() {
				live = append(live, x)
			}
		}
		clear(o.waiters[len(live):])
		o.waiters = live
	}
	if limit := max(s.cfg.WaitersMax, 1); len(o.waiters) >= limit {
		o.waiters[0].fire()
		o.waiters = append(o.waiters[:0], o.waiters[1:]...)
	}
	o.waiters = append(o.waiters, w)
}

func (s *shard) onLead(r *Replica, epoch int32, m partition.Membership, done func(int32, error)) {
	o := &r.own
	if o.err != nil {
		done(o.state.LogEpoch(), o.err)
		return
	}
	if s.cfg.bugs[LeadOldEpochs] {
		o.state.ForgetEpoch()
	}
	highWatermark := o.state.HighWatermark()
	if err := o.state.Lead(epoch, m, s.now.Mono); err != nil {
		done(o.state.LogEpoch(), err)
		return
	}
	o.changed, o.behind, o.leadStart = true, false, -1
	if o.state.HighWatermark() > highWatermark { // whom it waited for is not in sync any more
		s.acknowledged(r)
	}
	s.watchInSync(r)
	if err := o.log.AssignLeaderEpoch(epoch, o.state.End()); err != nil {
		s.fail(r, err)
	}
	s.flush(r)  // an empty log that was just made is not durable yet, and no append may come for long
	r.publish() // before the answer: the coordinator looks at once
	done(o.state.LogEpoch(), o.err)
}

func (s *shard) onResign(r *Replica, epoch int32) {
	led, before := r.own.state.Leader()
	r.own.state.Resign(epoch)
	r.own.log.DropEmptyEpochs()
	r.own.changed = true
	if _, now := r.own.state.Leader(); led || now != before {
		r.own.leadStart = -1
	}
	s.refuse(r, partition.ErrNotLeader)
}

func (s *shard) onConfig(r *Replica, c *Config) {
	o := &r.own
	o.config, o.changed = c, true
	before := o.state.HighWatermark()
	o.state.SetDurability(c.Durability)
	if o.err == nil && o.state.HighWatermark() > before { // less is asked of what is acknowledged
		s.acknowledged(r)
		if err := s.followStart(r); err != nil {
			s.fail(r, err)
		}
	}
	if err := o.log.SetConfig(c.Log); err != nil {
		s.deps.Observer.Log.Error("settings refused by the log", "topic", r.tp.Topic, "partition", r.tp.Partition, "error", err)
	}
}

// onRemove applies retention or the device's budget, never beyond what readers of committed data have been given.
func (s *shard) onRemove(r *Replica, m *message) {
	o := &r.own
	if o.err != nil {
		m.removed(seglog.Removed{}, o.err)
		return
	}
	var removed seglog.Removed
	var err error
	bound := o.state.LastStable()
	if m.kind == msgTrim {
		removed, err = o.log.TrimTo(s.now, m.offset, bound)
	} else {
		removed, err = o.log.Retention(s.now, m.good, bound)
		if o.config.ProducerExpiration > 0 && m.good {
			o.state.Producers.Expire(s.now.UnixMilli(), o.config.ProducerExpiration)
		}
	}
	if removed.Segments > 0 {
		o.state.StartMoved(removed.StartOffset)
		o.changed, o.startDue = true, true
		s.activate(r)
	}
	if errors.Is(err, seglog.ErrFailed) {
		s.fail(r, err)
	}
	m.removed(removed, err)
}

// onCompaction puts a compacted segment in its place, or notes how far the log is compacted.
func (s *shard) onCompaction(r *Replica, m *message) {
	o := &r.own
	if o.err != nil {
		m.closed(o.err)
		return
	}
	var err error
	if m.kind == msgCompacted {
		err = o.log.SetCleaned(*m.compacted, m.offset)
	} else {
		err = o.log.Replace(m.rewrite)
	}
	if err == nil {
		o.changed = true // older views read on in the new segment, and keep the old ones in memory
	}
	if errors.Is(err, seglog.ErrFailed) {
		s.fail(r, err)
	}
	m.closed(err)
}

func (s *shard) onClose(r *Replica, remove bool, done func(error)) {
	o := &r.own
	s.refuse(r, ErrClosed)
	s.refuseStarts(r, ErrClosed)
	s.forget(r)
	failed := o.err
	o.err, o.changed = ErrClosed, true
	r.publish()
	switch {
	case remove:
		done(o.log.Delete())
	case failed != nil:
		done(nil) // the directory has failed: there is nothing to save
	default:
		err := o.log.SaveProducerState(o.state.End(), o.state.Producers.MarshalSnapshot(nil))
		done(errors.Join(err, o.log.Close()))
	}
}

func (s *shard) forget(r *Replica) {
	if !r.own.active {
		return
	}
	r.own.active = false
	for i, x := range s.active {
		if x == r {
			s.active = append(s.active[:i], s.active[i+1:]...)
			return
		}
	}
}

// onTick lets idle partitions go, answers parked appends whose time is over, and asks for a checkpoint.
func (s *shard) onTick() {
	moved := false
	kept := s.active[:0]
	for _, r := range s.active {
		o := &r.own
		moved = moved || o.unnamed
		o.unnamed = false
		s.propose(r)
		o.written.timeOut(s.now.Mono)
		o.parked.timeOut(s.now.Mono)
		o.idle++
		if o.startDue && o.err == nil {
			if err := s.followStart(r); err != nil {
				s.fail(r, err)
				r.publish()
			}
		}
		if o.idle < idleTicks || len(o.parked)+len(o.written) > 0 || o.flushing || s.waits(r) {
			kept = append(kept, r)
			continue
		}
		var err error
		if o.err == nil {
			err = o.log.Rest()
		}
		if errors.Is(err, seglog.ErrFull) { // it is all there, and rests when there is space again
			kept = append(kept, r)
			continue
		}
		if o.active = false; err != nil {
			s.fail(r, err)
			r.publish()
		}
	}
	clear(s.active[len(kept):])
	s.active = kept
	if moved && s.deps.Moved != nil {
		s.deps.Moved()
	}
}

func closedError(err error) error {
	switch {
	case errors.Is(err, mailbox.ErrFull):
		return ErrBusy
	case errors.Is(err, mailbox.ErrClosed):
		return ErrClosed
	}
	return err
}
