package kafkaserver

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/coordinator"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator (10), versions 0 to 6: which broker keeps a group; one key up to version 3, several from 4 on.
//
// A group belongs to the leader of partition abs(hash(group id)) mod n of __consumer_offsets. That topic is created when
// somebody first asks; until its partition is led the answer is COORDINATOR_NOT_AVAILABLE, and clients ask again.
//
// Keys of transactions are answered COORDINATOR_NOT_AVAILABLE with a message: transactions are not there yet, and no
// broker keeps them. Keys of share groups, and types that nobody knows, are INVALID_REQUEST.

// The types of keys (FindCoordinatorRequest.CoordinatorType).
const (
	groupCoordinator       int8 = 0
	transactionCoordinator int8 = 1
)

var (
	textCoordinatorMissing = "The coordinator is not available."
	textNoTransactions     = "This broker does not keep transactions."
	textCoordinatorType    = "The coordinator type is not served."
	textNone               = "NONE"
)

func (s *Server) handle10FindCoordinator(r *request) {
	req := r.body.(*kmsg.FindCoordinatorRequest)
	if r.tooMany("keys", len(req.CoordinatorKeys), groupsPerRequestMax) {
		return
	}
	resp := kmsg.NewPtrFindCoordinatorResponse()
	snap := s.deps.Catalog.Current()
	nodes := s.nodes(r.conn, snap)
	if r.version < 4 {
		c := s.findCoordinator(nodes, snap, req.CoordinatorType, req.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Host, resp.Port = c.ErrorCode, c.ErrorMessage, c.NodeID, c.Host, c.Port
		if c.ErrorCode == codeNone {
			resp.ErrorMessage = &textNone
		}
		r.respond(resp)
		return
	}
	resp.Coordinators = make([]kmsg.FindCoordinatorResponseCoordinator, 0, len(req.CoordinatorKeys))
	for _, key := range req.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.findCoordinator(nodes, snap, req.CoordinatorType, key))
	}
	r.respond(resp)
}

func (s *Server) findCoordinator(nodes []node, snap *catalog.Snapshot, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Port = key, -1, -1
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		out.ErrorCode, out.ErrorMessage = codeCoordinatorNotAvailable, &textNoTransactions
		return out
	default:
		out.ErrorCode, out.ErrorMessage = codeInvalidRequest, &textCoordinatorType
		return out
	}
	out.ErrorCode, out.ErrorMessage = codeCoordinatorNotAvailable, &textCoordinatorMissing
	topic := visible(snap.Topic(catalog.GroupOffsetsTopic))
	if topic == nil {
		if err := s.deps.AutoCreator.AutoCreate(catalog.GroupOffsetsTopic); err != nil && s.unknownErrors.first(err.Error()) {
			s.log.Error("cannot create the topic of group offsets", "topic", catalog.GroupOffsetsTopic, "err", err)
		}
		return out
	}
	partition := coordinator.PartitionFor(key, int32(len(topic.Partitions)))
	leader := snap.LeaderOf(topic.Partition(partition))
	if leader < 0 {
		return out
	}
	for _, n := range nodes {
		if n.id == leader {
			out.NodeID, out.Host, out.Port, out.ErrorCode, out.ErrorMessage = n.id, n.host, n.port, codeNone, nil
		}
	}
	return out
}
