package catalog

import (
	"strconv"
	"strings"
)

// Root is where the broker's facts live. Below it the names are those that Kafka used in ZooKeeper
// (kafka.zk.ZkData).
const Root = "/cairn/kafka"

// The znodes below Root.
const (
	ClusterIDPath       = Root + "/cluster/id"
	ControllerPath      = Root + "/controller"
	ControllerEpochPath = Root + "/controller_epoch"
	ProducerIDBlockPath = Root + "/latest_producer_id_block"
	brokerIDsPath       = Root + "/brokers/ids"
	topicsPath          = Root + "/brokers/topics"
	topicConfigsPath    = Root + "/config/topics"
	brokerConfigsPath   = Root + "/config/brokers"
	deleteTopicsPath    = Root + "/admin/delete_topics"
	RebalancePath       = Root + "/admin/rebalance"
)

// defaultBroker is the znode name of the settings of all brokers (ZooKeeperInternals.DEFAULT_STRING).
const defaultBroker = "<default>"

// SkeletonPaths are the parents that must exist before anything else is written, parents first.
func SkeletonPaths() []string {
	return []string{
		"/cairn", Root, Root + "/cluster", Root + "/brokers", brokerIDsPath, topicsPath,
		Root + "/config", topicConfigsPath, brokerConfigsPath, Root + "/admin", deleteTopicsPath,
	}
}

// BrokerPath is the registration of a broker.
func BrokerPath(id int32) string { return brokerIDsPath + "/" + itoa(id) }

// TopicPath is the znode of a topic's assignment.
func TopicPath(topic string) string { return topicsPath + "/" + topic }

// PartitionsPath is the parent of a topic's partitions.
func PartitionsPath(topic string) string { return TopicPath(topic) + "/partitions" }

// PartitionPath is the parent of a partition's state.
func PartitionPath(topic string, partition int32) string {
	return PartitionsPath(topic) + "/" + itoa(partition)
}

// StatePath is the state of a partition: leader, epoch, ISR.
func StatePath(topic string, partition int32) string {
	return PartitionPath(topic, partition) + "/state"
}

// TopicConfigPath holds a topic's overrides.
func TopicConfigPath(topic string) string { return topicConfigsPath + "/" + topic }

// BrokerConfigPath holds the dynamic settings of one broker.
func BrokerConfigPath(id int32) string { return brokerConfigsPath + "/" + itoa(id) }

// DefaultBrokerConfigPath holds the dynamic settings of all brokers.
func DefaultBrokerConfigPath() string { return brokerConfigsPath + "/" + defaultBroker }

// DeleteTopicPath marks a topic for deletion.
func DeleteTopicPath(topic string) string { return deleteTopicsPath + "/" + topic }

func itoa(n int32) string { return strconv.FormatInt(int64(n), 10) }

// parseIndex reads a broker or partition number as it is written in a path: no sign, no leading zeros, at most greatest.
func parseIndex(s string, greatest int32) (int32, bool) {
	if s == "" || len(s) > 10 || (s[0] == '0' && len(s) > 1) || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > int64(greatest) {
		return 0, false
	}
	return int32(n), true
}
