package kafkaserver

import (
	"bytes"
	"time"

	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup (11), versions 0 to 9: a member joins a group, or joins it again, and waits for the next generation.
//
// The rules are package group's: MEMBER_ID_REQUIRED for new dynamic members from version 4 on (KIP-394), static members
// (version 5, KIP-345), the members for the leader alone, skipAssignment (version 9, KIP-814). The request waits until
// the generation is complete, up to the slowest member's rebalance timeout. When the client hangs up meanwhile its
// member stays until its session ends.

func (s *Server) handle11JoinGroup(r *request) {
	req := r.body.(*kmsg.JoinGroupRequest)
	q := &group.Join{
		Target: group.To(req.Group), Version: r.version, MemberID: req.MemberID, InstanceID: req.InstanceID,
		ClientID: r.clientID, ClientHost: r.clientHost(),
		Session:      time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		Rebalance:    time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		ProtocolType: req.ProtocolType, Reason: orEmpty(req.Reason),
	}
	for _, p := range req.Protocols {
		q.Protocols = append(q.Protocols, group.Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
	}
	if !r.park() {
		return
	}
	version := r.version
	s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
		a := answer.(*group.JoinAnswer)
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.ErrorCode, resp.Generation, resp.ProtocolType, resp.Protocol = groupCode(a.Err), a.Generation, a.ProtocolType, a.Protocol
		resp.LeaderID, resp.MemberID, resp.SkipAssignment = a.Leader, a.MemberID, a.SkipAssignment
		if version >= 7 && resp.Protocol != nil && *resp.Protocol == "" {
			resp.Protocol = nil
		}
		for _, m := range a.Members {
			out := kmsg.NewJoinGroupResponseMember()
			out.MemberID, out.InstanceID, out.ProtocolMetadata = m.ID, m.InstanceID, m.Metadata
			resp.Members = append(resp.Members, out)
		}
		r.respondOwned(resp)
	})
}
