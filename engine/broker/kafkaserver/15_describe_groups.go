package kafkaserver

import (
	"fmt"
	"slices"

	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups (15), versions 0 to 6: state and members of groups.
//
// A group that does not exist is described as Dead; from version 6 on it is GROUP_ID_NOT_FOUND as well. Metadata is
// shown of Stable groups only. A group that is named again is described once. Authorized operations are all operations, there being no authorizer.

func (s *Server) handle15DescribeGroups(r *request) {
	req := r.body.(*kmsg.DescribeGroupsRequest)
	if r.tooMany("groups", len(req.Groups), groupsPerRequestMax) {
		return
	}
	names := named[string]{}
	req.Groups = slices.DeleteFunc(req.Groups, func(id string) bool { return !names.first(id) })
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Groups = make([]kmsg.DescribeGroupsResponseGroup, len(req.Groups))
	authorized := operations(req.IncludeAuthorizedOperations, groupOperations)
	g := gather{left: len(req.Groups) + 1, done: func() { r.respondOwned(resp) }}
	version := r.version
	for i, id := range req.Groups {
		out := &resp.Groups[i]
		*out = kmsg.NewDescribeGroupsResponseGroup()
		out.Group, out.AuthorizedOperations = id, notAsked
		s.deps.Groups.Ask(r.context(), &group.Describe{Target: group.To(id)}, func(answer group.Answer) {
			a := answer.(*group.DescribeAnswer)
			describeGroup(out, a, version)
			if a.Err == nil || a.Err == kerr.GroupIDNotFound {
				out.AuthorizedOperations = authorized
			}
			g.one()
		})
	}
	g.one()
}

func describeGroup(out *kmsg.DescribeGroupsResponseGroup, a *group.DescribeAnswer, version int16) {
	switch {
	case a.Err == nil:
	case a.Err == kerr.GroupIDNotFound:
		out.State = group.Dead.String()
		if version >= 6 {
			text := fmt.Sprintf("Group %s not found.", out.Group)
			out.ErrorCode, out.ErrorMessage = a.Err.Code, &text
		}
		return
	default:
		out.ErrorCode = a.Err.Code
		return
	}
	out.State, out.ProtocolType, out.Protocol = a.State.String(), a.ProtocolType, a.Protocol
	for _, m := range a.Members {
		d := kmsg.NewDescribeGroupsResponseGroupMember()
		d.MemberID, d.InstanceID, d.ClientID, d.ClientHost = m.ID, m.InstanceID, m.ClientID, m.ClientHost
		d.ProtocolMetadata, d.MemberAssignment = m.Metadata, m.Assignment
		out.Members = append(out.Members, d)
	}
}
