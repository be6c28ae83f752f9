package controller

import (
	"slices"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// AlterInSync asks, in the name of a broker, for other in-sync replicas of partitions that it leads (KIP-497).
type AlterInSync struct {
	Broker int32
	// BrokerEpoch is that of the registration in which it leads.
	BrokerEpoch int64
	Partitions  []InSyncChange
}

// InSyncChange is what is asked for one partition.
type InSyncChange struct {
	Topic     catalog.UUID
	Partition int32
	// LeaderEpoch is the broker's, and PartitionEpoch that of the state which it has seen.
	LeaderEpoch, PartitionEpoch int32
	// InSync are the in-sync replicas, the leader among them, each in the registration in which it has vouched (KIP-903).
	InSync []InSyncReplica
}

// InSyncReplica is a broker in one of its registrations.
type InSyncReplica struct {
	Broker int32
	Epoch  int64
}

// InSyncResult is the answer for one partition: nil when the catalog shows what was asked for. Every error means that nothing
// was written, but for that of a request that has timed out or lost its controller.
type InSyncResult struct {
	Topic     catalog.UUID
	Partition int32
	Err       *Error
}

// AlterInSync changes in-sync replicas.
func (c *Controller) AlterInSync(req AlterInSync, done func([]InSyncResult)) {
	c.submit(&inSyncAlteration{req: req, done: done}, requestTimeout)
}

// inSyncAlteration plans AlterInSync.
type inSyncAlteration struct {
	req     AlterInSync
	done    func([]InSyncResult)
	planned map[int]catalog.PartitionState // by place in the request: what an earlier step has planned
	results []InSyncResult
}

func (a *inSyncAlteration) step(w *work, f *facts) outcome {
	if a.planned == nil {
		a.planned = map[int]catalog.PartitionState{}
	}
	a.results = a.results[:0]
	for i := range a.req.Partitions {
		if w.full() {
			return again
		}
		change := &a.req.Partitions[i]
		a.results = append(a.results, InSyncResult{change.Topic, change.Partition, a.alter(w, f, i, change)})
	}
	return ready
}

// alter plans one change. The rules are those of ReplicationControlManager.alterPartition.
func (a *inSyncAlteration) alter(w *work, f *facts, at int, change *InSyncChange) *Error {
	b := w.now.Broker(a.req.Broker)
	if b == nil || b.Epoch != a.req.BrokerEpoch {
		return &Error{Kind: kerr.StaleBrokerEpoch}
	}
	t := w.now.TopicByID(change.Topic)
	if t == nil || t.Deleting {
		return &Error{Kind: kerr.UnknownTopicID}
	}
	p := t.Partition(change.Partition)
	if p == nil || !p.HasState {
		return &Error{Kind: kerr.UnknownTopicOrPartition}
	}
	if planned, ok := a.planned[at]; ok && p.PartitionEpoch == change.PartitionEpoch+1 && slices.Equal(planned.ISR, p.ISR) && slices.Equal(planned.ELR, p.ELR) {
		return nil // it is there: an earlier step's
	}
	switch {
	case change.PartitionEpoch > p.PartitionEpoch || change.LeaderEpoch > p.LeaderEpoch:
		return &Error{Kind: kerr.NotController} // it knows more than this controller
	case change.LeaderEpoch < p.LeaderEpoch:
		return &Error{Kind: kerr.FencedLeaderEpoch}
	case w.now.LeaderOf(p) != a.req.Broker:
		return refuse(kerr.InvalidRequest, "Broker %d does not lead %s-%d.", a.req.Broker, t.Name, change.Partition)
	case change.PartitionEpoch < p.PartitionEpoch:
		return &Error{Kind: kerr.InvalidUpdateVersion}
	}
	var isr []int32
	for _, r := range change.InSync {
		if slices.Contains(isr, r.Broker) || !p.Holds(r.Broker) {
			return refuse(kerr.InvalidRequest, "Broker %d is no replica of %s-%d, or stands there twice.", r.Broker, t.Name, change.Partition)
		}
		isr = append(isr, r.Broker)
	}
	if !slices.Contains(isr, a.req.Broker) {
		return refuse(kerr.InvalidRequest, "The leader of %s-%d is not among its in-sync replicas.", t.Name, change.Partition)
	}
	for _, r := range change.InSync {
		// One that stays is judged by what lives; one that joins has vouched in the registration that is named, and in no other. One
		// that may have forgotten something joins anew.
		if joins := !slices.Contains(p.ISR, r.Broker) || w.now.Forgetful(t, p, r.Broker); joins && !eligible(w.now, p, r) {
			return refuse(kerr.IneligibleReplica, "Broker %d is not registered under epoch %d, or its log directory is gone.", r.Broker, r.Epoch)
		} else if joins && f.leaving.has(w.now, r.Broker) {
			return refuse(kerr.IneligibleReplica, "Broker %d is about to stop.", r.Broker)
		} else if joins && p.Directory(r.Broker).Reserved() && whereabouts(f, w.now.Broker(r.Broker), t.ID, change.Partition).IsZero() {
			return refuse(kerr.IneligibleReplica, "Nobody knows in which log directory broker %d has %s-%d.", r.Broker, t.Name, change.Partition)
		}
	}
	next := p.State()
	next.ControllerEpoch = w.now.ControllerEpoch
	for _, r := range isr { // one that was away when the partition was made has chosen for itself
		if id := whereabouts(f, w.now.Broker(r), t.ID, change.Partition); next.Directories[r].Reserved() && !id.IsZero() {
			next.Directories[r] = id
		}
	}
	next.ISR, next.ELR = inOrderOf(p.Replicas, isr), eligibleLeaders(t, p, isr)
	if slices.Equal(next.ISR, p.ISR) && slices.Equal(next.ELR, p.ELR) {
		return nil
	}
	a.planned[at] = next
	w.do(setState(t, change.Partition, next))
	return nil
}

func eligible(s *catalog.Snapshot, p *catalog.Partition, r InSyncReplica) bool {
	b := s.Broker(r.Broker)
	return b != nil && b.Epoch == r.Epoch && s.ReplicaOnline(p, r.Broker)
}

// inOrderOf sorts brokers as they stand among the replicas.
func inOrderOf(replicas, brokers []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(replicas), func(r int32) bool { return !slices.Contains(brokers, r) })
}

// eligibleLeaders are those that leave the ISR, or are eligible already, while fewer are in sync than must be (KIP-966): the high
// watermark rests then, and they have all that is acknowledged. Where fewer must be than did, and enough are, the leader may have
// acknowledged without them.
func eligibleLeaders(t *catalog.Topic, p *catalog.Partition, isr []int32) (elr []int32) {
	before, minimum := p.ELR, t.Settings.EffectiveMinISR(p.Factor())
	if len(isr) >= minimum {
		return nil
	}
	if len(p.ISR) >= minimum {
		before = nil
	}
	for _, r := range slices.Concat(before, p.ISR) {
		if !slices.Contains(isr, r) && !slices.Contains(elr, r) {
			elr = append(elr, r)
		}
	}
	return elr
}

func (a *inSyncAlteration) answer() { a.done(a.results) }

func (a *inSyncAlteration) fail(err *Error) {
	results := make([]InSyncResult, 0, len(a.req.Partitions))
	for _, p := range a.req.Partitions {
		results = append(results, InSyncResult{p.Topic, p.Partition, err})
	}
	a.done(results)
}
