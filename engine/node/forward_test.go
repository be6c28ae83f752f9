package node

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/engine/broker/controller"
)

// Whatever box is asked to change something, it is done.
func TestAnyBoxTakesAdminRequests(t *testing.T) {
	s := threeBrokers(t)
	client := s.kafka()
	name := func(box uint64) string { return "t" + string(rune('0'+box)) }
	for box := uint64(1); box <= 3; box++ {
		broker := client.Broker(int(box))
		create := kmsg.NewCreateTopicsRequest()
		create.TimeoutMillis = 10_000
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name(box), 2, 3
		create.Topics = append(create.Topics, topic)
		for i, want := range []int16{0, kerr.TopicAlreadyExists.Code} {
			resp, err := create.RequestWith(t.Context(), broker)
			if err != nil || len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != want || want == 0 && resp.Topics[0].TopicID == [16]byte{} {
				t.Fatalf("box %d is asked for a topic for the %d. time: %+v, %v", box, i+1, resp, err)
			}
		}
		alter := kmsg.NewIncrementalAlterConfigsRequest()
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeBroker, string(rune('0'+box))
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		value := "604800001"
		config.Name, config.Value = "log.retention.ms", &value
		resource.Configs = append(resource.Configs, config)
		alter.Resources = append(alter.Resources, resource)
		if resp, err := alter.RequestWith(t.Context(), broker); err != nil || resp.Resources[0].ErrorCode != 0 {
			t.Fatalf("box %d is asked for another setting: %+v, %v", box, resp, err)
		}
		elect := kmsg.NewElectLeadersRequest()
		elect.TimeoutMillis = 10_000
		one := kmsg.NewElectLeadersRequestTopic()
		one.Topic, one.Partitions = name(box), []int32{0, 7}
		elect.Topics = append(elect.Topics, one)
		resp, err := elect.RequestWith(t.Context(), broker)
		if err != nil || resp.ErrorCode != 0 || len(resp.Topics) != 1 {
			t.Fatalf("box %d is asked for elections: %+v, %v", box, resp, err)
		}
		for _, p := range resp.Topics[0].Partitions {
			allowed := []int16{kerr.ElectionNotNeeded.Code, 0}
			if p.Partition == 7 {
				allowed = []int16{kerr.UnknownTopicOrPartition.Code}
			}
			if !slices.Contains(allowed, p.ErrorCode) {
				t.Errorf("box %d: partition %d: code %d", box, p.Partition, p.ErrorCode)
			}
		}
		remove := kmsg.NewDeleteTopicsRequest()
		remove.TimeoutMillis = 10_000
		gone := kmsg.NewDeleteTopicsRequestTopic()
		topicName := name(box)
		gone.Topic = &topicName
		remove.Topics, remove.TopicNames = append(remove.Topics, gone), []string{topicName}
		if resp, err := remove.RequestWith(t.Context(), broker); err != nil || resp.Topics[0].ErrorCode != 0 {
			t.Fatalf("box %d is asked to delete a topic: %+v, %v", box, resp, err)
		}
	}
}

func TestErrorsGoFromBoxToBox(t *testing.T) {
	b, err := json.Marshal([]controller.TopicResult{{Topic: "a"}, {Topic: "b", Err: &controller.Error{Kind: kerr.InvalidPartitions, Message: "why"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []controller.TopicResult
	if err := json.Unmarshal(b, &got); err != nil || got[0].Err != nil || !errors.Is(got[1].Err, kerr.InvalidPartitions) || got[1].Err.Message != "why" {
		t.Fatalf("%s: %+v, %v", b, got, err)
	}
}
