package kafkaserver

import (
	"sync/atomic"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (21), versions 0 to 2: moves the start of partitions forward to an offset, -1 for the high watermark,
// and answers with the new start once that is on stable storage. The files go later, by retention.
//
// Internal topics are refused (INVALID_TOPIC_EXCEPTION), and topics whose cleanup.policy has no delete
// (POLICY_VIOLATION), as in Kafka's ReplicaManager. The request's timeout is not watched: the one box that is asked
// answers as soon as its disk has.

func (s *Server) handle21DeleteRecords(r *request) {
	req := r.body.(*kmsg.DeleteRecordsRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.Topics = make([]kmsg.DeleteRecordsResponseTopic, len(req.Topics))
	left := new(atomic.Int32)
	left.Store(1)
	done := func() {
		if left.Add(-1) == 0 {
			r.respondOwned(resp)
		}
	}
	for i := range req.Topics {
		in, out := &req.Topics[i], &resp.Topics[i]
		out.Topic = in.Topic
		t, code := findTopic(snap, in.Topic, [16]byte{}, false)
		if t != nil {
			code = deletable(t)
		}
		out.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(in.Partitions))
		for j := range in.Partitions {
			p := &out.Partitions[j]
			p.Partition, p.LowWatermark, p.ErrorCode = in.Partitions[j].Partition, -1, code
			if code != codeNone {
				continue
			}
			left.Add(1)
			s.deleteRecords(r, t, in.Partitions[j].Offset, p, done)
		}
	}
	done()
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

func (s *Server) deleteRecords(r *request, t *catalog.Topic, offset int64, out *kmsg.DeleteRecordsResponseTopicPartition, done func()) {
	rep, _, code := s.findLeader(t, out.Partition)
	if code != codeNone {
		out.ErrorCode = code
		done()
		return
	}
	if offset < -1 {
		out.ErrorCode = codeOffsetOutOfRange
		done()
		return
	}
	rep.DeleteRecords(r.context(), offset, func(logStart int64, err error) {
		out.ErrorCode = s.codeOf(err)
		if err == nil {
			out.LowWatermark = logStart
		}
		done()
	})
}
