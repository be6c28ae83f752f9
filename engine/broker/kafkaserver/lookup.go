package kafkaserver

import (
	"errors"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/topics"
)

// visible is the topic if clients may see it: a topic that is being deleted does not exist for them.
func visible(t *catalog.Topic) *catalog.Topic {
	if t == nil || t.Deleting {
		return nil
	}
	return t
}

// findTopic finds a topic by id where the version of the API has ids, else by name. The code says why there is none.
func findTopic(snap *catalog.Snapshot, name string, id [16]byte, byID bool) (*catalog.Topic, int16) {
	if byID {
		if t := visible(snap.TopicByID(catalog.UUID(id))); t != nil {
			return t, codeNone
		}
		return nil, codeUnknownTopicID
	}
	if t := visible(snap.Topic(name)); t != nil {
		return t, codeNone
	}
	return nil, codeUnknownTopicOrPartition
}

// findLeader finds the local replica that leads a partition, and its present view.
func (s *Server) findLeader(t *catalog.Topic, p int32) (Replica, *replica.View, int16) {
	rep, v, code := s.findReplica(t, p)
	if code == codeNone && !v.Leader {
		return nil, nil, codeNotLeaderOrFollower
	}
	return rep, v, code
}

// findReplica finds the local replica of a partition, whether it leads or follows, and its present view.
func (s *Server) findReplica(t *catalog.Topic, p int32) (Replica, *replica.View, int16) {
	if t.Partition(p) == nil {
		return nil, nil, codeUnknownTopicOrPartition
	}
	rep, err := s.deps.Replicas.Lookup(t.Name, p)
	switch {
	case errors.Is(err, topics.ErrUnknown):
		return nil, nil, codeNotLeaderOrFollower // the partition is there, but not on this box
	case err != nil:
		return nil, nil, s.codeOf(err)
	case rep.TopicID() != seglog.ID(t.ID):
		return nil, nil, codeNotLeaderOrFollower // a topic of that name was deleted and created anew
	}
	v := rep.View()
	if v.Err != nil {
		return nil, nil, s.codeOf(v.Err)
	}
	return rep, v, codeNone
}

// nearer is an in-sync replica in the client's rack that it is to read from instead of this leader (KIP-392,
// RackAwareReplicaSelector); ok is false where there is none, or this box is one. Everything below the high watermark is on all
// that are in sync.
func (s *Server) nearer(snap *catalog.Snapshot, t *catalog.Topic, partition int32, rack string) (id int32, ok bool) {
	own := snap.Broker(s.cfg.BrokerID)
	p := t.Partition(partition)
	if p == nil || own == nil || own.Rack == rack {
		return -1, false
	}
	for _, id := range p.ISR {
		if b := snap.Broker(id); b != nil && b.Rack == rack && snap.ReplicaOnline(p, id) {
			return id, true
		}
	}
	return -1, false
}

// node is where clients reach a broker.
type node struct {
	id   int32
	host string
	port int32
	rack *string
}

// nodes are the live brokers under the addresses of the listener that the client came in on. This box is among them
// even before its registration is seen, so that a client that asks early has somebody to ask again.
func (s *Server) nodes(c *conn, snap *catalog.Snapshot) []node {
	list := make([]node, 0, snap.BrokerCount()+1)
	self := false
	for b := range snap.Brokers() {
		n := node{id: b.ID}
		if b.Rack != "" {
			n.rack = &b.Rack
		}
		if b.ID == s.cfg.BrokerID {
			n.host, n.port = c.advertised()
			self = true
		} else {
			e, ok := b.Endpoint(c.listener.config.Name)
			if !ok || e.Host == "" {
				continue // that broker cannot be reached by who came in here
			}
			n.host, n.port = e.Host, e.Port
		}
		list = append(list, n)
	}
	if !self {
		n := node{id: s.cfg.BrokerID}
		n.host, n.port = c.advertised()
		list = append(list, n)
	}
	return list
}

// controllerID is a live broker to send admin requests to: the controller's if it has a broker, else this one, which
// forwards.
func (s *Server) controllerID(snap *catalog.Snapshot) int32 {
	if snap.ControllerID >= 0 && snap.Broker(snap.ControllerID) != nil {
		return snap.ControllerID
	}
	return s.cfg.BrokerID
}

// currentLeader tells a client that asked the wrong box who leads (KIP-951); ok is false when nobody else does.
func (s *Server) currentLeader(snap *catalog.Snapshot, t *catalog.Topic, p int32, code int16) (leader, epoch int32, ok bool) {
	if code != codeNotLeaderOrFollower && code != codeFencedLeaderEpoch || t == nil {
		return -1, -1, false
	}
	part := t.Partition(p)
	if leader = snap.LeaderOf(part); leader < 0 {
		return -1, -1, false
	}
	return leader, part.LeaderEpoch, true
}

// Bits of the operations that a client may do, where it asked (KIP-430). Without an authorizer that is everything that
// the resource knows (AclEntry.supportedOperations).
const (
	topicOperations   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	groupOperations   int32 = 1<<3 | 1<<6 | 1<<8
	notAsked          int32 = -1 << 31
)

func operations(asked bool, all int32) int32 {
	if asked {
		return all
	}
	return notAsked
}
