package controller

import (
	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// electing plans ElectLeaders.
type electing struct {
	req     ElectLeaders
	done    func([]PartitionResult, *Error)
	results map[TopicPartition]*Error
	order   []TopicPartition
	refused *Error
}

func (e *electing) step(w *work, f *facts) outcome {
	if e.req.Type != PreferredElection && e.req.Type != UncleanElection {
		e.refused = refuse(kerr.InvalidRequest, "Unknown election type %d", e.req.Type)
		return ready
	}
	if e.order == nil {
		e.order = e.wanted(w.now)
		e.results = make(map[TopicPartition]*Error, len(e.order))
	}
	for _, tp := range e.order {
		err, done := e.results[tp]
		if done && err != nil {
			continue
		}
		if w.full() {
			return again
		}
		// An earlier step's election is either there, and then none is needed, or was lost and is held again.
		if err = e.elect(w, f, tp); !done || err == nil || err.Kind != kerr.ElectionNotNeeded {
			e.results[tp] = err
		}
	}
	return ready
}

func (e *electing) wanted(s *catalog.Snapshot) []TopicPartition {
	if !e.req.All {
		return e.req.Partitions
	}
	all := []TopicPartition{}
	for t := range s.Topics() {
		for i := range t.Partitions {
			if !t.Deleting {
				all = append(all, TopicPartition{t.Name, int32(i)})
			}
		}
	}
	return all
}

// elect plans one election; the texts are Kafka's (ReplicationControlManager.electLeader).
func (e *electing) elect(w *work, f *facts, tp TopicPartition) *Error {
	t := w.now.Topic(tp.Topic)
	if t == nil || t.Deleting {
		return refuse(kerr.UnknownTopicOrPartition, "No such topic as %s", tp.Topic)
	}
	p := t.Partition(tp.Partition)
	if p == nil || !p.HasState {
		return refuse(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", tp.Topic, tp.Partition)
	}
	leader := w.now.LeaderOf(p)
	kind := preferredElection
	if e.req.Type == UncleanElection {
		kind = uncleanElection
		if leader != catalog.NoLeader {
			return &Error{Kind: kerr.ElectionNotNeeded}
		}
	} else if leader == p.Replicas[0] {
		return &Error{Kind: kerr.ElectionNotNeeded}
	}
	next, changed := elect(w.now, f, t, tp.Partition, p, kind)
	if !changed || next.Leader == catalog.NoLeader || (kind == preferredElection && next.Leader != p.Replicas[0]) {
		if kind == preferredElection {
			return &Error{Kind: kerr.PreferredLeaderNotAvailable}
		}
		return &Error{Kind: kerr.EligibleLeadersNotAvailable}
	}
	w.do(setState(t, tp.Partition, next))
	return nil
}

func (e *electing) answer() {
	results := make([]PartitionResult, 0, len(e.order))
	for _, tp := range e.order {
		err := e.results[tp]
		if e.req.All && err != nil && err.Kind == kerr.ElectionNotNeeded {
			continue
		}
		results = append(results, PartitionResult{TopicPartition: tp, Err: err})
	}
	e.done(results, e.refused)
}

func (e *electing) fail(err *Error) { e.done(nil, err) }

// allocation plans a block of producer ids. A block that was written and never answered is lost, which costs nothing.
type allocation struct {
	broker int32
	done   func(first int64, count int32, err error)
	block  catalog.ProducerIDBlock
	err    *Error
}

func (a *allocation) step(w *work, f *facts) outcome {
	if w.full() {
		return again
	}
	a.block = catalog.ProducerIDBlock{Broker: a.broker}
	if last := w.now.ProducerIDs; last != nil {
		if last.End > 1<<63-1-catalog.ProducerIDBlockSize-1 {
			a.err = refuse(kerr.UnknownServerError, "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit")
			return ready
		}
		a.block.Start = last.End + 1
	}
	a.block.End = a.block.Start + catalog.ProducerIDBlockSize - 1
	w.do(put(w.now.ProducerIDs != nil, catalog.ProducerIDBlockPath, catalog.EncodeProducerIDBlock(a.block)))
	return ready
}

func (a *allocation) answer() {
	if a.err != nil {
		a.done(0, 0, a.err)
		return
	}
	a.done(a.block.Start, catalog.ProducerIDBlockSize, nil)
}

func (a *allocation) fail(err *Error) { a.done(0, 0, err) }
