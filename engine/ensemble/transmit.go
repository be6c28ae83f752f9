package ensemble

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/limits"
)

// transmit hands a message of raft to the transport.
func (o *owner) transmit(m *pb.Message) {
	transport := o.e.deps.Transport
	if transport == nil {
		return
	}
	if m.GetFrom() != o.id {
		return // a read index that raft passes on for a box which takes this one for the leader: each box speaks for itself, and asks again
	}
	if m.GetType() == pb.MsgAppResp && o.acked.again(o, m) {
		return
	}
	b, err := proto.Marshal(m)
	if err != nil {
		o.fail(fmt.Errorf("encode a raft message of type %v: %w", m.GetType(), err))
		return
	}
	to := quorum.ServerOf(m.GetTo())
	switch m.GetType() {
	case pb.MsgSnap:
		index := m.GetSnapshot().GetMetadata().GetIndex()
		o.e.metrics.sent.Inc()
		o.disk.sending[to], o.disk.catching[m.GetTo()] = m.GetTo(), index
		o.disk.awaited = nothingHeld
		transport.SendSnapshot(to, index, append([]byte{frameRaft}, b...))
	case pb.MsgHeartbeat, pb.MsgHeartbeatResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgTimeoutNow,
		pb.MsgReadIndex, pb.MsgReadIndexResp:
		transport.Send(to, append([]byte{frameRaft}, b...), true)
	default:
		transport.Send(to, append([]byte{frameRaft}, b...), false)
	}
}

// acknowledged is what was acknowledged to a leader last.
type acknowledged struct {
	to, term, index uint64
	at              time.Duration
}

// again says whether the leader was told the same a moment ago, and else notes that it is told now. Raft answers every append,
// also one that only tells how far the log is committed: a third of what a follower says under load. The leader makes
// nothing of a repetition unless it has missed the first; but then it asks with every heartbeat, and is answered.
func (a *acknowledged) again(o *owner, m *pb.Message) bool {
	if m.GetReject() {
		*a = acknowledged{}
		return false
	}
	now := acknowledged{m.GetTo(), m.GetTerm(), m.GetIndex(), o.now.Mono}
	if now.to == a.to && now.term == a.term && now.index == a.index && now.at-a.at < o.e.cfg.HeartbeatInterval/2 {
		return true
	}
	*a = now
	return false
}

// MessageBytesMax is the longest message between boxes.
func MessageBytesMax(l limits.ZooKeeper) int {
	return int(l.RaftMessageBytesMax) + l.ProposalBytesMax + 64<<10
}

// receive decodes a message from another box and queues it. What only a box may tell itself is refused.
func (e *Ensemble) receive(from uint64, b []byte) error {
	if bytesMax := MessageBytesMax(e.cfg.Limits); len(b) == 0 || len(b) > bytesMax {
		return fmt.Errorf("message of %d bytes from box %d, at most %d: %w", len(b), from, bytesMax, ErrTooLarge)
	}
	if b[0] != frameRaft {
		frame, err := decodePeer(b)
		if err != nil {
			return fmt.Errorf("message of %d bytes from box %d: %w", len(b), from, err)
		}
		return e.send(message{kind: msgPeer, box: from, peer: frame})
	}
	b = b[1:]
	m, err := e.decodeRaft(from, b)
	if err != nil {
		return err
	}
	if m.GetTo() != e.raftID.Load() {
		return nil // for a raft id that this box had, or will have
	}
	if m.GetType() == pb.MsgSnap {
		return fmt.Errorf("a snapshot from box %d without its file", from)
	}
	return e.send(message{kind: msgReceive, box: from, raft: m})
}

// decodeRaft decodes a message of raft and checks that it is one that the sender may send here.
func (e *Ensemble) decodeRaft(from uint64, b []byte) (*pb.Message, error) {
	m := &pb.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("raft message of %d bytes: %w", len(b), err)
	}
	if quorum.ServerOf(m.GetTo()) != e.cfg.Box || quorum.ServerOf(m.GetFrom()) != from || from == e.cfg.Box || from == raft.None {
		return nil, fmt.Errorf("raft message from box %d to box %d came from box %d to box %d", m.GetFrom(), m.GetTo(), from, e.cfg.Box)
	}
	if raft.IsLocalMsg(m.GetType()) || m.GetType() == pb.MsgProp {
		return nil, fmt.Errorf("raft message of type %v from box %d", m.GetType(), m.GetFrom())
	}
	return m, nil
}
