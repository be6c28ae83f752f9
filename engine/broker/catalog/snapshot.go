package catalog

import (
	"iter"
	"slices"
	"strings"

	"cairn/engine/broker/settings"
)

// Base is what a projection knows without the tree.
type Base struct {
	// BrokerID is this box; whose dynamic settings its topics fall back to.
	BrokerID int32
	// Static are the settings that the box was started with.
	Static *settings.Static

	oldLeaders bool // see WithOldLeaders
}

// WithOldLeaders is a bug on purpose: a broker that starts again is still elected by what its last start was. A simulation that does not
// notice is worth nothing. It wants a test to be given, so that nothing else can ask for it.
func (b Base) WithOldLeaders(t interface{ Helper() }) Base {
	t.Helper()
	b.oldLeaders = true
	return b
}

// Snapshot is the cluster at one applied zxid. It is immutable and shared by everybody.
type Snapshot struct {
	// Zxid is the last applied zxid that this snapshot shows.
	Zxid int64
	// ClusterID is Kafka's cluster id; empty until the controller has written one.
	ClusterID string
	// ControllerID is the broker of the controller, or -1.
	ControllerID int32
	// ControllerEpoch counts the controllers. ControllerEpochVersion is its znode's version, which every write of a
	// controller checks; -1 while there is no such znode.
	ControllerEpoch        int32
	ControllerEpochVersion int32
	// ProducerIDs is the block of producer ids that was handed out last; nil while there was none.
	ProducerIDs *ProducerIDBlock
	// Rebalance says whether the cluster may move replicas by itself.
	Rebalance Rebalance
	// Settings are this broker's, with its dynamic settings applied.
	Settings *settings.Broker
	// Problems are the znodes of the last batch that made no sense and were ignored.
	Problems []Problem

	base          Base
	topics        ordered[*Topic]
	names         ordered[string] // topic id (16 bytes) → name
	brokers       ordered[*Broker]
	topicConfigs  ordered[map[string]string]
	brokerConfigs ordered[map[string]string] // znode name → settings
	deletions     ordered[struct{}]          // topics marked for deletion
	unified       ordered[string]            // topics with '.' or '_' in their names, by unifiedKey
	partitions    int
}

// Problem is a znode that could not be understood.
type Problem struct {
	Path string
	Err  error
}

// Empty is the snapshot of an empty tree.
func Empty(base Base) *Snapshot {
	if base.Static == nil {
		base.Static = settings.NewStatic(nil, nil)
	}
	s := &Snapshot{base: base}
	s.forget()
	return s
}

// Base is what the projection was given.
func (s *Snapshot) Base() Base { return s.base }

// Topic finds a topic by name, one that is marked for deletion too. nil means that there is none.
func (s *Snapshot) Topic(name string) *Topic {
	t, _ := s.topics.get(name)
	return t
}

// TopicByID finds a topic by id. nil means that there is none.
func (s *Snapshot) TopicByID(id UUID) *Topic {
	name, ok := s.names.get(string(id[:]))
	if !ok {
		return nil
	}
	return s.Topic(name)
}

// Colliding finds another topic whose name differs from name in nothing but '.' and '_': metrics could not tell the two
// apart (org.apache.kafka.common.internals.Topic). It costs a look-up, because every name that a client makes up is
// looked up.
func (s *Snapshot) Colliding(name string) (other string, collides bool) {
	unified := unifiedKey(name, "")
	for key, found := range s.unified.all(unified) {
		if !strings.HasPrefix(key, unified) {
			break
		}
		if found != name {
			return found, true
		}
	}
	return "", false
}

// unifiedKey orders topics that collide next to each other.
func unifiedKey(prefix, name string) string { return strings.ReplaceAll(prefix, ".", "_") + "/" + name }

// Topics yields all topics in the order of their names.
func (s *Snapshot) Topics() iter.Seq[*Topic] { return s.TopicsFrom("") }

// TopicsFrom yields the topics whose names are not below from, in order.
func (s *Snapshot) TopicsFrom(from string) iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, t := range s.topics.all(from) {
			if !yield(t) {
				return
			}
		}
	}
}

// TopicCount and PartitionCount say how much there is.
func (s *Snapshot) TopicCount() int { return s.topics.len }

// PartitionCount is the number of partitions of all topics.
func (s *Snapshot) PartitionCount() int { return s.partitions }

// Broker finds a registered broker; nil means that it is not registered.
func (s *Snapshot) Broker(id int32) *Broker {
	b, _ := s.brokers.get(brokerKey(id))
	return b
}

// Brokers yields the registered brokers by rising id.
func (s *Snapshot) Brokers() iter.Seq[*Broker] {
	return func(yield func(*Broker) bool) {
		for _, b := range s.brokers.all("") {
			if !yield(b) {
				return
			}
		}
	}
}

// BrokerCount is the number of registered brokers.
func (s *Snapshot) BrokerCount() int { return s.brokers.len }

// LeaderOf is the broker that may act as the partition's leader: it is registered, and the registration is the one that
// was elected. Otherwise NoLeader.
func (s *Snapshot) LeaderOf(p *Partition) int32 {
	if p == nil || !p.HasState || p.Leader < 0 {
		return NoLeader
	}
	if b := s.Broker(p.Leader); b == nil || !s.Elected(p, b.Epoch) {
		return NoLeader
	}
	return p.Leader
}

// Elected reports whether the partition's leader was elected under that registration of its broker.
func (s *Snapshot) Elected(p *Partition, brokerEpoch int64) bool {
	return brokerEpoch == p.LeaderBrokerEpoch || s.base.oldLeaders
}

// ReplicaOnline reports whether a broker can serve its replica: it is registered, has the replica's log directory, and does not say
// that the replica is offline.
func (s *Snapshot) ReplicaOnline(p *Partition, broker int32) bool {
	b := s.Broker(broker)
	if b == nil {
		return false
	}
	dir := p.Directory(broker)
	return (dir.Reserved() || b.HasDirectory(dir)) && !slices.Contains(b.Offline[p.Topic], p.Index)
}

// Forgetful reports whether a broker's replica may lack what was acknowledged: the topic is acknowledged from memory
// (cairn.durability=replicated), the broker has registered since the partition's state was written, and did not stop cleanly
// before. It was in sync, or eligible, in a life that it may have forgotten a part of (KIP-966, unclean shutdown).
func (s *Snapshot) Forgetful(t *Topic, p *Partition, broker int32) bool {
	b := s.Broker(broker)
	return b != nil && !b.CleanStop && p.StateZxid < b.Epoch && !t.Settings.Flushed
}

// Offline are the replicas that cannot be served now, in the order of Replicas; nil when there are none.
func (s *Snapshot) Offline(p *Partition) []int32 {
	var offline []int32
	for _, r := range p.Replicas {
		if !s.ReplicaOnline(p, r) {
			offline = append(offline, r)
		}
	}
	return offline
}

// TopicOverrides are a topic's settings as they were set; nil when there are none.
func (s *Snapshot) TopicOverrides(topic string) map[string]string {
	m, _ := s.topicConfigs.get(topic)
	return m
}

// HasTopicConfig reports whether the znode of the topic's settings exists.
func (s *Snapshot) HasTopicConfig(topic string) bool {
	_, ok := s.topicConfigs.get(topic)
	return ok
}

// BrokerOverrides are the dynamic settings of one broker; the second result says whether their znode exists.
func (s *Snapshot) BrokerOverrides(id int32) (map[string]string, bool) {
	return s.brokerConfigs.get(itoa(id))
}

// DefaultBrokerOverrides are the dynamic settings of all brokers.
func (s *Snapshot) DefaultBrokerOverrides() (map[string]string, bool) {
	return s.brokerConfigs.get(defaultBroker)
}

// BrokerSettings computes the settings of any broker. Static settings are known of this box only; of another one the
// defaults stand in.
func (s *Snapshot) BrokerSettings(id int32) *settings.Broker {
	if id == s.base.BrokerID {
		return s.Settings
	}
	all, _ := s.DefaultBrokerOverrides()
	own, _ := s.BrokerOverrides(id)
	return settings.NewBroker(s.base.Static.DefaultsOnly(), all, own)
}

// ConfiguredTopics and ConfiguredBrokers yield the names under config, for listing.
func (s *Snapshot) ConfiguredTopics() iter.Seq2[string, map[string]string] {
	return s.topicConfigs.all("")
}

// ConfiguredBrokers yields the znode names under config/brokers: broker ids and "<default>".
func (s *Snapshot) ConfiguredBrokers() iter.Seq2[string, map[string]string] {
	return s.brokerConfigs.all("")
}

// Deletions yields the names that are marked for deletion, in order.
func (s *Snapshot) Deletions() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range s.deletions.all("") {
			if !yield(name) {
				return
			}
		}
	}
}

// Diff calls f for every topic that differs between two snapshots, in the order of names: before is nil for a new
// topic, after for one that is gone. A topic that was deleted and created again under its name comes as one call with
// two ids. It costs what changed, not what there is.
func Diff(before, after *Snapshot, f func(before, after *Topic)) {
	diff(before.topics.root, after.topics.root, func(_ string, a, b **Topic) {
		switch {
		case a == nil:
			f(nil, *b)
		case b == nil:
			f(*a, nil)
		case *a != *b:
			f(*a, *b)
		}
	})
}

// SameBrokers reports whether no registration changed between two snapshots.
func SameBrokers(a, b *Snapshot) bool { return a.brokers.root == b.brokers.root }

// brokerKey orders brokers by number.
func brokerKey(id int32) string {
	u := uint32(id)
	return string([]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}
