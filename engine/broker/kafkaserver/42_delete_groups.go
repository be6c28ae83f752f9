package kafkaserver

import (
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups (42), versions 0 to 3: removes groups without members, with their offsets. NON_EMPTY_GROUP and
// GROUP_ID_NOT_FOUND otherwise. Answered once the tombstones are behind the high watermark. A group that is named twice
// is deleted once.

func (s *Server) handle42DeleteGroups(r *request) {
	req := r.body.(*kmsg.DeleteGroupsRequest)
	if r.tooMany("groups", len(req.Groups), groupsPerRequestMax) {
		return
	}
	resp := kmsg.NewPtrDeleteGroupsResponse()
	names := named[string]{}
	for _, id := range req.Groups {
		if !names.first(id) {
			continue
		}
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group = id
		resp.Groups = append(resp.Groups, g)
	}
	g := gather{left: len(resp.Groups) + 1, done: func() { r.respondOwned(resp) }}
	for i := range resp.Groups {
		out := &resp.Groups[i]
		s.deps.Groups.Ask(r.context(), &group.Delete{Target: group.To(out.Group)}, func(a group.Answer) {
			out.ErrorCode = groupCode(a.Failure())
			g.one()
		})
	}
	g.one()
}
