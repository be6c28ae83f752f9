package controller

import (
	"cairn/engine/broker/catalog"
)

// PartitionEpoch is what a broker says of one replica's log: its highest leader epoch, -1 for an empty log.
type PartitionEpoch struct {
	Topic     catalog.UUID
	Partition int32
	Epoch     int32
	// Directory is where the log lies, if the catalog does not say; else zero.
	Directory catalog.UUID `json:",omitzero"`
}

// epochs remembers what brokers said about their logs after they registered. Of the report only what is above the
// catalog's own epochs is kept, which is nothing unless the tree was restored from an older state, and where logs lie of which the
// catalog does not say it.
type epochs map[int32]*brokerEpochs

type brokerEpochs struct {
	brokerEpoch int64
	known       bool // the report has come
	asked       bool // the report is under way
	above       map[replicaKey]int32
	directories map[replicaKey]catalog.UUID
}

type replicaKey struct {
	topic     catalog.UUID
	partition int32
}

// known reports whether the broker's present registration has reported its logs.
func (e epochs) known(b *catalog.Broker) bool {
	r := e[b.ID]
	return r != nil && r.known && r.brokerEpoch == b.Epoch
}

// floor is the highest epoch in the broker's log of a partition as far as it is above the catalog's; -1 otherwise.
func (e epochs) floor(broker int32, topic catalog.UUID, partition int32) int32 {
	if r := e[broker]; r != nil {
		if epoch, ok := r.above[replicaKey{topic, partition}]; ok {
			return epoch
		}
	}
	return -1
}

// directory is where the broker has said that its replica of a partition lies; zero if it has not.
func (e epochs) directory(broker int32, topic catalog.UUID, partition int32) catalog.UUID {
	if r := e[broker]; r != nil {
		return r.directories[replicaKey{topic, partition}]
	}
	return catalog.ZeroUUID
}

// asking notes that a registration is being asked.
func (e epochs) asking(b *catalog.Broker) {
	e[b.ID] = &brokerEpochs{brokerEpoch: b.Epoch, asked: true}
}

// needs reports whether a registration must still be asked.
func (e epochs) needs(b *catalog.Broker) bool {
	r := e[b.ID]
	return r == nil || r.brokerEpoch != b.Epoch || (!r.known && !r.asked)
}

// report takes a broker's answer. It reports whether the answer is for the registration that was asked last.
func (e epochs) report(broker int32, brokerEpoch int64, logs []PartitionEpoch, s *catalog.Snapshot) bool {
	r := e[broker]
	if r == nil || r.brokerEpoch != brokerEpoch {
		return false
	}
	r.asked, r.known = false, true
	r.above, r.directories = nil, nil
	for _, l := range logs {
		if !l.Directory.IsZero() {
			if r.directories == nil {
				r.directories = map[replicaKey]catalog.UUID{}
			}
			r.directories[replicaKey{l.Topic, l.Partition}] = l.Directory
		}
		t := s.TopicByID(l.Topic)
		if t == nil {
			continue
		}
		p := t.Partition(l.Partition)
		if p == nil || (p.HasState && l.Epoch <= p.LeaderEpoch) || (!p.HasState && l.Epoch < 0) {
			continue
		}
		if r.above == nil {
			r.above = map[replicaKey]int32{}
		}
		r.above[replicaKey{l.Topic, l.Partition}] = l.Epoch
	}
	return true
}

// failed notes that a broker could not be asked, so that it is asked again.
func (e epochs) failed(broker int32, brokerEpoch int64) {
	if r := e[broker]; r != nil && r.brokerEpoch == brokerEpoch {
		r.asked = false
	}
}
