package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Error is a refusal in Kafka's terms: one of kerr's errors, and the text that Kafka's controller gives with it. An
// empty text means that Kafka gives its standard one.
type Error struct {
	Kind    *kerr.Error
	Message string
}

// Error is the code's name and the text.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Kind.Message
	}
	return e.Kind.Message + ": " + e.Message
}

// Unwrap lets callers ask errors.Is(err, kerr.TopicAlreadyExists).
func (e *Error) Unwrap() error { return e.Kind }

// errorText is an Error as it goes from box to box.
type errorText struct {
	Code    int16
	Message string `json:",omitempty"`
}

// MarshalJSON gives the code and the text.
func (e *Error) MarshalJSON() ([]byte, error) { return json.Marshal(errorText{e.Kind.Code, e.Message}) }

// UnmarshalJSON reads what MarshalJSON gives. A code that is not known is UNKNOWN_SERVER_ERROR.
func (e *Error) UnmarshalJSON(b []byte) error {
	var t errorText
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	e.Kind, e.Message = kerr.TypedErrorForCode(t.Code), t.Message
	if e.Kind == nil {
		e.Kind = kerr.UnknownServerError
	}
	return nil
}

func refuse(kind *kerr.Error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// AsError gives the Kafka error of any error that this package returns; nil for nil.
func AsError(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	}
	return refuse(kerr.UnknownServerError, "%v", err)
}

// NewTopic asks for a topic.
type NewTopic struct {
	Name string
	// Partitions and ReplicationFactor are numbers, or -1 for the broker's defaults.
	Partitions        int32
	ReplicationFactor int16
	// Assignments are the replicas by partition, as they were asked for; empty means that the controller chooses.
	Assignments []Assignment
	Configs     []ConfigValue
}

// Assignment is one partition's replicas.
type Assignment struct {
	Partition int32
	Brokers   []int32
}

// ConfigValue is one setting; a nil value is null, which Kafka refuses.
type ConfigValue struct {
	Name  string
	Value *string
}

// CreateTopics asks for topics. Answers come in the order of the topics, a name that stands there twice once.
type CreateTopics struct {
	Topics       []NewTopic
	ValidateOnly bool
	Timeout      time.Duration
}

// CreatedTopic is the answer for one topic.
type CreatedTopic struct {
	Name              string
	Err               *Error
	ID                catalog.UUID
	Partitions        int32
	ReplicationFactor int16
	// Overrides are the settings that the topic was created with.
	Overrides map[string]string
}

// TopicRef names a topic by name or by id.
type TopicRef struct {
	Name *string
	ID   catalog.UUID
}

// DeleteTopics asks for topics to be deleted.
type DeleteTopics struct {
	Topics  []TopicRef
	Timeout time.Duration
}

// DeletedTopic is the answer for one topic.
type DeletedTopic struct {
	Name *string
	ID   catalog.UUID
	Err  *Error
}

// MorePartitions asks for a topic to grow to Count partitions.
type MorePartitions struct {
	Topic string
	Count int32
	// Assignments are the replicas of the new partitions, in order; nil means that the controller chooses.
	Assignments [][]int32
}

// CreatePartitions asks for topics to grow.
type CreatePartitions struct {
	Topics       []MorePartitions
	ValidateOnly bool
	Timeout      time.Duration
}

// TopicResult is the answer for one topic.
type TopicResult struct {
	Topic string
	Err   *Error
}

// ResourceType is the kind of thing that has settings, with Kafka's numbers (ConfigResource.Type).
type ResourceType int8

// The resource types.
const (
	TopicResource         ResourceType = 2
	BrokerResource        ResourceType = 4
	BrokerLoggerResource  ResourceType = 8
	ClientMetricsResource ResourceType = 16
	GroupResource         ResourceType = 32
)

// ConfigOp is what is done to a setting, with Kafka's numbers (AlterConfigOp.OpType).
type ConfigOp int8

// The operations.
const (
	SetConfig      ConfigOp = 0
	DeleteConfig   ConfigOp = 1
	AppendConfig   ConfigOp = 2
	SubtractConfig ConfigOp = 3
)

// ConfigChange is one operation on one setting. A full alteration has SetConfig only.
type ConfigChange struct {
	Name  string
	Op    ConfigOp
	Value *string
}

// ResourceChange changes the settings of one resource: all of it or none.
type ResourceChange struct {
	Type ResourceType
	// Name is a topic, a broker id, or empty for all brokers.
	Name    string
	Changes []ConfigChange
}

// AlterConfigs changes settings. Incremental changes the settings that are named; otherwise those that are not named
// return to their defaults.
type AlterConfigs struct {
	Resources    []ResourceChange
	Incremental  bool
	ValidateOnly bool
}

// ResourceResult is the answer for one resource, in the order of the request.
type ResourceResult struct {
	Type ResourceType
	Name string
	Err  *Error
}

// ElectionType is who may be elected, with Kafka's numbers.
type ElectionType int8

// The election types.
const (
	PreferredElection ElectionType = 0
	UncleanElection   ElectionType = 1
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// ElectLeaders asks for elections. All means every partition, and then those that need none are not answered.
type ElectLeaders struct {
	Type       ElectionType
	All        bool
	Partitions []TopicPartition
	Timeout    time.Duration
}

// PartitionResult is the answer for one partition.
type PartitionResult struct {
	TopicPartition
	Err *Error
}

// Reassignment asks for other replicas of a partition; nil Replicas cancel a reassignment that is under way.
type Reassignment struct {
	TopicPartition
	Replicas []int32
}

// AlterReassignments asks for reassignments.
type AlterReassignments struct {
	// KeepFactor refuses those that change the number of a partition's replicas (KIP-860).
	KeepFactor bool
	Partitions []Reassignment
	Timeout    time.Duration
}
