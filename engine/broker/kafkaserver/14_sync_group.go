package kafkaserver

import (
	"bytes"

	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup (14), versions 0 to 5: the leader hands the assignment in, everybody gets theirs, once it is behind the high
// watermark. Followers wait for the leader. From version 5 on protocol type and name must be given, and match.

func (s *Server) handle14SyncGroup(r *request) {
	req := r.body.(*kmsg.SyncGroupRequest)
	if r.version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = codeInconsistentGroupProtocol
		r.respond(resp)
		return
	}
	q := &group.Sync{
		Target: group.To(req.Group), Generation: req.Generation, MemberID: req.MemberID, InstanceID: req.InstanceID,
		ProtocolType: req.ProtocolType, Protocol: req.Protocol,
	}
	for _, a := range req.GroupAssignment {
		q.Assignments = append(q.Assignments, group.Assignment{MemberID: a.MemberID, Data: bytes.Clone(a.MemberAssignment)})
	}
	if !r.park() {
		return
	}
	s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
		a := answer.(*group.SyncAnswer)
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode, resp.ProtocolType, resp.Protocol, resp.MemberAssignment = groupCode(a.Err), a.ProtocolType, a.Protocol, a.Assignment
		r.respondOwned(resp)
	})
}
