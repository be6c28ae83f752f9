package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// OffsetForLeaderEpoch (23), versions 2 to 4: the greatest leader epoch that is not above the one asked for, and the
// offset at which it ends; -1 and -1 when there is none (KIP-101, KIP-279). Consumers find with it whether the log was
// cut under them (KIP-320). librdkafka asks exactly version 2.

func (s *Server) handle23OffsetForLeaderEpoch(r *request) {
	req := r.body.(*kmsg.OffsetForLeaderEpochRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Topics = make([]kmsg.OffsetForLeaderEpochResponseTopic, 0, len(req.Topics))
	for i := range req.Topics {
		in := &req.Topics[i]
		topic, missing := findTopic(snap, in.Topic, [16]byte{}, false)
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = in.Topic
		out.Partitions = make([]kmsg.OffsetForLeaderEpochResponseTopicPartition, 0, len(in.Partitions))
		for j := range in.Partitions {
			asked := &in.Partitions[j]
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset, p.ErrorCode = asked.Partition, -1, -1, missing
			if topic != nil {
				_, v, code := s.findLeader(topic, asked.Partition)
				if code == codeNone {
					code = s.codeOf(v.CheckEpoch(asked.CurrentLeaderEpoch))
				}
				if p.ErrorCode = code; code == codeNone {
					p.LeaderEpoch, p.EndOffset = v.Log.EpochEnd(asked.LeaderEpoch)
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	r.respond(resp)
}
