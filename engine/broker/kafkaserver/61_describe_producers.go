package kafkaserver

import (
	"sync/atomic"

	"cairn/engine/broker/partition"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers (61), version 0: the idempotent and transactional producers that the leaders of partitions know
// (KIP-664).

func (s *Server) handle61DescribeProducers(r *request) {
	req := r.body.(*kmsg.DescribeProducersRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrDescribeProducersResponse()
	resp.Topics = make([]kmsg.DescribeProducersResponseTopic, len(req.Topics))
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
		t, missing := findTopic(snap, in.Topic, [16]byte{}, false)
		out.Partitions = make([]kmsg.DescribeProducersResponseTopicPartition, len(in.Partitions))
		for j, number := range in.Partitions {
			p := &out.Partitions[j]
			p.Partition, p.ErrorCode = number, missing
			if t == nil {
				continue
			}
			rep, _, code := s.findLeader(t, number)
			if p.ErrorCode = code; code != codeNone {
				continue
			}
			left.Add(1)
			rep.Producers(r.context(), func(known *partition.Producers, err error) {
				p.ErrorCode = s.codeOf(err)
				if err == nil {
					known.All(func(one *partition.Producer) { p.ActiveProducers = append(p.ActiveProducers, describeProducer(one)) })
				}
				done()
			})
		}
	}
	done()
}

func describeProducer(one *partition.Producer) kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	p := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
	p.ProducerID, p.ProducerEpoch, p.LastSequence = one.ID, int32(one.Epoch), one.LastSequence()
	p.LastTimestamp, p.CoordinatorEpoch, p.CurrentTxnStartOffset = one.LastTimestamp, one.CoordinatorEpoch, one.TxnFirstOffset
	return p
}
