package replica

import (
	"errors"
	"fmt"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
)

// Position is where a follower's log ends: what it asks its leader with (KIP-320, KIP-595).
type Position struct {
	// Epoch is the leader epoch that the follower is in.
	Epoch int32
	// Offset is its end, and LastEpoch the leader epoch of its last record, -1 for a log without records.
	Offset    int64
	LastEpoch int32
}

// Position is this replica's, as a follower.
func (v *View) Position() Position {
	p := Position{Epoch: v.LeaderEpoch, Offset: v.End, LastEpoch: -1}
	if v.End > v.Log.StartOffset() {
		p.LastEpoch = v.Log.EpochFor(v.End - 1)
	}
	return p
}

// Answer is what a leader answers a follower.
type Answer struct {
	HighWatermark, LogStart int64
	// Diverging says where the logs part: the follower cuts its own, and asks again.
	Diverging *partition.EpochEnd
	// Beyond says that the follower asked for what is not there any more: it starts anew at LogStart.
	Beyond bool
	// Span is what comes next, up to the log's end; it may end inside a batch. The caller releases it.
	Span seglog.Span
}

// Answer answers a follower, as the leader, with at most bytesMax bytes; atLeastOne lets a first batch through that is longer
// (KIP-74). Errors: partition.ErrNotLeader, ErrFenced, ErrUnknownEpoch and ErrNoCommonEpoch, those of seglog, and Err.
func (v *View) Answer(p Position, bytesMax int, atLeastOne bool) (a Answer, err error) {
	if v.Err != nil {
		return a, v.Err
	}
	err = v.CheckEpoch(p.Epoch)
	if p.Epoch < 0 { // a follower that has heard of no leader yet could not take what it is given
		err = partition.ErrFenced
	}
	if err != nil {
		return a, fmt.Errorf("%w: %d, the partition is in %d", err, p.Epoch, v.LeaderEpoch)
	}
	if !v.Leader {
		return a, partition.ErrNotLeader
	}
	a.HighWatermark, a.LogStart = v.HighWatermark, v.Start
	if p.Offset < v.Start || p.LastEpoch < 0 && p.Offset > v.End {
		a.Beyond = true
		return a, nil
	}
	if p.LastEpoch >= 0 {
		if a.Diverging, err = v.Diverging(p.LastEpoch, p.Offset); err != nil {
			return a, fmt.Errorf("%w: a follower's last record has epoch %d", err, p.LastEpoch)
		}
		if a.Diverging != nil {
			return a, nil
		}
	}
	a.Span, err = v.Log.Read(p.Offset, bytesMax, v.End, atLeastOne)
	return a, err
}

// CopyRequest is a leader's answer on its way into a follower's log. It belongs to the replica from Copy until Done.
type CopyRequest struct {
	// Asked is the position that the answer is for. An answer to an older one changes nothing.
	Asked Position
	Answer
	// Batches are the span's bytes, as they came; half a batch at their end is left out. The memory must stay untouched
	// until Done.
	Batches []byte
	// Behind says that the replica is not in sync: nobody waits until it has this on its disk.
	Behind bool
	// Done is called exactly once, on the owner's goroutine; it must not block. Err is nil when the answer was taken or was too
	// old; partition.ErrFenced when this box does not follow in that epoch any more; batch.ErrCorrupt and others leave
	// the log as it was.
	Done func(*CopyRequest)
	Err  error
	// Stale says that the answer was too old: what it tells is to be told again.
	Stale bool
}

func (s *shard) onCopy(r *Replica, c *CopyRequest) {
	r.own.behind = c.Behind
	c.Err = s.takeCopy(r, c)
	if errors.Is(c.Err, seglog.ErrFailed) {
		s.fail(r, c.Err)
	}
	s.tellVouched(r)
	s.check(r)
	if r.own.changed {
		r.publish() // before the answer: who asks for the position next sees it
	}
	c.Done(c)
}

func (s *shard) takeCopy(r *Replica, c *CopyRequest) error {
	o := &r.own
	leader, epoch := o.state.Leader()
	switch {
	case o.err != nil:
		return o.err
	case leader || c.Asked.Epoch != epoch:
		return fmt.Errorf("%w: an answer of epoch %d, the partition is in %d", partition.ErrFenced, c.Asked.Epoch, epoch)
	case c.Asked != s.position(r):
		c.Stale = true
		return nil
	case c.Beyond:
		o.leadStart = c.LogStart
		return s.startAnew(r, c.LogStart)
	case c.Diverging != nil:
		return s.truncate(r, *c.Diverging)
	}
	if err := s.copyBatches(r, c); err != nil {
		return err
	}
	o.changed = true
	if o.state.Fetched(c.HighWatermark) {
		s.acknowledged(r)
	}
	if o.leadStart != c.LogStart {
		o.leadStart, o.changed = c.LogStart, true
	}
	return s.followStart(r)
}

// position is the replica's, now.
func (s *shard) position(r *Replica) Position {
	_, epoch := r.own.state.Leader()
	v := View{LeaderEpoch: epoch, End: r.own.state.End(), Log: r.own.log.View()}
	return v.Position()
}

// copyBatches appends whole batches as they are. Their CRC is computed: the leader may have served a page that was being cut.
func (s *shard) copyBatches(r *Replica, c *CopyRequest) error {
	o := &r.own
	at, last, size := o.state.End(), c.Asked.LastEpoch, 0
	inside := false // the leader's log begins in the middle of the first batch
	scan := batch.Scan(c.Batches)
	for scan.Next() {
		h := scan.Header()
		if err := batch.VerifyCRC(scan.Bytes()); err != nil {
			return fmt.Errorf("copy %s-%d at offset %d: %w", r.tp.Topic, r.tp.Partition, at, err)
		}
		if size == 0 && h.BaseOffset < at && h.NextOffset() > at && (c.LogStart >= at || o.state.Start() == at) {
			inside, at, last = true, h.BaseOffset, -1
		}
		if h.BaseOffset < at || h.LeaderEpoch < last || h.LeaderEpoch > c.Asked.Epoch {
			return fmt.Errorf("copy %s-%d at offset %d: %w: a batch at offset %d of epoch %d behind epoch %d, the leader's is %d",
				r.tp.Topic, r.tp.Partition, at, batch.ErrCorrupt, h.BaseOffset, h.LeaderEpoch, last, c.Asked.Epoch)
		}
		at, last, size = h.NextOffset(), h.LeaderEpoch, size+h.Size()
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("copy %s-%d at offset %d: %w", r.tp.Topic, r.tp.Partition, at, err)
	}
	if size == 0 {
		return nil
	}
	if inside {
		return s.startInside(r, c.Batches[:size])
	}
	info, err := o.log.Append(s.now, c.Batches[:size])
	if err != nil {
		return errors.Join(err, s.reload(r)) // an earlier segment may have taken some of it
	}
	for scan := batch.Scan(c.Batches[:size]); scan.Next(); { // in the log's order: a transaction may end and the next begin
		if h := scan.Header(); h.Attributes.Control() {
			s.noteMarker(r, h, scan.Bytes())
		} else {
			s.makeRoom(r, h)
			o.state.Producers.Appended(h)
		}
	}
	o.state.Copied(at, last)
	s.bytes.Add(size)
	s.saveStateIfDue(r, info)
	s.activate(r)
	return nil
}

// truncate cuts the log where the leader says that the two part.
func (s *shard) truncate(r *Replica, leader partition.EpochEnd) error {
	o := &r.own
	view := o.log.View()
	to, err := partition.TruncationPoint(leader, func(epoch int32) partition.EpochEnd {
		e, end := view.EpochEnd(epoch)
		return partition.EpochEnd{Epoch: e, End: end}
	}, o.state.End())
	if err != nil {
		return err
	}
	if to < o.state.HighWatermark() {
		s.deps.Observer.Log.Error("records that were acknowledged are cut: the leader was elected without them",
			"topic", r.tp.Topic, "partition", r.tp.Partition, "from", to, "high_watermark", o.state.HighWatermark())
	}
	if err := o.log.Truncate(to); err != nil {
		return err
	}
	if err := s.reload(r); err != nil {
		return err
	}
	// A segment begins here, and those before may go. A snapshot that stands here is not written over: a power cut would tear it.
	if at, _, ok, err := o.log.ProducerState(o.state.End()); err == nil && (!ok || at < o.state.End()) {
		s.saveState(r)
	}
	return nil
}

// startAnew empties the log, for the leader's begins beyond its end.
func (s *shard) startAnew(r *Replica, offset int64) error {
	o := &r.own
	if err := o.log.TruncateFullyAndStartAt(offset); err != nil {
		return err
	}
	o.state.StartedAnew(offset)
	return s.reload(r)
}

// startInside puts batches in the place of everything that the log has, which lies before the leader's start, or is nothing: the leader's
// log begins at this one's end, in the middle of the first batch. (Kafka: Partition.appendRecordsToFollowerOrFutureReplica, on
// UnexpectedAppendOffsetException. There the start comes after the batch.)
func (s *shard) startInside(r *Replica, batches []byte) error {
	o := &r.own
	at := o.state.End()
	info, err := o.log.StartInside(s.now, at, batches)
	if o.log.View().StartOffset() == at { // else nothing has changed
		o.state.StartedAnew(at)
	}
	if errors.Is(err, seglog.ErrFailed) {
		return err // it may have stopped half-way; only a recovery reads that
	}
	if err := errors.Join(err, s.reload(r)); err != nil {
		return err
	}
	s.bytes.Add(len(batches))
	s.saveStateIfDue(r, info)
	s.activate(r)
	return nil
}

// reload brings the state to what the log holds, after it was cut, or took a part.
func (s *shard) reload(r *Replica) error {
	o := &r.own
	view := o.log.View()
	o.changed = true
	if end := view.EndOffset(); end > o.state.End() {
		o.state.Copied(end, view.LatestEpoch())
	} else {
		o.state.Truncated(end, view.LatestEpoch())
	}
	o.log.SetHighWatermark(o.state.HighWatermark())
	if err := loadProducers(&o.state.Producers, o.log, anyRow); err != nil {
		s.fail(r, err)
		return err
	}
	o.state.Producers.PassedHighWatermark(o.state.HighWatermark())
	return nil
}

// followStart lets go of what the leader has let go of, as far as it is acknowledged here: the rest follows when that is.
func (s *shard) followStart(r *Replica) error {
	o := &r.own
	start := max(min(o.leadStart, o.state.HighWatermark()), o.state.Start())
	if start == o.state.Start() && !o.startDue {
		return nil
	}
	err := o.log.AdvanceStart(start, func(err error) {
		s.box.Post(message{kind: msgStartFollowed, replica: r, err: err})
	})
	if err != nil {
		return err
	}
	o.following, o.startDue = o.following+1, false
	o.state.StartMoved(start)
	return nil
}

// onStartFollowed notes that the checkpoint is durable which a start of the leader's was to be in, or that there was no room for it.
func (s *shard) onStartFollowed(r *Replica, err error) {
	o := &r.own
	o.following--
	switch {
	case o.err != nil:
	case errors.Is(err, seglog.ErrFailed):
		s.fail(r, err)
	case err != nil:
		o.startDue = true
		s.activate(r) // the ticks try again
	case o.following == 0 && !o.startDue:
		o.changed, o.vouchedIn = true, noEpoch // what was told before was not repeated meanwhile
		s.tellVouched(r)
	}
}

// vouches is how far the follower vouches for its leader's log. One that is not in sync does not before the leader's start is durable here too:
// a deletion waits for those alone that are in sync or there, and who joins later must not bring back what it has deleted.
func (s *shard) vouches(o *owned) (offset int64, ok bool) {
	offset, ok = o.state.Vouches()
	if o.behind && (o.following > 0 || o.startDue || o.leadStart > o.state.Start()) {
		ok = false
	}
	if s.cfg.bugs[VouchByPosition] {
		offset = o.state.End()
	}
	return offset, ok
}

// tellVouched says that this follower vouches for more than it said last.
func (s *shard) tellVouched(r *Replica) {
	o := &r.own
	offset, ok := s.vouches(o)
	_, epoch := o.state.Leader()
	if !ok || o.err != nil || offset == o.vouched && epoch == o.vouchedIn {
		return
	}
	o.vouched, o.vouchedIn, o.changed = offset, epoch, true
	r.publish() // before it is told: whoever hears of it looks at the view
	if s.deps.Vouched != nil {
		s.deps.Vouched(r)
	}
}

// onVouch takes a follower's word. One that is behind, or of an epoch that is not this leader's, is not heard.
func (s *shard) onVouch(r *Replica, m partition.Member, epoch int32, offset int64) {
	if r.own.err != nil {
		return
	}
	if moved, err := r.own.state.Vouch(m, epoch, offset, s.now.Mono); err == nil && moved {
		s.acknowledged(r)
	}
	r.counts.lag.Store(r.own.state.Lag())
	s.watchInSync(r) // a follower that is behind is looked at again, and one that says the same once more wakes nobody
	s.propose(r)
	s.check(r)
}

// propose asks for another ISR when one is due.
func (s *shard) propose(r *Replica) {
	o := &r.own
	if s.deps.Propose == nil || o.err != nil {
		return
	}
	isr, ok := o.state.ProposeInSync(s.now.Mono, s.deps.LagMax)
	if !ok {
		return
	}
	_, epoch := o.state.Leader()
	s.deps.Propose(r, epoch, o.state.PartitionEpoch(), isr, func(written bool) {
		s.box.Post(message{kind: msgProposed, replica: r, epoch: epoch, good: written})
	})
}

// onProposed takes the controller's answer. What was written comes with the catalog.
func (s *shard) onProposed(r *Replica, epoch int32, written bool) {
	if leader, now := r.own.state.Leader(); leader && now == epoch && !written {
		r.own.state.InSyncRefused()
		s.acknowledged(r)
		s.watchInSync(r)
	}
}

// waits reports whether the partition's leader waits for a replica in sync, and has somebody to tell that it is late.
func (s *shard) waits(r *Replica) bool {
	return s.deps.Propose != nil && r.own.err == nil && r.own.state.Waits()
}

// watchInSync has the ticks look at a partition where a replica in sync is waited for, also where nobody writes: one that says nothing leaves
// the ISR in time, as with Kafka's, and holds up neither the high watermark nor who would have to follow it. When all have vouched, or a
// change is on its way, the partition rests.
func (s *shard) watchInSync(r *Replica) {
	if s.waits(r) {
		s.activate(r)
	}
}
