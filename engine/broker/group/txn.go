package group

// txn are the offsets that a producer has committed in a transaction under way: they count once the transaction
// commits. Kafka's broker learns of the end by a marker in the log.
type txn struct {
	groups map[string]map[string]map[int32]*offset // by group and topic
}

// pendTxn stores an offset of a transaction.
func (s *Groups) pendTxn(g *group, producer int64, topic string, partition int32, o *offset) {
	t := s.txns[producer]
	if t == nil {
		t = &txn{groups: map[string]map[string]map[int32]*offset{}}
		s.txns[producer] = t
	}
	topics := t.groups[g.id]
	if topics == nil {
		topics = map[string]map[int32]*offset{}
		t.groups[g.id] = topics
	}
	partitions := topics[topic]
	if partitions == nil {
		partitions = map[int32]*offset{}
		topics[topic] = partitions
	}
	if old := partitions[partition]; old != nil {
		s.growOffsets(g, -old.size())
	} else {
		g.txnOffsets++
	}
	partitions[partition] = o
	s.growOffsets(g, o.size())
}

func (s *Groups) hasPendingTxn(g *group, topic string, partition int32) bool {
	if g.txnOffsets == 0 {
		return false
	}
	for _, t := range s.txns {
		if t.groups[g.id][topic][partition] != nil {
			return true
		}
	}
	return false
}

// dropPendingTxn forgets what transactions have committed for a partition: a tombstone is newer.
func (s *Groups) dropPendingTxn(g *group, topic string, partition int32) {
	if g.txnOffsets == 0 {
		return
	}
	for _, t := range s.txns {
		if o := t.groups[g.id][topic][partition]; o != nil {
			delete(t.groups[g.id][topic], partition)
			g.txnOffsets--
			s.growOffsets(g, -o.size())
		}
	}
}

// endTxn applies the end of a producer's transaction (OffsetMetadataManager.replayEndTransactionMarker). Of a plain and
// a transactional commit the one that stands later in the log counts, not the one that took effect later.
func (s *Groups) endTxn(producer int64, commit bool) {
	t := s.txns[producer]
	if t == nil {
		return
	}
	delete(s.txns, producer)
	for id, topics := range t.groups {
		g := s.groups[id]
		if g == nil {
			continue
		}
		for topic, partitions := range topics {
			for p, o := range partitions {
				g.txnOffsets--
				s.growOffsets(g, -o.size())
				if old := g.offsets[topic][p]; commit && (old == nil || o.position > old.position) {
					s.put(g, topic, p, o)
				}
			}
		}
	}
}
