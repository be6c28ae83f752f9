package kafkaserver

import (
	"errors"
	"fmt"
	"strconv"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
	"cairn/engine/broker/settings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs (32), versions 1 to 4: the settings of topics and brokers, with where each value comes from.
//
// Every setting of a topic is listed, the defaults too: Schema Registry and Connect fail without cleanup.policy. A
// setting's source is that of its first synonym, synonyms come most specific first, sensitive values are null
// (ConfigHelper). An empty broker name means the dynamic settings of all brokers, of which only those that are set are
// listed. A resource that is named again is described once. Groups, client metrics and loggers have no settings here and are answered with none.

type resourceName struct {
	kind kmsg.ConfigResourceType
	name string
}

func (s *Server) handle32DescribeConfigs(r *request) {
	req := r.body.(*kmsg.DescribeConfigsRequest)
	snap := s.deps.Configs.Current()
	resp := kmsg.NewPtrDescribeConfigsResponse()
	names := named[resourceName]{}
	for i := range req.Resources {
		res := &req.Resources[i]
		if !names.first(resourceName{res.ResourceType, res.ResourceName}) {
			continue
		}
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = res.ResourceType, res.ResourceName
		entries, err := describeResource(snap, res)
		out.ErrorMessage = new(string) // Kafka leaves it empty, not null, and its tools print that
		if e := controller.AsError(err); e != nil {
			out.ErrorCode, out.ErrorMessage = e.Kind.Code, &e.Message
		}
		out.Configs = make([]kmsg.DescribeConfigsResponseResourceConfig, 0, len(entries))
		for j := range entries {
			out.Configs = append(out.Configs, describedConfig(&entries[j], req.IncludeSynonyms, req.IncludeDocumentation))
		}
		resp.Resources = append(resp.Resources, out)
	}
	r.respond(resp)
}

func describeResource(snap *catalog.Snapshot, res *kmsg.DescribeConfigsRequestResource) ([]settings.Entry, error) {
	invalid := func(format string, args ...any) error {
		return &controller.Error{Kind: kerr.InvalidRequest, Message: fmt.Sprintf(format, args...)}
	}
	switch controller.ResourceType(res.ResourceType) {
	case controller.TopicResource:
		t := visible(snap.Topic(res.ResourceName))
		if t != nil {
			return snap.Settings.DescribeTopic(t.Overrides, t.Partitions[0].Factor(), res.ConfigNames), nil
		}
		if err := controller.CheckName(snap, res.ResourceName); errors.Is(err, kerr.InvalidTopicException) {
			return nil, err
		}
		return nil, &controller.Error{Kind: kerr.UnknownTopicOrPartition}
	case controller.BrokerResource:
		if res.ResourceName == "" {
			return snap.Settings.DescribeBrokerDefault(snap.BrokerCount(), res.ConfigNames), nil
		}
		id, err := strconv.ParseInt(res.ResourceName, 10, 32)
		if err != nil || strconv.FormatInt(id, 10) != res.ResourceName { // 01 would be broker 1 under another name
			return nil, invalid("Broker id must be an integer, but it is: %s", res.ResourceName)
		}
		if snap.Broker(int32(id)) == nil {
			return nil, invalid("Unexpected broker id, expected %d or empty string, but received %s", snap.Base().BrokerID, res.ResourceName)
		}
		return snap.BrokerSettings(int32(id)).DescribeBroker(snap.BrokerCount(), res.ConfigNames), nil
	case controller.BrokerLoggerResource, controller.ClientMetricsResource, controller.GroupResource:
		return nil, nil
	}
	return nil, invalid("Unexpected resource type %d for resource %s", res.ResourceType, res.ResourceName)
}

func describedConfig(e *settings.Entry, synonyms, documentation bool) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.Value, out.ReadOnly, out.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	out.Source, out.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	out.IsDefault = e.Source == settings.SourceDefault
	if synonyms {
		for _, s := range e.Synonyms {
			syn := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			syn.Name, syn.Value, syn.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			out.ConfigSynonyms = append(out.ConfigSynonyms, syn)
		}
	}
	if documentation && e.Doc != "" {
		out.Documentation = &e.Doc
	}
	return out
}
