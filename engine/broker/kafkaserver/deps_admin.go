package kafkaserver

import (
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
)

// Controller is what the admin APIs need to change the cluster: *controller.Controller. done is called once, when this
// box's catalog shows the result, from any goroutine.
type Controller interface {
	CreateTopics(req controller.CreateTopics, done func([]controller.CreatedTopic))
	DeleteTopics(req controller.DeleteTopics, done func([]controller.DeletedTopic))
	CreatePartitions(req controller.CreatePartitions, done func([]controller.TopicResult))
	AlterConfigs(req controller.AlterConfigs, done func([]controller.ResourceResult))
	ElectLeaders(req controller.ElectLeaders, done func([]controller.PartitionResult, *controller.Error))
	AlterReassignments(req controller.AlterReassignments, done func([]controller.PartitionResult))
}

// Configs is what DescribeConfigs reads: *catalog.Catalog.
type Configs interface {
	Current() *catalog.Snapshot
}

// refusal is an error of the controller as it goes on the wire.
func refusal(err *controller.Error) (code int16, message *string) {
	if err == nil {
		return codeNone, nil
	}
	if err.Message != "" {
		message = &err.Message
	}
	return err.Kind.Code, message
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }
