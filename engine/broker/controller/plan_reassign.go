package controller

import (
	"slices"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A reassignment (KIP-455) is three writes. The first adds the new replicas to the others and names both kinds; the leader
// lets the new ones into the ISR like any follower; and as soon as all that are to stay are in it, reconcile takes the rest
// away. A replica that is to go is waited for by nobody, and nothing that is in sync leaves before all targets are.
//
// Where Kafka's controller compares a second reassignment with the replicas of the first, and forgets what was there before
// it, the original replicas are kept here through any number of changes: a replica that no reassignment wants any more is
// both added and removed. So a cancellation always restores what was there before the first.

// reassigning plans AlterPartitionReassignments.
type reassigning struct {
	req     AlterReassignments
	done    func([]PartitionResult)
	results []PartitionResult
	taken   []bool // by place in the request: what an earlier step has planned
	twice   []bool // and what stands there for a second time
}

func (r *reassigning) step(w *work, f *facts) outcome {
	if r.taken == nil {
		r.taken, r.twice = make([]bool, len(r.req.Partitions)), make([]bool, len(r.req.Partitions))
		seen := make(map[TopicPartition]bool, len(r.req.Partitions))
		for i := range r.req.Partitions {
			tp := r.req.Partitions[i].TopicPartition
			r.twice[i], seen[tp] = seen[tp], true
		}
	}
	r.results = r.results[:0]
	if w.full() {
		return again
	}
	// What changes is gathered by topic: a topic is one znode, whose writing costs as much as it has partitions.
	changes := map[string]*reshape{}
	var order []*reshape
	ops, bytes := len(w.ops), w.bytes
	for i := range r.req.Partitions {
		one := &r.req.Partitions[i]
		if ops >= multiOpsMax || bytes >= multiBytesMax {
			break
		}
		to, state, err := r.wanted(w.now, f, i)
		r.results = append(r.results, PartitionResult{TopicPartition: one.TopicPartition, Err: err})
		if to == nil {
			continue
		}
		g := changes[one.Topic]
		if g == nil {
			g = &reshape{topic: w.now.Topic(one.Topic)}
			changes[one.Topic], order = g, append(order, g)
		}
		before := g.size
		g.set(one.Partition, to, state)
		if one.Replicas != nil && len(one.Replicas) != len(g.topic.Partitions[one.Partition].Target()) {
			g.assignment.AutoReplication = false // somebody has asked for a factor
		}
		r.taken[i] = true
		bytes += g.size - before
		if state != nil {
			ops++
		}
	}
	for _, g := range order {
		g.plan(w)
	}
	if len(r.results) < len(r.req.Partitions) {
		return again
	}
	return ready
}

// wanted is what a partition is to be. to is nil where nothing changes; the texts are those of
// ReplicationControlManager.alterPartitionReassignment.
func (r *reassigning) wanted(s *catalog.Snapshot, f *facts, at int) (to *catalog.Partition, state *catalog.PartitionState, err *Error) {
	one := &r.req.Partitions[at]
	t := s.Topic(one.Topic)
	if t == nil || t.Deleting {
		return nil, nil, refuse(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", one.Topic)
	}
	p := t.Partition(one.Partition)
	if p == nil {
		return nil, nil, refuse(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", one.Topic, one.Partition)
	}
	if r.twice[at] { // two wishes for one partition; Kafka's tools refuse them
		return nil, nil, refuse(kerr.InvalidRequest, "Partition %s:%d stands there twice.", one.Topic, one.Partition)
	}
	if one.Replicas == nil {
		if r.taken[at] && !p.Reassigning() {
			return nil, nil, nil // it is there: an earlier step's
		}
		return cancelled(s, f, t, one.Partition, p)
	}
	if r.taken[at] && slices.Equal(p.Target(), one.Replicas) {
		return nil, nil, nil
	}
	if err := checkReplicas(s, one.Replicas, 0); err != nil {
		return nil, nil, err
	}
	if have := len(p.Target()); r.req.KeepFactor && have != len(one.Replicas) {
		return nil, nil, refuse(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", have, len(one.Replicas))
	}
	to, state = moved(s, f, t, one.Partition, p, one.Replicas)
	return to, state, nil
}

// moved is a partition on its way to other replicas, or there, if nothing has to be waited for; nil where it is that already.
func moved(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, p *catalog.Partition, target []int32) (*catalog.Partition, *catalog.PartitionState) {
	if !p.HasState { // it has never been led, and there is nothing to copy
		if slices.Equal(p.Replicas, target) {
			return nil, nil
		}
		return p.With(target, nil, nil), nil
	}
	original := p.Original()
	removing := slices.Sorted(slices.Values(without(p.Replicas, func(id int32) bool { return slices.Contains(target, id) })))
	replicas := slices.Concat(target, removing)
	adding := slices.Sorted(slices.Values(without(replicas, func(id int32) bool { return slices.Contains(original, id) })))
	if slices.Equal(replicas, p.Replicas) && slices.Equal(adding, p.Adding) && slices.Equal(removing, p.Removing) {
		return nil, nil
	}
	to := p.With(replicas, adding, removing)
	for i, id := range replicas {
		if b := s.Broker(id); b != nil && !p.Holds(id) {
			to.Directories[i] = chooseDirectory(b, t.ID, index) // an empty replica is made there, and nowhere else
		}
	}
	if !to.Reassigning() { // the same replicas in another order
		return to, nil
	}
	if there, state, ok := completed(s, f, t, index, to); ok {
		return there, &state
	}
	state := electFor(s, f, t, index, to)
	return to, &state
}

// completed is a partition after its reassignment, if that can end: everything that is to stay is in sync, and lives
// (PartitionReassignmentReplicas.maybeCompleteReassignment). Where nobody in sync is about to go, those that come are enough:
// Kafka waits for a box too that is away and stays a replica, so that a lost one is not replaced while another is away. A
// leader that goes has a successor; one that stays gets a new epoch too, so that whoever went is not heard any more.
func completed(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, p *catalog.Partition) (to *catalog.Partition, state catalog.PartitionState, ok bool) {
	if !p.Reassigning() {
		return nil, state, false
	}
	to = p.With(p.Target(), nil, nil)
	needed := to.Replicas
	if len(to.ISR) == len(p.ISR) && len(to.ELR) == len(p.ELR) {
		needed = without(needed, func(id int32) bool { return !slices.Contains(p.Adding, id) })
	}
	if len(to.ISR) == 0 || !within(needed, to.ISR) {
		return nil, state, false
	}
	state = settled(s, f, t, index, p, to)
	return to, state, state.Leader != catalog.NoLeader && within(needed, state.ISR)
}

// within reports whether a list has all of some.
func within(some, all []int32) bool {
	return !slices.ContainsFunc(some, func(id int32) bool { return !slices.Contains(all, id) })
}

// cancelled is a partition as it was before its reassignment (PartitionReassignmentRevert).
func cancelled(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, p *catalog.Partition) (*catalog.Partition, *catalog.PartitionState, *Error) {
	if !p.Reassigning() {
		return nil, nil, &Error{Kind: kerr.NoReassignmentInProgress}
	}
	to := p.With(p.Original(), nil, nil)
	if len(to.Replicas) == 0 {
		return nil, nil, refuse(kerr.InvalidReplicaAssignment, "Invalid replica assignment: addingReplicas contains all replicas.")
	}
	if p.HasState && len(to.ISR) == 0 && len(to.ELR) == 0 {
		if !t.Settings.UncleanElection {
			return nil, nil, refuse(kerr.InvalidReplicaAssignment,
				"Unable to revert partition assignment for %s:%d because it would require an unclean leader election.", t.Name, index)
		}
		to.ISR = to.Replicas[:1]
	}
	if !p.HasState {
		return to, nil, nil
	}
	state := settled(s, f, t, index, p, to)
	return to, &state, nil
}

// settled elects, in a new leader epoch, for a partition that has lost replicas, or has others in their place, from p to to.
func settled(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, p, to *catalog.Partition) catalog.PartitionState {
	state := electFor(s, f, t, index, to)
	if state.LeaderEpoch == p.LeaderEpoch {
		state.LeaderEpoch++
	}
	return state
}

// electFor gives a partition with other replicas its state. A new state must not hide what an election would have seen in the
// old one: who is gone, who may have forgotten something, and who is not eligible any more because fewer must be in sync. A
// leader that has not yet told this controller what its log holds goes on.
func electFor(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, to *catalog.Partition) catalog.PartitionState {
	state, changed := elect(s, f, t, index, to, cleanElection)
	state.ControllerEpoch = s.ControllerEpoch
	if !changed && state.Leader == catalog.NoLeader && to.Leader != catalog.NoLeader {
		if leader := s.LeaderOf(to); slices.Contains(state.ISR, leader) {
			state.Leader = leader
		} else {
			state.LeaderEpoch++
		}
	}
	return state
}

// reshape gathers what changes in the partitions of one topic.
type reshape struct {
	topic      *catalog.Topic
	ops        []catalog.Op
	size       int
	assignment *catalog.TopicAssignment // nil while no replicas change
}

// set takes a partition as it is to be, and its state; nil leaves the state as it is.
func (r *reshape) set(index int32, to *catalog.Partition, state *catalog.PartitionState) {
	if p := r.topic.Partitions[index]; to != p {
		if r.assignment == nil {
			a := catalog.AssignmentOf(r.topic)
			r.assignment = &a
		}
		r.assignment.Assign(index, to)
	}
	if state != nil {
		op := setState(r.topic, index, *state)
		r.ops = append(r.ops, op)
		r.size += op.Size()
	}
}

// full reports whether no more should be gathered. The replicas do not count: they cost the same for one partition and for all.
func (r *reshape) full(w *work) bool {
	return len(w.ops)+len(r.ops) >= multiOpsMax || w.bytes+r.size >= multiBytesMax
}

// plan plans it: the replicas first, so that a state always names none but replicas.
func (r *reshape) plan(w *work) {
	if r.assignment != nil {
		w.do(set(catalog.TopicPath(r.topic.Name), catalog.EncodeTopic(*r.assignment)))
	}
	w.do(r.ops...)
}

func (r *reassigning) answer() { r.done(r.results) }

func (r *reassigning) fail(err *Error) {
	results := make([]PartitionResult, 0, len(r.req.Partitions))
	for _, p := range r.req.Partitions {
		results = append(results, PartitionResult{TopicPartition: p.TopicPartition, Err: err})
	}
	r.done(results)
}
