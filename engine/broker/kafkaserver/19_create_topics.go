package kafkaserver

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics (19), versions 2 to 7: new topics.
//
// The controller checks each topic by itself and answers when the catalog shows it, so that the client's next Metadata
// does. From version 4 on -1 partitions or replicas mean the broker's defaults; from 5 on the answer carries the topic's
// settings, from 7 on its id. It never throttles.

func (s *Server) handle19CreateTopics(r *request) {
	req := r.body.(*kmsg.CreateTopicsRequest)
	ask := controller.CreateTopics{ValidateOnly: req.ValidateOnly, Timeout: millis(req.TimeoutMillis)}
	for i := range req.Topics {
		t := &req.Topics[i]
		topic := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
		for _, a := range t.ReplicaAssignment {
			topic.Assignments = append(topic.Assignments, controller.Assignment{Partition: a.Partition, Brokers: a.Replicas})
		}
		for _, c := range t.Configs {
			topic.Configs = append(topic.Configs, controller.ConfigValue{Name: c.Name, Value: c.Value})
		}
		ask.Topics = append(ask.Topics, topic)
	}
	s.deps.Controller.CreateTopics(ask, func(topics []controller.CreatedTopic) {
		resp := kmsg.NewPtrCreateTopicsResponse()
		snap := s.deps.Catalog.Current()
		for i := range topics {
			resp.Topics = append(resp.Topics, createdTopic(snap, &topics[i], r.version))
		}
		r.respond(resp)
	})
}

func createdTopic(snap *catalog.Snapshot, t *controller.CreatedTopic, version int16) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic = t.Name
	out.ErrorCode, out.ErrorMessage = refusal(t.Err)
	if t.Err != nil {
		out.NumPartitions, out.ReplicationFactor = -1, -1
		return out
	}
	out.TopicID = t.ID
	out.NumPartitions, out.ReplicationFactor = t.Partitions, t.ReplicationFactor
	if version < 5 {
		return out
	}
	for _, e := range snap.Settings.DescribeTopic(t.Overrides, int(t.ReplicationFactor), nil) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source, c.ReadOnly, c.IsSensitive = e.Name, e.Value, int8(e.Source), e.ReadOnly, e.Sensitive
		out.Configs = append(out.Configs, c)
	}
	return out
}
