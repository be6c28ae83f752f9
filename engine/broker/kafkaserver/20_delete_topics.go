package kafkaserver

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics (20), versions 1 to 6: topics by name, from version 6 on also by id.
//
// It is answered when the topics are gone from the catalog, so that a topic of the same name can be created at once.
// Versions below 3 do not know the error for delete.topic.enable=false and get INVALID_REQUEST.

func (s *Server) handle20DeleteTopics(r *request) {
	req := r.body.(*kmsg.DeleteTopicsRequest)
	ask := controller.DeleteTopics{Timeout: millis(req.TimeoutMillis)}
	for i := range req.TopicNames {
		ask.Topics = append(ask.Topics, controller.TopicRef{Name: &req.TopicNames[i]})
	}
	for i := range req.Topics {
		ask.Topics = append(ask.Topics, controller.TopicRef{Name: req.Topics[i].Topic, ID: catalog.UUID(req.Topics[i].TopicID)})
	}
	s.deps.Controller.DeleteTopics(ask, func(topics []controller.DeletedTopic) {
		resp := kmsg.NewPtrDeleteTopicsResponse()
		for _, t := range topics {
			out := kmsg.NewDeleteTopicsResponseTopic()
			out.Topic, out.TopicID = t.Name, t.ID
			out.ErrorCode, out.ErrorMessage = refusal(t.Err)
			if r.version < 3 && out.ErrorCode == kerr.TopicDeletionDisabled.Code {
				out.ErrorCode = codeInvalidRequest
			}
			resp.Topics = append(resp.Topics, out)
		}
		r.respond(resp)
	})
}
