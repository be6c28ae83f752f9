package kafkaserver

import (
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (37), versions 0 to 3: lets topics grow to a number of partitions. Topics never shrink. It is answered
// when every new partition has a leader.

func (s *Server) handle37CreatePartitions(r *request) {
	req := r.body.(*kmsg.CreatePartitionsRequest)
	ask := controller.CreatePartitions{ValidateOnly: req.ValidateOnly, Timeout: millis(req.TimeoutMillis)}
	for i := range req.Topics {
		t := &req.Topics[i]
		more := controller.MorePartitions{Topic: t.Topic, Count: t.Count}
		if t.Assignment != nil {
			more.Assignments = make([][]int32, 0, len(t.Assignment))
			for _, a := range t.Assignment {
				more.Assignments = append(more.Assignments, a.Replicas)
			}
		}
		ask.Topics = append(ask.Topics, more)
	}
	s.deps.Controller.CreatePartitions(ask, func(topics []controller.TopicResult) {
		resp := kmsg.NewPtrCreatePartitionsResponse()
		for _, t := range topics {
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic = t.Topic
			out.ErrorCode, out.ErrorMessage = refusal(t.Err)
			resp.Topics = append(resp.Topics, out)
		}
		r.respond(resp)
	})
}
