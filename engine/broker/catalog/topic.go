package catalog

import "cairn/engine/broker/settings"

// The internal topics' names (org.apache.kafka.common.internals.Topic).
const (
	GroupOffsetsTopic     = "__consumer_offsets"
	TransactionStateTopic = "__transaction_state"
)

// IsInternal reports whether clients are told that the topic is internal.
func IsInternal(topic string) bool {
	return topic == GroupOffsetsTopic || topic == TransactionStateTopic
}

// Topic is one topic as the tree has it. It is immutable, what it holds included.
type Topic struct {
	Name string
	ID   UUID
	// Partitions by partition number.
	Partitions []*Partition
	// AutoReplication says that the replication factor follows the number of boxes.
	AutoReplication bool
	// Deleting says that the topic is marked for deletion: brokers drop it, clients are told that it does not exist.
	Deleting bool
	// Overrides are the topic's own settings, as they were set. nil means none.
	Overrides map[string]string
	// Settings is what the overrides, the broker's dynamic settings and the defaults come to on this broker.
	Settings *settings.Topic
	// Version is the version of the topic's znode.
	Version int32
	// PartitionsNode reports whether the parent of the partitions' znodes exists.
	PartitionsNode bool
}

// Internal reports whether the topic is one of Kafka's own.
func (t *Topic) Internal() bool { return IsInternal(t.Name) }

// Partition gives a partition, or nil when the topic has none of that number.
func (t *Topic) Partition(p int32) *Partition {
	if p < 0 || int(p) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[p]
}

// ReplicationFactor is the number of replicas of the first partition, which is what Kafka's tools show; while they are
// reassigned, what it is to be.
func (t *Topic) ReplicationFactor() int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Target())
}
