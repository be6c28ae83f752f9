package kafkaserver

import (
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat (12), versions 0 to 4: keeps a member's session and tells it of rebalances. While the group is being loaded
// it succeeds, so that members do not give their partitions up.

func (s *Server) handle12Heartbeat(r *request) {
	req := r.body.(*kmsg.HeartbeatRequest)
	q := &group.Heartbeat{Target: group.To(req.Group), Generation: req.Generation, MemberID: req.MemberID, InstanceID: req.InstanceID}
	s.deps.Groups.Ask(r.context(), q, func(a group.Answer) {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = groupCode(a.Failure())
		r.respondOwned(resp)
	})
}
