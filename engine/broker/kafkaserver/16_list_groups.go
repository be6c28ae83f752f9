package kafkaserver

import (
	"strings"

	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups (16), versions 0 to 5: the groups that this broker coordinates, by state (version 4 on) and by type (version
// 5 on); both filters ignore case, and an empty one lets everything through. All groups are of type classic. While any
// of this broker's coordinators is being loaded the answer is COORDINATOR_LOAD_IN_PROGRESS.

const classicType = "classic"

func (s *Server) handle16ListGroups(r *request) {
	req := r.body.(*kmsg.ListGroupsRequest)
	classic := len(req.TypesFilter) == 0
	for _, t := range req.TypesFilter {
		classic = classic || strings.EqualFold(t, classicType)
	}
	s.deps.Groups.List(r.context(), req.StatesFilter, func(list []group.Listed, err *kerr.Error) {
		resp := kmsg.NewPtrListGroupsResponse()
		resp.ErrorCode = groupCode(err)
		if !classic {
			list = nil
		}
		resp.Groups = make([]kmsg.ListGroupsResponseGroup, 0, len(list))
		for _, l := range list {
			g := kmsg.NewListGroupsResponseGroup()
			g.Group, g.ProtocolType, g.GroupState, g.GroupType = l.Group, l.ProtocolType, l.State.String(), classicType
			resp.Groups = append(resp.Groups, g)
		}
		r.respondOwned(resp)
	})
}
