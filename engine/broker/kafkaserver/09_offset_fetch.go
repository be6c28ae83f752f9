package kafkaserver

import (
	"slices"
	"sync"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch (9), versions 1 to 10: committed offsets, of one group up to version 7, of several from 8 on.
//
// Null topics mean all that the group has committed (from version 2 on). A group or an offset that is not there is no
// error: the offset is -1. requireStable (version 7 on, KIP-447) answers UNSTABLE_OFFSET_COMMIT for partitions with
// offsets of a transaction under way. Version 10 names topics by id; offsets of topics that are no more are left out
// when all are asked for. Member id and epoch (version 9 on) belong to KIP-848 and are not looked at, as for Kafka's
// classic groups. Version 1 has no error of its own: it stands at each partition. Groups and partitions that are named
// again are answered once.

func (s *Server) handle09OffsetFetch(r *request) {
	req := r.body.(*kmsg.OffsetFetchRequest)
	if r.version >= 8 {
		s.fetchOffsetsOfGroups(r, req)
		return
	}
	if r.tooMany("offsets", total(len(req.Topics), func(i int) int { return 1 + len(req.Topics[i].Partitions) }), offsetsPerRequestMax) {
		return
	}
	q := &group.FetchOffsets{Target: group.To(req.Group), All: req.Topics == nil && r.version >= 2, RequireStable: req.RequireStable}
	names := named[partitionKey]{}
	for _, t := range req.Topics {
		q.Topics = appendNamed(q.Topics, names, t.Topic, t.Partitions)
	}
	s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
		a := answer.(*group.FetchAnswer)
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.ErrorCode = groupCode(a.Err)
		if a.Err != nil && r.version < 2 {
			a.Topics = failedTopics(q, a)
		}
		for _, t := range a.Topics {
			out := kmsg.NewOffsetFetchResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				o := kmsg.NewOffsetFetchResponseTopicPartition()
				o.Partition, o.Offset, o.LeaderEpoch, o.Metadata, o.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, &p.Metadata, groupCode(p.Err)
				out.Partitions = append(out.Partitions, o)
			}
			resp.Topics = append(resp.Topics, out)
		}
		r.respondOwned(resp)
	})
}

// failedTopics puts the error of a whole answer at each partition that was asked for.
func failedTopics(q *group.FetchOffsets, a *group.FetchAnswer) []group.FetchedTopic {
	topics := make([]group.FetchedTopic, 0, len(q.Topics))
	for _, t := range q.Topics {
		f := group.FetchedTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			f.Partitions = append(f.Partitions, group.FetchedOffset{Partition: p, Offset: -1, LeaderEpoch: -1, Err: a.Err})
		}
		topics = append(topics, f)
	}
	return topics
}

// fetchOffsetsOfGroups asks each group's coordinator and answers when all have.
func (s *Server) fetchOffsetsOfGroups(r *request, req *kmsg.OffsetFetchRequest) {
	offsets := total(len(req.Groups), func(i int) int {
		topics := req.Groups[i].Topics
		return total(len(topics), func(j int) int { return 1 + len(topics[j].Partitions) })
	})
	if r.tooMany("groups", len(req.Groups), groupsPerRequestMax) || r.tooMany("offsets", offsets, offsetsPerRequestMax) {
		return
	}
	names := named[string]{}
	req.Groups = slices.DeleteFunc(req.Groups, func(g kmsg.OffsetFetchRequestGroup) bool { return !names.first(g.Group) })
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Groups = make([]kmsg.OffsetFetchResponseGroup, len(req.Groups))
	g := gather{left: len(req.Groups) + 1, done: func() { r.respondOwned(resp) }}
	snap := s.deps.Catalog.Current()
	for i := range req.Groups {
		in, out := &req.Groups[i], &resp.Groups[i]
		out.Group = in.Group
		q := &group.FetchOffsets{Target: group.To(in.Group), All: in.Topics == nil, RequireStable: req.RequireStable}
		var unknown []kmsg.OffsetFetchResponseGroupTopic
		q.Topics, unknown = fetchedTopics(snap, r.version, in)
		byID := r.version >= 10
		s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
			a := answer.(*group.FetchAnswer)
			out.ErrorCode = groupCode(a.Err)
			if a.Err == nil {
				out.Topics = append(offsetFetchTopics(snap, byID, q.All, a.Topics), unknown...)
			}
			g.one()
		})
	}
	g.one()
}

// fetchedTopics are the topics to ask the group for, by name, and the answers for ids that nobody has.
func fetchedTopics(snap *catalog.Snapshot, version int16, in *kmsg.OffsetFetchRequestGroup) (ask []group.TopicPartitions, unknown []kmsg.OffsetFetchResponseGroupTopic) {
	names := named[partitionKey]{}
	for _, t := range in.Topics {
		if version < 10 {
			ask = appendNamed(ask, names, t.Topic, t.Partitions)
			continue
		}
		topic, code := findTopic(snap, "", t.TopicID, true)
		if topic != nil {
			ask = appendNamed(ask, names, topic.Name, t.Partitions)
			continue
		}
		u := kmsg.NewOffsetFetchResponseGroupTopic()
		u.TopicID = t.TopicID
		for _, p := range t.Partitions {
			if !names.first(partitionKey{id: t.TopicID, partition: p}) {
				continue
			}
			o := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			o.Partition, o.Offset, o.LeaderEpoch, o.Metadata, o.ErrorCode = p, -1, -1, new(string), code
			u.Partitions = append(u.Partitions, o)
		}
		unknown = append(unknown, u)
	}
	return ask, unknown
}

// appendNamed appends the partitions of a topic that were not named before.
func appendNamed(to []group.TopicPartitions, names named[partitionKey], topic string, partitions []int32) []group.TopicPartitions {
	t := group.TopicPartitions{Topic: topic}
	for _, p := range partitions {
		if names.first(partitionKey{topic: topic, partition: p}) {
			t.Partitions = append(t.Partitions, p)
		}
	}
	if len(t.Partitions) == 0 && len(partitions) > 0 {
		return to
	}
	return append(to, t)
}

func offsetFetchTopics(snap *catalog.Snapshot, byID, all bool, topics []group.FetchedTopic) []kmsg.OffsetFetchResponseGroupTopic {
	list := make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(topics))
	for _, t := range topics {
		out := kmsg.NewOffsetFetchResponseGroupTopic()
		out.Topic = t.Topic
		if byID {
			topic := visible(snap.Topic(t.Topic))
			if topic == nil && all {
				continue
			}
			if topic != nil {
				out.TopicID = topic.ID
			}
		}
		for _, p := range t.Partitions {
			o := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			o.Partition, o.Offset, o.LeaderEpoch, o.Metadata, o.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, &p.Metadata, groupCode(p.Err)
			out.Partitions = append(out.Partitions, o)
		}
		list = append(list, out)
	}
	return list
}

// gather waits for a number of answers, which may come on any goroutine, and calls done once after the last.
type gather struct {
	mu   sync.Mutex // protects left; nothing is called while it is held
	left int
	done func()
}

// more adds an answer to those that are waited for.
func (g *gather) more() {
	g.mu.Lock()
	g.left++
	g.mu.Unlock()
}

func (g *gather) one() {
	g.mu.Lock()
	g.left--
	last := g.left == 0
	g.mu.Unlock()
	if last {
		g.done()
	}
}
