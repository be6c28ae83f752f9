package kafkaserver

import (
	"context"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (21), versions 0 to 2: moves the start of partitions forward to an offset, -1 for the high watermark,
// and answers with the new start once that is on stable storage. The files go later, by retention.
//
// Internal topics are refused (INVALID_TOPIC_EXCEPTION), and topics whose cleanup.policy has no delete
// (POLICY_VIOLATION), as in Kafka's ReplicaManager. The request's timeout is not watched: the one box that is asked
// answers as soon as its disk has. A partition that is named twice is INVALID_REQUEST.

func (s *Server) handle21DeleteRecords(r *request) {
	req := r.body.(*kmsg.DeleteRecordsRequest)
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.Topics = make([]kmsg.DeleteRecordsResponseTopic, len(req.Topics))
	for i := range req.Topics {
		resp.Topics[i].Topic = req.Topics[i].Topic
		resp.Topics[i].Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(req.Topics[i].Partitions))
		for j := range req.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].Partition = req.Topics[i].Partitions[j].Partition
			resp.Topics[i].Partitions[j].LowWatermark = -1
		}
	}
	s.askLeaders(r, resp, len(req.Topics), func(i int) namedTopic {
		in, out := req.Topics[i].Partitions, resp.Topics[i].Partitions
		return namedTopic{
			name: req.Topics[i].Topic, count: len(in), refuse: deletable,
			partition: func(j int) (int32, *int16) { return in[j].Partition, &out[j].ErrorCode },
			ask: func(j int, leader Replica, done func()) {
				s.deleteRecords(r.context(), leader, in[j].Offset, &out[j], done)
			},
		}
	})
}

func deletable(t *catalog.Topic) int16 {
	switch {
	case t.Internal():
		return codeInvalidTopic
	case !t.Settings.Delete:
		return codePolicyViolation
	}
	return codeNone
}

func (s *Server) deleteRecords(ctx context.Context, leader Replica, offset int64, out *kmsg.DeleteRecordsResponseTopicPartition, done func()) {
	if offset < -1 {
		out.ErrorCode = codeOffsetOutOfRange
		done()
		return
	}
	leader.DeleteRecords(ctx, offset, func(logStart int64, err error) {
		out.ErrorCode = s.codeOf(err)
		if err == nil {
			out.LowWatermark = logStart
		}
		done()
	})
}
