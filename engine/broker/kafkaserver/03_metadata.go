package kafkaserver

import (
	"strings"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata (3), versions 0 to 13: brokers, the controller, topics with their partitions.
//
// Null topics (v1+), or an empty list in version 0, mean all; an empty list from version 1 on means none. From version 10 on a
// topic may be asked for by id; a null name with a zero id, or before version 12 any null name, is INVALID_REQUEST. An
// id that nobody has is UNKNOWN_TOPIC_ID with a null name. A topic that is missing is created if the broker's setting
// and, from version 4 on, the request allow it; this answer then still says UNKNOWN_TOPIC_OR_PARTITION, as Kafka's,
// and the client asks again. A topic that is named again is answered once, as by Kafka. Partitions without a leader are listed with LEADER_NOT_AVAILABLE.
//
// Brokers are given under the address of the listener that the client came in on. The controller is always a live
// broker. Authorized operations are all operations, there being no authorizer.

func (s *Server) handle03Metadata(r *request) {
	req := r.body.(*kmsg.MetadataRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrMetadataResponse()
	resp.ControllerID = s.controllerID(snap)
	resp.AuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	if snap.ClusterID != "" {
		resp.ClusterID = &snap.ClusterID
	}
	for _, n := range s.nodes(r.conn, snap) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = n.id, n.host, n.port, n.rack
		resp.Brokers = append(resp.Brokers, b)
	}
	asked := req.IncludeTopicAuthorizedOperations
	if req.Topics == nil || r.version == 0 && len(req.Topics) == 0 {
		resp.Topics = make([]kmsg.MetadataResponseTopic, 0, snap.TopicCount())
		for t := range snap.Topics() {
			if !t.Deleting {
				resp.Topics = append(resp.Topics, describeTopic(snap, t, asked))
			}
		}
		r.respond(resp)
		return
	}
	create := s.settings().AutoCreateTopics && (r.version < 4 || req.AllowAutoTopicCreation)
	resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(req.Topics))
	names := named[partitionKey]{}
	for i := range req.Topics {
		if !names.first(partitionKey{topic: orEmpty(req.Topics[i].Topic), id: req.Topics[i].TopicID}) {
			continue
		}
		resp.Topics = append(resp.Topics, s.metadataTopic(r.version, snap, &req.Topics[i], create, asked))
	}
	r.respond(resp)
}

// metadataTopic answers for one topic that was asked for.
func (s *Server) metadataTopic(version int16, snap *catalog.Snapshot, in *kmsg.MetadataRequestTopic, create, asked bool) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.AuthorizedOperations = notAsked
	out.Topic, out.TopicID = in.Topic, in.TopicID
	byID := in.TopicID != [16]byte{}
	if in.Topic == nil && (version < 12 || !byID) || version < 12 && byID {
		out.ErrorCode = codeInvalidRequest
		if out.Topic == nil && version < 12 {
			out.Topic = new(string) // it may not be null there
		}
		return out
	}
	var t *catalog.Topic
	var name string
	if byID {
		t, out.ErrorCode = findTopic(snap, "", in.TopicID, true)
	} else {
		name = *in.Topic
		t, out.ErrorCode = findTopic(snap, name, [16]byte{}, false)
	}
	switch {
	case t != nil:
		return describeTopic(snap, t, asked)
	case byID:
		out.Topic = nil
	case !validTopicName(name):
		out.ErrorCode = codeInvalidTopic
	case create:
		if err := s.deps.AutoCreator.AutoCreate(strings.Clone(name)); err != nil {
			out.ErrorCode = s.codeOf(err)
		}
	}
	return out
}

func describeTopic(snap *catalog.Snapshot, t *catalog.Topic, asked bool) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.Internal()
	out.AuthorizedOperations = operations(asked, topicOperations)
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for i, p := range t.Partitions {
		m := kmsg.NewMetadataResponseTopicPartition()
		m.Partition, m.Leader = int32(i), snap.LeaderOf(p)
		m.LeaderEpoch, m.Replicas, m.ISR, m.OfflineReplicas = p.LeaderEpoch, p.Replicas, p.ISR, snap.Offline(p)
		if m.Leader < 0 {
			m.Leader, m.ErrorCode = -1, codeLeaderNotAvailable
		}
		out.Partitions = append(out.Partitions, m)
	}
	return out
}

// topicNameMax is the longest name of a topic (Topic.java).
const topicNameMax = 249

// validTopicName applies Kafka's rule for names (Topic.validate).
func validTopicName(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > topicNameMax {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
