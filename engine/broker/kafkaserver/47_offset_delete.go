package kafkaserver

import (
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete (47), version 0: removes committed offsets of a group (KIP-496). Topics that the group's members
// subscribe to keep theirs: GROUP_SUBSCRIBED_TO_TOPIC. Topics and partitions that do not exist are
// UNKNOWN_TOPIC_OR_PARTITION. An error of the whole group leaves the list of topics empty.

func (s *Server) handle47OffsetDelete(r *request) {
	req := r.body.(*kmsg.OffsetDeleteRequest)
	if r.tooMany("offsets", total(len(req.Topics), func(i int) int { return 1 + len(req.Topics[i].Partitions) }), offsetsPerRequestMax) {
		return
	}
	resp := kmsg.NewPtrOffsetDeleteResponse()
	snap := s.deps.Catalog.Current()
	q := &group.DeleteOffsets{Target: group.To(req.Group)}
	var where []*kmsg.OffsetDeleteResponseTopicPartition
	topics := make([]kmsg.OffsetDeleteResponseTopic, len(req.Topics))
	for i, in := range req.Topics {
		topic, code := findTopic(snap, in.Topic, [16]byte{}, false)
		topics[i].Topic = in.Topic
		topics[i].Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(in.Partitions))
		t := group.TopicPartitions{Topic: in.Topic}
		for j, p := range in.Partitions {
			out := &topics[i].Partitions[j]
			out.Partition, out.ErrorCode = p.Partition, code
			switch {
			case topic == nil:
			case topic.Partition(p.Partition) == nil:
				out.ErrorCode = codeUnknownTopicOrPartition
			default:
				t.Partitions = append(t.Partitions, p.Partition)
				where = append(where, out)
			}
		}
		if len(t.Partitions) > 0 {
			q.Topics = append(q.Topics, t)
		}
	}
	s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
		a := answer.(*group.DeleteOffsetsAnswer)
		if a.Err != nil {
			resp.ErrorCode = a.Err.Code
			r.respondOwned(resp)
			return
		}
		for i, out := range where {
			out.ErrorCode = groupCode(a.Partitions[i])
		}
		resp.Topics = topics
		r.respondOwned(resp)
	})
}
