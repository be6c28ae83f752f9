package topics

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
)

// Epoch is the greatest leader epoch in the log of one partition that is open here.
type Epoch struct {
	Topic     catalog.UUID
	Partition int32
	Epoch     int32
}

// Epochs are those of all open partitions whose logs hold any. The controller elects above them.
func (t *Topics) Epochs() []Epoch {
	var list []Epoch
	t.All(func(r *replica.Replica) {
		if e := r.View().Log.LatestEpoch(); e >= 0 {
			list = append(list, Epoch{catalog.UUID(r.TopicID()), r.TopicPartition().Partition, e})
		}
	})
	return list
}
