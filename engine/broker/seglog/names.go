package seglog

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Names of Kafka's files (org.apache.kafka.storage.internals.log.LogFileUtils and LogLoader).
const (
	suffixLog      = ".log"
	suffixIndex    = ".index"
	suffixTime     = ".timeindex"
	suffixTxn      = ".txnindex"
	suffixSnapshot = ".snapshot"
	suffixDeleted  = ".deleted"
	suffixCleaned  = ".cleaned"
	suffixSwap     = ".swap"

	suffixDirDelete = "-delete"
	suffixDirStray  = "-stray"

	nameEpochs    = "leader-epoch-checkpoint"
	namePartition = "partition.metadata"

	nameMeta           = "meta.properties"
	nameRecoveryPoints = "recovery-point-offset-checkpoint"
	nameLogStarts      = "log-start-offset-checkpoint"
	nameHighWatermarks = "replication-offset-checkpoint"
	nameCleaned        = "cleaner-offset-checkpoint"
	nameClean          = ".kafka_cleanshutdown"
	nameLock           = ".lock"

	suffixTemporary = ".tmp"
)

// topicNameMax is Kafka's longest topic name, in bytes.
const topicNameMax = 249

// TopicPartition names a log within its directory.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is the name of the partition's directory.
func (tp TopicPartition) String() string { return tp.Topic + "-" + strconv.Itoa(int(tp.Partition)) }

// Compare orders by topic, then by partition.
func (tp TopicPartition) Compare(o TopicPartition) int {
	return cmp.Or(strings.Compare(tp.Topic, o.Topic), cmp.Compare(tp.Partition, o.Partition))
}

func (tp TopicPartition) check() error {
	if tp.Topic == "" || len(tp.Topic) > topicNameMax || tp.Topic == "." || tp.Topic == ".." ||
		strings.ContainsFunc(tp.Topic, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
		}) {
		return fmt.Errorf("%w: topic name %q", ErrInvalid, tp.Topic)
	}
	if tp.Partition < 0 {
		return fmt.Errorf("%w: partition %d", ErrInvalid, tp.Partition)
	}
	return nil
}

// parseTopicPartition reads the name of a partition directory; false for any other name.
func parseTopicPartition(name string) (TopicPartition, bool) {
	if strings.HasSuffix(name, suffixDirDelete) || strings.HasSuffix(name, suffixDirStray) || strings.HasSuffix(name, "-future") {
		return TopicPartition{}, false
	}
	dash := strings.LastIndexByte(name, '-')
	if dash <= 0 {
		return TopicPartition{}, false
	}
	n, err := strconv.ParseInt(name[dash+1:], 10, 32)
	if err != nil || n < 0 || strconv.Itoa(int(n)) != name[dash+1:] {
		return TopicPartition{}, false
	}
	tp := TopicPartition{name[:dash], int32(n)}
	return tp, tp.check() == nil
}

// offsetName is an offset as Kafka names files after it: 20 digits.
func offsetName(offset int64) string { return fmt.Sprintf("%020d", offset) }

// parseOffsetName splits <20 digits><suffix>; false for a name that is not of that form.
func parseOffsetName(name string) (offset int64, suffix string, ok bool) {
	if len(name) < 21 || name[20] != '.' || name[0] < '0' || name[0] > '9' { // a sign is no digit
		return 0, "", false
	}
	offset, err := strconv.ParseInt(name[:20], 10, 64)
	if err != nil || offset < 0 {
		return 0, "", false
	}
	return offset, name[20:], true
}
