package node

import (
	"crypto/rand"
	"fmt"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/coordinator"
	"cairn/engine/broker/group"
	"cairn/engine/broker/replica"
)

// openGroups opens the coordinator of consumer groups. It follows the leadership of __consumer_offsets (see led) and the
// deletion of topics.
func (b *broker) openGroups() error {
	b.groups = coordinator.New(
		coordinator.Config{Limits: b.n.cfg.Limits.Group},
		coordinator.Deps{
			Runtime: b.n.deps.Runtime, Observer: b.n.deps.Observer, Settings: b.groupSettings,
			Partitions: b.offsetsPartitions, GoodClock: b.goodClock, Unique: uuid,
		})
	b.n.closes("coordinator", func() error { b.groups.Close(); return nil })
	b.catalog.OnChange(func(before, after *catalog.Snapshot) {
		var gone []string
		catalog.Diff(before, after, func(was, is *catalog.Topic) {
			if was != nil && (is == nil || is.ID != was.ID) {
				gone = append(gone, was.Name)
			}
		})
		if len(gone) > 0 {
			b.groups.TopicsDeleted(gone)
		}
	})
	return nil
}

// led is told by the topics room when this box begins or ends to lead a partition.
func (b *broker) led(r *replica.Replica, leader bool, epoch int32) {
	tp := r.TopicPartition()
	switch {
	case tp.Topic != catalog.GroupOffsetsTopic:
	case leader:
		b.groups.Lead(tp.Partition, coordinator.ReplicaLog(r), epoch)
	default:
		b.groups.Resign(tp.Partition)
	}
}

func (b *broker) offsetsPartitions() int32 {
	if t := b.catalog.Current().Topic(catalog.GroupOffsetsTopic); t != nil && !t.Deleting {
		return int32(len(t.Partitions))
	}
	return 0
}

func (b *broker) groupSettings() group.Settings {
	s := b.catalog.Current().Settings
	return group.Settings{
		SessionMin:   s.Milliseconds("group.min.session.timeout.ms"),
		SessionMax:   s.Milliseconds("group.max.session.timeout.ms"),
		InitialDelay: s.Milliseconds("group.initial.rebalance.delay.ms"),
		MembersMax:   int(s.Int("group.max.size")),
		MetadataMax:  int(s.Int("offset.metadata.max.bytes")),
		Retention:    time.Duration(s.Int("offsets.retention.minutes")) * time.Minute,
	}
}

// uuid draws a random UUID (RFC 9562, version 4) as Java writes it.
func uuid() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
