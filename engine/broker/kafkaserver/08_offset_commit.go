package kafkaserver

import (
	"time"

	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit (8), versions 2 to 10: commits offsets of a group.
//
// Topics and partitions that do not exist are UNKNOWN_TOPIC_OR_PARTITION, ids that nobody has UNKNOWN_TOPIC_ID (version
// 10 names topics by id); what is left goes to the group, whose error, if there is one, stands at each of its
// partitions. Answered once the offsets are behind the high watermark. An unknown group is GROUP_ID_NOT_FOUND from
// version 9 on and ILLEGAL_GENERATION before, unless the commit comes from outside a group.

func (s *Server) handle08OffsetCommit(r *request) {
	req := r.body.(*kmsg.OffsetCommitRequest)
	if r.tooMany("offsets", total(len(req.Topics), func(i int) int { return 1 + len(req.Topics[i].Partitions) }), offsetsPerRequestMax) {
		return
	}
	resp := kmsg.NewPtrOffsetCommitResponse()
	q := &group.Commit{
		Target: group.To(req.Group), Version: r.version, Generation: req.Generation, MemberID: req.MemberID,
		InstanceID: req.InstanceID, Retention: -1,
	}
	if r.version <= 4 && req.RetentionTimeMillis >= 0 {
		q.Retention = time.Duration(min(req.RetentionTimeMillis, int64(retentionMax/time.Millisecond))) * time.Millisecond
	}
	where := s.committable(r.version, req, resp, q)
	if len(where) == 0 {
		r.respond(resp)
		return
	}
	s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
		a := answer.(*group.CommitAnswer)
		for i, out := range where {
			if a.Err != nil {
				resp.Topics[out[0]].Partitions[out[1]].ErrorCode = a.Err.Code
			} else {
				resp.Topics[out[0]].Partitions[out[1]].ErrorCode = groupCode(a.Partitions[i])
			}
		}
		r.respondOwned(resp)
	})
}

// retentionMax keeps an offset's time to live from overflowing.
const retentionMax = 100 * 365 * 24 * time.Hour

// committable lays out the answer and gives to q the partitions that exist. It returns where in the answer each of them
// stands, by topic and partition, in the order of q.
func (s *Server) committable(version int16, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, q *group.Commit) (where [][2]int) {
	snap := s.deps.Catalog.Current()
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	for i := range req.Topics {
		in, out := &req.Topics[i], &resp.Topics[i]
		topic, code := findTopic(snap, in.Topic, in.TopicID, version >= 10)
		out.Topic, out.TopicID = in.Topic, in.TopicID
		out.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(in.Partitions))
		t := group.CommitTopic{}
		for j := range in.Partitions {
			p := &in.Partitions[j]
			out.Partitions[j].Partition, out.Partitions[j].ErrorCode = p.Partition, code
			if topic == nil {
				continue
			}
			if topic.Partition(p.Partition) == nil {
				out.Partitions[j].ErrorCode = codeUnknownTopicOrPartition
				continue
			}
			leaderEpoch := p.LeaderEpoch
			if version < 6 {
				leaderEpoch = -1
			}
			t.Partitions = append(t.Partitions, group.CommitPartition{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: leaderEpoch, Metadata: orEmpty(p.Metadata),
			})
			where = append(where, [2]int{i, j})
		}
		if len(t.Partitions) > 0 {
			t.Topic = topic.Name
			q.Topics = append(q.Topics, t)
		}
	}
	return where
}
