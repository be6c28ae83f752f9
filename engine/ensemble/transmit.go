package ensemble

import (
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// transmit hands a message of raft to the transport.
func (o *owner) transmit(m *pb.Message) {
	transport := o.e.deps.Transport
	if transport == nil {
		return
	}
	b, err := proto.Marshal(m)
	if err != nil {
		o.fail(fmt.Errorf("encode a raft message of type %v: %w", m.GetType(), err))
		return
	}
	switch m.GetType() {
	case pb.MsgSnap:
		transport.SendSnapshot(m.GetTo(), m.GetSnapshot().GetMetadata().GetIndex(), b)
	case pb.MsgHeartbeat, pb.MsgHeartbeatResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgTimeoutNow,
		pb.MsgReadIndex, pb.MsgReadIndexResp:
		transport.Send(m.GetTo(), b, true)
	default:
		transport.Send(m.GetTo(), b, false)
	}
}

// receive decodes a message from another box and queues it. What only a box may tell itself is refused.
func (e *Ensemble) receive(b []byte) error {
	bytesMax := e.cfg.Limits.RaftMessageBytesMax + uint64(e.cfg.Limits.ProposalBytesMax) + 64<<10
	if uint64(len(b)) > bytesMax {
		return fmt.Errorf("raft message of %d bytes, at most %d: %w", len(b), bytesMax, ErrTooLarge)
	}
	m := &pb.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("raft message of %d bytes: %w", len(b), err)
	}
	if m.GetTo() != e.cfg.Box || m.GetFrom() == e.cfg.Box || m.GetFrom() == raft.None {
		return fmt.Errorf("raft message from box %d to box %d arrived at box %d", m.GetFrom(), m.GetTo(), e.cfg.Box)
	}
	if raft.IsLocalMsg(m.GetType()) || m.GetType() == pb.MsgProp {
		return fmt.Errorf("raft message of type %v from box %d", m.GetType(), m.GetFrom())
	}
	return e.send(message{kind: msgReceive, raft: m})
}
