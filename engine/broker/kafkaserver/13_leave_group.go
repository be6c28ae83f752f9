package kafkaserver

import (
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup (13), versions 0 to 5: a member leaves; from version 3 on several, each with its own outcome, and static
// members by instance id alone. Before version 3 the one member's error is the answer's.

func (s *Server) handle13LeaveGroup(r *request) {
	req := r.body.(*kmsg.LeaveGroupRequest)
	q := &group.Leave{Target: group.To(req.Group)}
	if r.version < 3 {
		q.Members = []group.Leaver{{MemberID: req.MemberID}}
	} else {
		for _, m := range req.Members {
			q.Members = append(q.Members, group.Leaver{MemberID: m.MemberID, InstanceID: m.InstanceID, Reason: orEmpty(m.Reason)})
		}
	}
	version := r.version
	s.deps.Groups.Ask(r.context(), q, func(answer group.Answer) {
		a := answer.(*group.LeaveAnswer)
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = groupCode(a.Err)
		for _, m := range a.Members {
			if version < 3 {
				resp.ErrorCode = groupCode(m.Err)
				break
			}
			out := kmsg.NewLeaveGroupResponseMember()
			out.MemberID, out.InstanceID, out.ErrorCode = m.MemberID, m.InstanceID, groupCode(m.Err)
			resp.Members = append(resp.Members, out)
		}
		r.respondOwned(resp)
	})
}
