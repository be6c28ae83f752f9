package kafkaserver

import (
	"slices"
	"strconv"

	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources (74), versions 0 and 1: what has settings (KIP-1142). Version 0 asks for client metrics alone, of
// which there are none; from version 1 on for the types that are named, or for topics, brokers, broker loggers, client
// metrics and groups.

func (s *Server) handle74ListConfigResources(r *request) {
	req := r.body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	snap := s.deps.Catalog.Current()
	known := []controller.ResourceType{
		controller.TopicResource, controller.BrokerResource, controller.BrokerLoggerResource,
		controller.ClientMetricsResource, controller.GroupResource,
	}
	for _, t := range req.ResourceTypes {
		if !slices.Contains(known, controller.ResourceType(t)) {
			resp.ErrorCode = codeUnsupportedVersion
			r.respond(resp)
			return
		}
	}
	wanted := func(t controller.ResourceType) bool {
		return r.version >= 1 && (len(req.ResourceTypes) == 0 || slices.Contains(req.ResourceTypes, int8(t)))
	}
	add := func(t controller.ResourceType, name string) {
		res := kmsg.NewListConfigResourcesResponseConfigResource()
		res.Name, res.Type = name, int8(t)
		resp.ConfigResources = append(resp.ConfigResources, res)
	}
	if wanted(controller.TopicResource) {
		for t := range snap.Topics() {
			if visible(t) != nil {
				add(controller.TopicResource, t.Name)
			}
		}
	}
	for _, t := range []controller.ResourceType{controller.BrokerResource, controller.BrokerLoggerResource} {
		if wanted(t) {
			for b := range snap.Brokers() {
				add(t, strconv.Itoa(int(b.ID)))
			}
		}
	}
	r.respond(resp)
}
