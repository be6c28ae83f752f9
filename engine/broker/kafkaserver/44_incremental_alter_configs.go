package kafkaserver

import (
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs (44), versions 0 and 1: sets, deletes, appends to and subtracts from single settings of topics
// and brokers. Each resource is changed as a whole or not at all; changes are in force when it is answered.

func (s *Server) handle44IncrementalAlterConfigs(r *request) {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	ask := controller.AlterConfigs{Incremental: true, ValidateOnly: req.ValidateOnly}
	for i := range req.Resources {
		res := &req.Resources[i]
		change := controller.ResourceChange{Type: controller.ResourceType(res.ResourceType), Name: res.ResourceName}
		for _, c := range res.Configs {
			change.Changes = append(change.Changes, controller.ConfigChange{Name: c.Name, Op: controller.ConfigOp(c.Op), Value: c.Value})
		}
		ask.Resources = append(ask.Resources, change)
	}
	s.deps.Controller.AlterConfigs(ask, func(results []controller.ResourceResult) {
		resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
		for _, res := range results {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = kmsg.ConfigResourceType(res.Type), res.Name
			out.ErrorCode, out.ErrorMessage = refusal(res.Err)
			resp.Resources = append(resp.Resources, out)
		}
		r.respond(resp)
	})
}
