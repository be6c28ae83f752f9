package catalog

import "slices"

// NoLeader as a Partition's Leader means that nobody may lead it.
const NoLeader int32 = -1

// Partition is one partition as the tree has it. It is immutable, the slices included.
type Partition struct {
	// Topic is the topic's id, and Index the partition's number.
	Topic UUID
	Index int32
	// Replicas are the brokers that hold the partition, the preferred leader first. It comes from the topic's znode.
	Replicas []int32
	// Adding and Removing are the replicas that a reassignment adds and removes (KIP-455).
	Adding, Removing []int32
	// Directories are the directory ids of Replicas, in their order: which log directory of the broker holds the
	// replica (KIP-858). Zero means that none was chosen yet, or that a box has chosen one and nobody knows which; such a replica joins
	// no ISR.
	Directories []UUID

	// HasState reports whether the controller has written the state below.
	HasState bool
	// Leader is a broker id or NoLeader. A box leads only if LeaderBrokerEpoch is its own: see Snapshot.LeaderOf.
	Leader int32
	// LeaderEpoch counts the partition's leaders (KIP-101). It never goes back and is above every epoch in the log of
	// the leader at the moment of its election.
	LeaderEpoch int32
	// LeaderBrokerEpoch is the epoch of the leader's registration that was elected. A box that starts has a new broker
	// epoch and therefore leads nothing until the controller has elected it again.
	LeaderBrokerEpoch int64
	// ISR are the in-sync replicas, never empty unless ELR is not.
	ISR []int32
	// ELR are the eligible leaders outside the ISR (KIP-966).
	ELR []int32
	// PartitionEpoch counts the changes of this state: the version of its znode.
	PartitionEpoch int32
	// StateZxid is the zxid at which it was written.
	StateZxid int64
	// ControllerEpoch is the epoch of the controller that wrote the state.
	ControllerEpoch int32

	// Node and StateNode report which znodes exist; the controller deletes by them.
	Node, StateNode bool
}

// Directory is the directory id of the replica on a broker; zero if it has none.
func (p *Partition) Directory(broker int32) UUID {
	if i := slices.Index(p.Replicas, broker); i >= 0 && i < len(p.Directories) {
		return p.Directories[i]
	}
	return ZeroUUID
}

// Holds reports whether a broker is to have a replica; of no partition none is.
func (p *Partition) Holds(broker int32) bool { return p != nil && slices.Contains(p.Replicas, broker) }

// CountsOn reports whether what a broker has of the partition is counted on: it is in sync, or eligible to lead.
func (p *Partition) CountsOn(broker int32) bool {
	return p != nil && (slices.Contains(p.ISR, broker) || slices.Contains(p.ELR, broker))
}

// Reassigning reports whether a reassignment is under way.
func (p *Partition) Reassigning() bool { return len(p.Adding)+len(p.Removing) > 0 }

// Target are the replicas as they are to be: without those that a reassignment removes. It is Replicas where none is under way.
func (p *Partition) Target() []int32 { return less(p.Replicas, p.Removing) }

// Original are the replicas from before a reassignment, which its cancellation restores.
func (p *Partition) Original() []int32 { return less(p.Replicas, p.Adding) }

// Factor is the number of replicas by which min.insync.replicas is judged. While a reassignment is under way there may be
// more of them than anybody has asked for, and it is the smaller one of what was and what is to be: a move between two
// boxes must not need more in-sync replicas than either end of it.
func (p *Partition) Factor() int { return min(len(p.Target()), len(p.Original())) }

// less is a list without what is in another.
func less(list, without []int32) []int32 {
	if len(without) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(id int32) bool { return slices.Contains(without, id) })
}

// With is the partition with other replicas: they keep their log directories, and who is no replica any more is in sync no
// more. Directories of new ones are zero.
func (p *Partition) With(replicas, adding, removing []int32) *Partition {
	next := *p
	next.Replicas, next.Adding, next.Removing = replicas, adding, removing
	stranger := func(id int32) bool { return !slices.Contains(replicas, id) }
	next.ISR, next.ELR = slices.DeleteFunc(slices.Clone(p.ISR), stranger), slices.DeleteFunc(slices.Clone(p.ELR), stranger)
	next.Directories = nil
	if p.HasState {
		next.Directories = directoriesOf(replicas, p.State().Directories)
	}
	return &next
}

// State gives the state for encoding, the directories by broker.
func (p *Partition) State() PartitionState {
	s := PartitionState{
		Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, LeaderBrokerEpoch: p.LeaderBrokerEpoch,
		ISR: p.ISR, ELR: p.ELR, ControllerEpoch: p.ControllerEpoch, Directories: map[int32]UUID{},
	}
	for i, broker := range p.Replicas {
		if i < len(p.Directories) && !p.Directories[i].IsZero() {
			s.Directories[broker] = p.Directories[i]
		}
	}
	return s
}
