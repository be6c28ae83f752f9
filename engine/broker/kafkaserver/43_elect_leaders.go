package kafkaserver

import (
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (43), versions 0 to 2: makes the preferred replicas leaders, or, from version 1 on, any living replica of
// a partition without a leader. A null list means every partition, and then those that need no election are left out.

func (s *Server) handle43ElectLeaders(r *request) {
	req := r.body.(*kmsg.ElectLeadersRequest)
	ask := controller.ElectLeaders{All: req.Topics == nil, Timeout: millis(req.TimeoutMillis)}
	if r.version >= 1 {
		ask.Type = controller.ElectionType(req.ElectionType)
	}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			ask.Partitions = append(ask.Partitions, controller.TopicPartition{Topic: req.Topics[i].Topic, Partition: p})
		}
	}
	s.deps.Controller.ElectLeaders(ask, func(results []controller.PartitionResult, err *controller.Error) {
		resp := kmsg.NewPtrElectLeadersResponse()
		resp.ErrorCode, _ = refusal(err)
		byTopic := map[string]int{}
		for _, p := range results {
			i, ok := byTopic[p.Topic]
			if !ok {
				i = len(resp.Topics)
				byTopic[p.Topic] = i
				t := kmsg.NewElectLeadersResponseTopic()
				t.Topic = p.Topic
				resp.Topics = append(resp.Topics, t)
			}
			out := kmsg.NewElectLeadersResponseTopicPartition()
			out.Partition = p.Partition
			out.ErrorCode, out.ErrorMessage = refusal(p.Err)
			resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, out)
		}
		r.respond(resp)
	})
}
