package kafkaserver

import (
	"context"
	"time"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (21), versions 0 to 2: moves the start of partitions forward to an offset, -1 for the high watermark,
// and answers with the new start once that is on stable storage on every replica whose box is there or that may lead when it is
// back, so that it stays whoever leads next (Kafka's DelayedDeleteRecords waits for those alone that are there). Until the request's
// time is over some may not have followed: REQUEST_TIMED_OUT, and the leader's records are gone all the same. The files go later, by
// retention.
//
// Internal topics are refused (INVALID_TOPIC_EXCEPTION), and topics whose cleanup.policy has no delete
// (POLICY_VIOLATION), as in Kafka's ReplicaManager. A partition that is named twice is INVALID_REQUEST.

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
	s.askLeaders(len(req.Topics), func(i int) namedTopic {
		in, out := req.Topics[i].Partitions, resp.Topics[i].Partitions
		return namedTopic{
			name: req.Topics[i].Topic, count: len(in), refuse: deletable,
			partition: func(j int) (int32, *int16) { return in[j].Partition, &out[j].ErrorCode },
			ask: func(j int, leader Replica, done func()) {
				s.deleteRecords(r.context(), leader, in[j].Offset, &out[j], done)
			},
		}
	}, func() { s.deletedEverywhere(r, req.TimeoutMillis, resp) })
}

// deletedEverywhere answers when the other replicas have followed.
func (s *Server) deletedEverywhere(r *request, timeout int32, resp *kmsg.DeleteRecordsResponse) {
	var starts []LogStart
	var parts []*kmsg.DeleteRecordsResponseTopicPartition
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			if p := &t.Partitions[j]; p.ErrorCode == codeNone {
				starts = append(starts, LogStart{t.Topic, p.Partition, p.LowWatermark})
				parts = append(parts, p)
			}
		}
	}
	if len(starts) == 0 || s.deps.AwaitStarts == nil {
		r.respondOwned(resp)
		return
	}
	wait := min(max(time.Duration(timeout)*time.Millisecond, 0), deleteWaitMax)
	s.deps.AwaitStarts(r.context(), starts, wait, func(late []bool) {
		for i, p := range parts {
			if late[i] {
				p.ErrorCode, p.LowWatermark = codeRequestTimedOut, -1
			}
		}
		r.respondOwned(resp)
	})
}

// deleteWaitMax is the longest that a deletion waits for followers, whatever it asks for.
const deleteWaitMax = 10 * time.Minute

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
