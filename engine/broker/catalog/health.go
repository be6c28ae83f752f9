package catalog

import "slices"

// Health is what a box's metrics say of the cluster, with the meanings of Kafka's (ReplicaManager and KafkaController MBeans).
type Health struct {
	// Replicas are this box's, Leaders those that it may lead, and Offline those that it cannot serve.
	Replicas, Leaders, OfflineReplicas int
	// Of what this box leads: fewer in sync than replicas, fewer than min.insync.replicas, just as many.
	UnderReplicated, UnderMinInSync, AtMinInSync int
	// Of the whole cluster: partitions without a leader that may act, and those led by another than their preferred leader.
	OfflinePartitions, NotPreferred int
	// Reassigning are partitions whose replicas are being moved.
	Reassigning                 int
	Brokers, Topics, Partitions int
}

// Health looks at all partitions, for box.
func (s *Snapshot) Health(box int32) Health {
	h := Health{Brokers: s.BrokerCount(), Topics: s.TopicCount(), Partitions: s.PartitionCount()}
	for t := range s.Topics() {
		if t.Deleting {
			continue
		}
		for _, p := range t.Partitions {
			s.healthOf(&h, t, p, box)
		}
	}
	return h
}

func (s *Snapshot) healthOf(h *Health, t *Topic, p *Partition, box int32) {
	leader := s.LeaderOf(p)
	if p.Reassigning() {
		h.Reassigning++
	}
	if p.Holds(box) {
		h.Replicas++
		if p.HasState && !s.ReplicaOnline(p, box) {
			h.OfflineReplicas++
		}
	}
	switch {
	case leader == NoLeader:
		h.OfflinePartitions++
		return
	case len(p.Replicas) > 0 && leader != p.Replicas[0]:
		h.NotPreferred++
	}
	if leader != box {
		return
	}
	h.Leaders++
	if len(p.ISR) < len(p.Replicas)-len(p.Adding) { // those that are being added do not count yet, as in Kafka

		h.UnderReplicated++
	}
	switch least := t.Settings.EffectiveMinISR(p.Factor()); {
	case len(p.ISR) < least:
		h.UnderMinInSync++
	case len(p.ISR) == least:
		h.AtMinInSync++
	}
}

// Moves are the changes between two snapshots that metrics count.
type Moves struct {
	// InSyncShrinks and InSyncExpands are of partitions that box led before and leads still.
	InSyncShrinks, InSyncExpands int
	// Elections are leaders that were elected, UncleanElections those that were in sync with nobody.
	Elections, UncleanElections int
}

// MovesOf counts them, for box. It looks at what has changed alone.
func MovesOf(before, after *Snapshot, box int32) (m Moves) {
	Diff(before, after, func(was, is *Topic) {
		if was == nil || is == nil || was.ID != is.ID {
			return
		}
		for i, p := range is.Partitions {
			if i >= len(was.Partitions) || p == was.Partitions[i] {
				continue
			}
			old := was.Partitions[i]
			if p.LeaderEpoch != old.LeaderEpoch && p.Leader >= 0 {
				m.Elections++
				if old.HasState && !slices.Contains(old.ISR, p.Leader) && !slices.Contains(old.ELR, p.Leader) {
					m.UncleanElections++
				}
			}
			if old.Leader != box || p.Leader != box {
				continue
			}
			if slices.ContainsFunc(old.ISR, func(r int32) bool { return !slices.Contains(p.ISR, r) }) {
				m.InSyncShrinks++
			}
			if slices.ContainsFunc(p.ISR, func(r int32) bool { return !slices.Contains(old.ISR, r) }) {
				m.InSyncExpands++
			}
		}
	})
	return m
}
