package topics

import (
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/settings"
)

// configOf turns a topic's settings into those of its partitions on this box.
func (o *owner) configOf(t *catalog.Topic) *replica.Config {
	s := t.Settings
	log := o.cfg.Log // what no topic setting decides
	log.SegmentBytes = int64(s.SegmentBytes)
	log.SegmentAge = max(s.SegmentAge, 0)
	if s.Compact && s.MaxCompactionLag > 0 { // only what is sealed can be compacted (LogConfig.maxSegmentMs)
		log.SegmentAge = min(log.SegmentAge, s.MaxCompactionLag)
	}
	log.SegmentJitter = max(s.SegmentJitter, 0)
	log.IndexBytes = int64(s.IndexBytes)
	log.IndexInterval = int(s.IndexIntervalBytes)
	log.DeleteOld = s.Delete
	log.Retention = s.Retention
	log.RetentionBytes = s.RetentionBytes
	log.RefuseWhenFull = s.RefuseWhenFull
	c := &replica.Config{
		Log:                log,
		Durability:         partition.Flushed,
		InSyncMin:          s.MinInSyncReplicas(1), // of auto; what a partition's replicas make of it comes with its membership
		BatchBytesMax:      int(s.MaxMessageBytes),
		Compact:            s.Compact,
		LogAppendTime:      s.TimestampType == settings.LogAppendTime,
		TimestampBefore:    s.TimestampBeforeMax,
		TimestampAfter:     s.TimestampAfterMax,
		ProducerExpiration: producerExpiration,
		ProducersMax:       o.cfg.ProducersMax,
		Internal:           t.Internal(),
	}
	if !s.Flushed {
		c.Durability = partition.Replicated
	}
	return c
}

// producerExpiration is Kafka's default of producer.id.expiration.ms.
const producerExpiration = 24 * time.Hour
