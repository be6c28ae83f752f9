package replica

import (
	"errors"
	"fmt"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
)

// write takes the gathered appends of a replica in order: each is checked and stamped, neighbours are joined into one
// write of at most StageBytesMax bytes. What was written is parked, and answered by settle.
func (s *shard) write(r *Replica) {
	o := &r.own
	if len(o.incoming) == 0 {
		return
	}
	incoming := o.incoming
	o.incoming = o.incoming[:0]
	var staged []*AppendRequest // a run of incoming, in place
	first := 0
	at := o.state.End()
	s.scratch = s.scratch[:0]
	flush := func(upTo int) {
		if len(staged) > 0 {
			s.commit(r, staged)
		}
		first, staged = upTo, nil
		at = o.state.End()
		s.scratch = s.scratch[:0]
	}
	for i, a := range incoming {
		if len(staged) > 0 && len(s.scratch)+len(a.Batch) > s.cfg.StageBytesMax {
			flush(i)
		}
		retry, err := s.prepare(r, a, at)
		if retry && len(staged) > 0 {
			// The original may be among the staged, and their write may fail: what is in the log decides.
			flush(i)
			retry, err = s.prepare(r, a, at)
		}
		if err != nil || retry {
			flush(i + 1)
			s.refuseOrRepeat(r, a, err)
			continue
		}
		s.scratch = append(s.scratch, a.Batch...)
		staged = incoming[first : i+1]
		at = a.end
	}
	flush(len(incoming))
	clear(incoming)
	if cap(s.scratch) > 4*max(s.cfg.StageBytesMax, 64<<10) {
		s.scratch = nil
	}
}

// refuseOrRepeat answers an append that will not be written: an error at once, a retry with its first outcome, which
// may itself still wait for its flush.
func (s *shard) refuseOrRepeat(r *Replica, a *AppendRequest, err error) {
	if err != nil {
		s.refused.Inc()
		a.LogStart = r.own.state.Start()
		a.finish(err)
		return
	}
	s.activate(r) // a partition at rest would never see its time pass
	s.park(r, a)
}

// prepare decides on one append and stamps its batches from offset at on. It reports true for a retry of a batch that
// is in the log already; then a.BaseOffset and a.end are the original's.
func (s *shard) prepare(r *Replica, a *AppendRequest, at int64) (retry bool, err error) {
	o := &r.own
	a.LogAppendTime, a.BaseOffset = -1, at
	if o.err != nil {
		return false, o.err
	}
	if err := o.state.CheckEpoch(a.ExpectedEpoch); err != nil {
		return false, err
	}
	if enough := max(o.config.InSyncMin, o.state.InSyncMin()); a.Acks == -1 && o.state.InSync() < enough {
		return false, fmt.Errorf("%w: %d in sync, min.insync.replicas is %d", partition.ErrNotEnoughReplicas, o.state.InSync(), enough)
	}
	scan := batch.Scan(a.Batch)
	for n := 0; scan.Next(); n++ {
		h, b := scan.Header(), scan.Bytes()
		if h.HasProducerID() && !h.Attributes.Control() && h.Size() != len(a.Batch) {
			// Its sequences are noted as each batch is looked at, and a later batch may be refused (LogValidator asks for
			// the same of every producer).
			return false, fmt.Errorf("%w: a batch of producer %d is not alone in its append", batch.ErrCorrupt, h.ProducerID)
		}
		if !a.Internal && h.Size() > o.config.BatchBytesMax {
			return false, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, h.Size(), o.config.BatchBytesMax)
		}
		if h.Attributes.Control() {
			if err := s.checkMarker(r, h, b); err != nil {
				return false, err
			}
		} else if known, dup, err := o.state.Producers.Check(h); err != nil {
			return false, err
		} else if dup && n == 0 {
			a.BaseOffset, a.end = known.BaseOffset(), known.LastOffset+1
			if o.config.LogAppendTime {
				a.LogAppendTime = known.Timestamp
			}
			return true, nil
		}
		if o.config.LogAppendTime {
			a.LogAppendTime = s.now.UnixMilli()
			batch.StampLogAppendTime(b, a.LogAppendTime)
			h.MaxTimestamp = a.LogAppendTime
		}
		o.state.Stamp(b, h, at)
		at = h.NextOffset()
		if !h.Attributes.Control() {
			s.makeRoom(r, h)
			o.state.Producers.Appended(h)
		}
	}
	if scan.Err() != nil || scan.Tail() != 0 || at == a.BaseOffset {
		return false, fmt.Errorf("%w: not a sequence of whole batches", batch.ErrCorrupt)
	}
	a.end = at
	return false, nil
}

func (s *shard) checkMarker(r *Replica, h *batch.Header, b []byte) error {
	marker, err := batch.ReadMarker(h, b)
	if err != nil {
		return err
	}
	return r.own.state.Producers.CheckMarker(h, marker.CoordinatorEpoch)
}

// makeRoom keeps a partition's producers within their maximum: a tenth of them goes at a time, those silent longest.
func (s *shard) makeRoom(r *Replica, h *batch.Header) {
	p, limit := &r.own.state.Producers, r.own.config.ProducersMax
	if limit > 0 && h.HasProducerID() && p.Len() >= limit && p.Get(h.ProducerID) == nil {
		p.EvictOldest(limit/10 + 1)
	}
}

// commit writes the staged appends, which lie end to end in scratch, and parks them.
func (s *shard) commit(r *Replica, staged []*AppendRequest) {
	o := &r.own
	b := s.scratch
	if len(staged) == 1 {
		b = staged[0].Batch
	}
	info, err := o.log.Append(s.now, b)
	if err != nil {
		s.commitFailed(r, staged, err)
		return
	}
	s.appends.Add(len(staged))
	s.bytes.Add(len(b))
	end := staged[len(staged)-1].end
	r.counts.appendedBytes.Add(int64(len(b)))
	r.counts.appendedRecords.Add(end - o.state.End())
	s.noteMarkers(r, b)
	o.state.Appended(end, s.now.Mono)
	o.changed = true
	if o.config.Durability == partition.Replicated {
		s.acknowledged(r)
	}
	s.saveStateIfDue(r, info)
	s.activate(r)
	for _, a := range staged {
		s.park(r, a)
	}
}

// saveStateIfDue writes the producers' state once much was appended since the last time.
func (s *shard) saveStateIfDue(r *Replica, info seglog.AppendInfo) {
	if info.StateDue {
		s.saveState(r)
	}
}

// saveState writes it, as it is at the log's end.
func (s *shard) saveState(r *Replica) {
	o := &r.own
	if err := o.log.SaveProducerState(o.state.End(), o.state.Producers.MarshalSnapshot(nil)); err != nil {
		s.deps.Observer.Log.Warn("producer snapshot not written; a start will read more of the log",
			"topic", r.tp.Topic, "partition", r.tp.Partition, "error", err)
	}
}

// activate has the ticks look at a partition.
func (s *shard) activate(r *Replica) {
	r.own.idle = 0
	if !r.own.active {
		r.own.active = true
		s.active = append(s.active, r)
	}
}

// noteMarkers tells the producers' state of control batches, which it was not told of before they were written.
func (s *shard) noteMarkers(r *Replica, b []byte) {
	for scan := batch.Scan(b); scan.Next(); {
		if h := scan.Header(); h.Attributes.Control() {
			s.noteMarker(r, h, scan.Bytes())
		}
	}
}

// noteMarker tells it of one, and the transaction index of what that aborted.
func (s *shard) noteMarker(r *Replica, h *batch.Header, b []byte) {
	o := &r.own
	if aborted, ok := note(&o.state.Producers, h, b); ok {
		if err := o.log.AppendAborted(seglog.AbortedTxn(aborted)); err != nil {
			s.fail(r, err)
		}
	}
}

// commitFailed puts the state back to what the log holds, and refuses what is not in it.
func (s *shard) commitFailed(r *Replica, staged []*AppendRequest, cause error) {
	o := &r.own
	was, end := o.state.End(), o.log.View().EndOffset()
	if end > was {
		o.state.Appended(end, s.now.Mono) // an earlier segment took some of it
		o.changed = true
	}
	if err := loadProducers(&o.state.Producers, o.log, was); err != nil {
		s.fail(r, errors.Join(cause, err))
	}
	o.state.Producers.PassedHighWatermark(o.state.HighWatermark())
	for _, a := range staged {
		if o.err == nil && a.end <= end {
			s.park(r, a)
			continue
		}
		s.refused.Inc()
		a.finish(cause)
	}
	if errors.Is(cause, seglog.ErrFailed) {
		s.fail(r, cause)
	}
}

// park queues a written append: until the high watermark has passed it, or, with acks=1, until this box has it on stable
// storage. acks=0 is answered at once: nobody waits. In a partition that has failed since the write, nothing will be
// acknowledged any more.
func (s *shard) park(r *Replica, a *AppendRequest) {
	o := &r.own
	if o.err != nil {
		a.finish(o.err)
		return
	}
	if a.Acks == 0 {
		a.LogStart = o.state.Start()
		a.finish(nil)
		return
	}
	timeout := a.Timeout
	if timeout <= 0 {
		timeout = acksTimeoutDefault
	}
	a.deadline = s.now.Mono + timeout
	if a.Acks == 1 {
		o.written.put(a)
		return
	}
	o.parked.put(a)
}
