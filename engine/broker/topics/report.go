package topics

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
)

// Epoch is the greatest leader epoch in the log of one partition that is open here, -1 for an empty log.
type Epoch struct {
	Topic     catalog.UUID
	Partition int32
	Epoch     int32
	// Directory is the log's, if the catalog names none for it; else zero.
	Directory catalog.UUID
}

// Epochs are those of all open partitions whose logs hold any, or have been given their log directory by this box alone. The controller
// elects above them, and has the catalog name the directories.
func (t *Topics) Epochs() []Epoch {
	var list []Epoch
	s := t.catalog.Current()
	t.All(func(r *replica.Replica) {
		log, topic, index := r.View().Log, catalog.UUID(r.TopicID()), r.TopicPartition().Partition
		e := Epoch{Topic: topic, Partition: index, Epoch: log.LatestEpoch()}
		if named := s.TopicByID(topic); named != nil && named.Partition(index) != nil && named.Partition(index).Directory(t.broker).Reserved() {
			e.Directory = catalog.UUID(log.Dir().ID())
		}
		if e.Epoch >= 0 || !e.Directory.IsZero() {
			list = append(list, e)
		}
	})
	return list
}
