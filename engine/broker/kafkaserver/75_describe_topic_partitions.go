package kafkaserver

import (
	"slices"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopicPartitions (75), version 0 (KIP-966): partitions of topics, in pages of at most
// max.request.partition.size.limit (2000). Topics are sorted by name; an answer that is cut short ends with a cursor, from
// which the client asks on. An empty list of topics means all. A cursor whose topic is not among the topics asked for is
// INVALID_REQUEST, which here closes the connection, since the answer has no field for it.

// describePageMax is how many partitions one answer has at most.
const describePageMax = 2000

func (s *Server) handle75DescribeTopicPartitions(r *request) {
	req := r.body.(*kmsg.DescribeTopicPartitionsRequest)
	names := make([]string, 0, len(req.Topics))
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var from string
	var first int32
	if req.Cursor != nil {
		from, first = req.Cursor.Topic, req.Cursor.Partition
		if len(names) > 0 && !slices.Contains(names, from) || first < 0 {
			r.closeConn("cursor outside of the topics asked for")
			return
		}
	}
	page := topicPage{snap: s.deps.Catalog.Current(), left: describePageMax, resp: kmsg.NewPtrDescribeTopicPartitionsResponse()}
	if n := int(req.ResponsePartitionLimit); n > 0 && n < page.left {
		page.left = n
	}
	if len(names) == 0 {
		for t := range page.snap.TopicsFrom(from) {
			if !t.Deleting && !page.topic(t.Name, t, startAt(t.Name, from, first)) {
				break
			}
		}
		r.respond(page.resp)
		return
	}
	for _, name := range names {
		if name < from {
			continue
		}
		if !page.topic(name, visible(page.snap.Topic(name)), startAt(name, from, first)) {
			break
		}
	}
	r.respond(page.resp)
}

// startAt is the first partition of a topic: the cursor's if it is the cursor's topic.
func startAt(name, from string, first int32) int {
	if name == from {
		return int(first)
	}
	return 0
}

// topicPage gathers one answer.
type topicPage struct {
	snap *catalog.Snapshot
	left int
	resp *kmsg.DescribeTopicPartitionsResponse
}

// topic adds a topic from a partition on. It reports false when the page is full.
func (g *topicPage) topic(name string, t *catalog.Topic, from int) bool {
	if g.left == 0 {
		g.cursor(name, from)
		return false
	}
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic = &name
	if t == nil {
		out.AuthorizedOperations = notAsked
		if out.ErrorCode = codeUnknownTopicOrPartition; !validTopicName(name) {
			out.ErrorCode = codeInvalidTopic
		}
		g.left-- // it takes its place on the page, so that unknown names are bounded too
		g.resp.Topics = append(g.resp.Topics, out)
		return true
	}
	out.TopicID, out.IsInternal, out.AuthorizedOperations = t.ID, t.Internal(), topicOperations
	from = min(from, len(t.Partitions)) // a cursor may say anything
	end := min(len(t.Partitions), from+g.left)
	for i := from; i < end; i++ {
		out.Partitions = append(out.Partitions, describePartition(g.snap, t, i))
	}
	g.left -= end - from
	g.resp.Topics = append(g.resp.Topics, out)
	if end < len(t.Partitions) {
		g.cursor(name, end)
		return false
	}
	return true
}

func (g *topicPage) cursor(name string, partition int) {
	next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	next.Topic, next.Partition = name, int32(partition)
	g.resp.NextCursor = &next
}

func describePartition(snap *catalog.Snapshot, t *catalog.Topic, i int) kmsg.DescribeTopicPartitionsResponseTopicPartition {
	part := t.Partitions[i]
	p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
	p.Partition, p.LeaderID, p.LeaderEpoch = int32(i), snap.LeaderOf(part), part.LeaderEpoch
	p.Replicas, p.ISR, p.OfflineReplicas = part.Replicas, part.ISR, snap.Offline(part)
	p.EligibleLeaderReplicas, p.LastKnownELR = append([]int32{}, part.ELR...), []int32{} // Java's client takes no null here
	if p.LeaderID < 0 {
		p.LeaderID, p.ErrorCode = -1, codeLeaderNotAvailable
	}
	return p
}
