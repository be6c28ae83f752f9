package kafkaserver

import (
	"context"
	"errors"
	"sync"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/topics"

	"github.com/twmb/franz-go/pkg/kerr"
)

// errorCodes is the one table of which error of the rooms below is which code on the wire. The first match counts.
var errorCodes = []struct {
	err  error
	code int16
}{
	{topics.ErrUnknown, codeUnknownTopicOrPartition},
	{topics.ErrOpening, codeNotLeaderOrFollower}, // clients ask again; LEADER_NOT_AVAILABLE in a Fetch kills a Java consumer
	{topics.ErrOffline, codeKafkaStorageError},

	{partition.ErrNotLeader, codeNotLeaderOrFollower},
	{partition.ErrFenced, codeFencedLeaderEpoch},
	{partition.ErrUnknownEpoch, codeUnknownLeaderEpoch},
	{partition.ErrStaleEpoch, codeNotLeaderOrFollower},
	{partition.ErrNotEnoughReplicas, codeNotEnoughReplicas},
	{partition.ErrOutOfOrderSequence, codeOutOfOrderSequenceNumber},
	{partition.ErrInvalidProducerEpoch, codeInvalidProducerEpoch},
	{partition.ErrInvalidTxnState, codeInvalidTxnState},
	{partition.ErrCoordinatorFenced, codeTransactionCoordinatorFenced},

	{replica.ErrTimeout, codeRequestTimedOut},
	{replica.ErrBusy, codeRequestTimedOut}, // retriable, and no reason to look for another leader
	{replica.ErrClosed, codeNotLeaderOrFollower},
	{replica.ErrTooLarge, codeMessageTooLarge},

	{seglog.ErrOutOfRange, codeOffsetOutOfRange},
	{partition.ErrNoCommonEpoch, codeOffsetOutOfRange},
	{seglog.ErrFull, codeKafkaStorageError}, // as Kafka, whose directory goes offline; here the next retry may succeed
	{seglog.ErrFailed, codeKafkaStorageError},
	{seglog.ErrCorrupt, codeKafkaStorageError},
	{seglog.ErrClosed, codeNotLeaderOrFollower},
	{seglog.ErrInvalid, codeCorruptMessage},

	{batch.ErrMagic, codeUnsupportedForMessageFormat},
	{batch.ErrTooLarge, codeMessageTooLarge},
	{batch.ErrInvalid, codeInvalidRecord},
	{batch.ErrCodec, codeCorruptMessage},
	{batch.ErrTruncated, codeCorruptMessage},
	{batch.ErrCorrupt, codeCorruptMessage},

	{catalog.ErrNotLeader, codeNotController},
	{catalog.ErrNoQuorum, codeRequestTimedOut},
	{catalog.ErrBusy, codeRequestTimedOut},
	{catalog.ErrUncertain, codeRequestTimedOut},
	{catalog.ErrFull, codePolicyViolation},
	{catalog.ErrClosed, codeBrokerNotAvailable},

	{context.DeadlineExceeded, codeRequestTimedOut},
	{context.Canceled, codeNotLeaderOrFollower}, // the box stops, or nobody reads the answer
}

// codeOf finds the code of an error: 0 for nil, the code of one of kerr's errors, that of the table. An error that no
// table knows is UNKNOWN_SERVER_ERROR and logged, once for each text.
func (s *Server) codeOf(err error) int16 {
	if err == nil {
		return codeNone
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Code
	}
	for i := range errorCodes {
		if errors.Is(err, errorCodes[i].err) {
			return errorCodes[i].code
		}
	}
	if s.unknownErrors.first(err.Error()) {
		s.log.Error("error that has no Kafka code", "err", err)
	}
	return codeUnknownServerError
}

// errorLog remembers which errors have been logged, so that a loop of failing requests does not fill the log.
type errorLog struct {
	mu   sync.Mutex // protects seen
	seen map[string]struct{}
}

// errorLogMax bounds the texts that are remembered; beyond it nothing new is logged.
const errorLogMax = 256

func (l *errorLog) first(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.seen[text]; ok || len(l.seen) >= errorLogMax {
		return false
	}
	if l.seen == nil {
		l.seen = map[string]struct{}{}
	}
	l.seen[text] = struct{}{}
	return true
}
