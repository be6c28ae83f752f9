package kafkaserver

import (
	"cairn/engine/broker/partition"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers (61), version 0: the idempotent and transactional producers that the leaders of partitions know
// (KIP-664). A partition that is named twice is INVALID_REQUEST.

func (s *Server) handle61DescribeProducers(r *request) {
	req := r.body.(*kmsg.DescribeProducersRequest)
	resp := kmsg.NewPtrDescribeProducersResponse()
	resp.Topics = make([]kmsg.DescribeProducersResponseTopic, len(req.Topics))
	for i := range req.Topics {
		resp.Topics[i].Topic = req.Topics[i].Topic
		resp.Topics[i].Partitions = make([]kmsg.DescribeProducersResponseTopicPartition, len(req.Topics[i].Partitions))
		for j, number := range req.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].Partition = number
		}
	}
	s.askLeaders(len(req.Topics), func(i int) namedTopic {
		out := resp.Topics[i].Partitions
		return namedTopic{
			name: resp.Topics[i].Topic, count: len(out),
			partition: func(j int) (int32, *int16) { return out[j].Partition, &out[j].ErrorCode },
			ask: func(j int, leader Replica, done func()) {
				leader.Producers(r.context(), func(known *partition.Producers, err error) {
					out[j].ErrorCode = s.codeOf(err)
					if err == nil {
						known.All(func(one *partition.Producer) {
							out[j].ActiveProducers = append(out[j].ActiveProducers, describeProducer(one))
						})
					}
					done()
				})
			},
		}
	}, func() { r.respondOwned(resp) })
}

func describeProducer(one *partition.Producer) kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	p := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
	p.ProducerID, p.ProducerEpoch, p.LastSequence = one.ID, int32(one.Epoch), one.LastSequence()
	p.LastTimestamp, p.CoordinatorEpoch, p.CurrentTxnStartOffset = one.LastTimestamp, one.CoordinatorEpoch, one.TxnFirstOffset
	return p
}
