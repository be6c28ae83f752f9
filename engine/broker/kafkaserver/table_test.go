package kafkaserver

import (
	"errors"
	"fmt"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestTableIsSound(t *testing.T) {
	table := newTable()
	if err := table.check(); err != nil {
		t.Error(err)
	}
	for _, key := range []int16{-1, 4, 999} {
		if table.find(key) != nil {
			t.Errorf("key %d is served", key)
		}
	}
	for i := range table {
		if table.find(table[i].key) != &table[i] {
			t.Errorf("key %d is not found", table[i].key)
		}
	}
}

// Versions that old or exact clients need (reference: librdkafka, kafkajs, sarama, kafka-go, platformatic).
func TestVersionsThatClientsNeed(t *testing.T) {
	table := newTable()
	for _, need := range []struct {
		key      int16
		min, max int16
		client   string
	}{
		{0, 3, 7, "kafkajs"}, {0, 9, 11, "platformatic"}, {0, 3, 10, "librdkafka, sarama"}, {0, 13, 13, "Java"},
		{1, 4, 11, "kafkajs"}, {1, 15, 17, "platformatic"}, {1, 4, 16, "librdkafka"}, {1, 18, 18, "Java"},
		{2, 1, 7, "librdkafka"}, {2, 8, 9, "platformatic"}, {3, 0, 13, "all"}, {18, 0, 4, "all"},
		{11, 0, 5, "librdkafka's probe, kafka-go, kafkajs"}, {23, 2, 2, "librdkafka, exactly"}, {22, 0, 4, "librdkafka"},
		{21, 0, 2, "librdkafka"}, {10, 0, 4, "all"}, {16, 0, 4, "all"}, {32, 1, 4, "all"}, {35, 1, 4, "kafka-ui"},
	} {
		a := table.find(need.key)
		if a == nil {
			t.Errorf("key %d is not served: %s needs it", need.key, need.client)
			continue
		}
		if a.min > need.min || a.max < need.max {
			t.Errorf("%s serves %d to %d, %s needs %d to %d", a.name, a.min, a.max, need.client, need.min, need.max)
		}
	}
}

// Codes are Kafka's.
func TestCodesAreKafkas(t *testing.T) {
	for code, name := range map[int16]string{
		codeUnknownServerError: "UNKNOWN_SERVER_ERROR", codeCorruptMessage: "CORRUPT_MESSAGE", codeUnknownTopicOrPartition: "UNKNOWN_TOPIC_OR_PARTITION",
		codeNotLeaderOrFollower: "NOT_LEADER_FOR_PARTITION", codeMessageTooLarge: "MESSAGE_TOO_LARGE", codeInvalidTopic: "INVALID_TOPIC_EXCEPTION",
		codeInvalidRequiredAcks: "INVALID_REQUIRED_ACKS", codePolicyViolation: "POLICY_VIOLATION", codeKafkaStorageError: "KAFKA_STORAGE_ERROR",
		codeFetchSessionIDNotFound: "FETCH_SESSION_ID_NOT_FOUND", codeInvalidFetchSessionEpoch: "INVALID_FETCH_SESSION_EPOCH",
		codeFencedLeaderEpoch: "FENCED_LEADER_EPOCH", codeUnknownLeaderEpoch: "UNKNOWN_LEADER_EPOCH", codeOffsetNotAvailable: "OFFSET_NOT_AVAILABLE",
		codeUnsupportedCompressionType: "UNSUPPORTED_COMPRESSION_TYPE", codeInvalidRecord: "INVALID_RECORD", codeUnknownTopicID: "UNKNOWN_TOPIC_ID",
		codeFetchSessionTopicIDError: "FETCH_SESSION_TOPIC_ID_ERROR", codeMismatchedEndpointType: "MISMATCHED_ENDPOINT_TYPE",
		codeTransactionalIDAuthFailed: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", codeMemberIDRequired: "MEMBER_ID_REQUIRED",
		codeGroupIDNotFound: "GROUP_ID_NOT_FOUND", codeFencedInstanceID: "FENCED_INSTANCE_ID", codeSecurityDisabled: "SECURITY_DISABLED",
		codeGroupSubscribedToTopic: "GROUP_SUBSCRIBED_TO_TOPIC", codeUnstableOffsetCommit: "UNSTABLE_OFFSET_COMMIT",
		codeStaleMemberEpoch: "STALE_MEMBER_EPOCH", codeTransactionAbortable: "TRANSACTION_ABORTABLE", codeUnknownControllerID: "UNKNOWN_CONTROLLER_ID",
	} {
		if e := kerr.TypedErrorForCode(code); e == nil || e.Message != name {
			t.Errorf("%d: kerr says %v, want %s", code, e, name)
		}
	}
}

func TestErrorTable(t *testing.T) {
	r := newRig(t)
	for err, code := range map[error]int16{
		nil: 0, fmt.Errorf("read: %w", seglog.ErrOutOfRange): 1, &batch.RecordError{Err: batch.ErrInvalid}: 87,
		&seglog.CorruptionError{Err: errors.New("x")}: 56, fmt.Errorf("create: %w", kerr.TopicAlreadyExists): 36, errors.New("never seen"): -1,
	} {
		if got := r.codeOf(err); got != code {
			t.Errorf("%v: %d, want %d", err, got, code)
		}
	}
	for i := range errorLogMax + 10 {
		_ = r.codeOf(fmt.Errorf("unknown %d", i))
	}
	if n := len(r.unknownErrors.seen); n > errorLogMax {
		t.Errorf("%d texts remembered", n)
	}
	for _, e := range errorCodes {
		if e.code != codeNone && kerr.TypedErrorForCode(e.code) == nil {
			t.Errorf("%v: code %d is none of Kafka's", e.err, e.code)
		}
	}
}
