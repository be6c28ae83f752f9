package kafkaserver

import (
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs (33), versions 0 to 2: replaces all settings of a resource; those that are not named return to their
// defaults. Old tools and user interfaces use it; the newer API is IncrementalAlterConfigs (44).

func (s *Server) handle33AlterConfigs(r *request) {
	req := r.body.(*kmsg.AlterConfigsRequest)
	ask := controller.AlterConfigs{ValidateOnly: req.ValidateOnly}
	for i := range req.Resources {
		res := &req.Resources[i]
		change := controller.ResourceChange{Type: controller.ResourceType(res.ResourceType), Name: res.ResourceName}
		for _, c := range res.Configs {
			change.Changes = append(change.Changes, controller.ConfigChange{Name: c.Name, Op: controller.SetConfig, Value: c.Value})
		}
		ask.Resources = append(ask.Resources, change)
	}
	s.deps.Controller.AlterConfigs(ask, func(results []controller.ResourceResult) {
		resp := kmsg.NewPtrAlterConfigsResponse()
		for _, res := range results {
			out := kmsg.NewAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = kmsg.ConfigResourceType(res.Type), res.Name
			out.ErrorCode, out.ErrorMessage = refusal(res.Err)
			resp.Resources = append(resp.Resources, out)
		}
		r.respond(resp)
	})
}
