package coordinator

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// appendTimeout is how long an append may wait for its replicas (offsets.commit.timeout.ms).
const appendTimeout = 5 * time.Second

// ReplicaLog is the Log of a replica on this box.
func ReplicaLog(r *replica.Replica) Log { return replicaLog{r} }

type replicaLog struct{ r *replica.Replica }

func (l replicaLog) View(epoch int32) (View, error) {
	v := l.r.View()
	switch {
	case v.Err != nil:
		return View{}, asLogError(v.Err)
	case !v.Leader || v.LeaderEpoch != epoch:
		return View{}, fmt.Errorf("%w: epoch %d, the partition is in %d", ErrNotLeader, epoch, v.LeaderEpoch)
	}
	return View{Start: v.Start, End: v.End, Committed: v.HighWatermark}, nil
}

func (l replicaLog) Read(offset int64, bytesMax int, buf []byte) ([]byte, error) {
	span, err := l.r.View().Log.Read(offset, bytesMax, math.MaxInt64, true)
	if err != nil {
		return nil, asLogError(err)
	}
	defer span.Release()
	if span.Length == 0 {
		return buf[:0], nil
	}
	buf = slices.Grow(buf[:0], span.Length)[:span.Length]
	n, err := span.File.ReadAt(buf, span.Position)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %v at offset %d: %w", l.r.TopicPartition(), offset, err)
	}
	return buf[:n], nil
}

func (l replicaLog) Append(batches []byte, epoch int32, done func(error)) {
	l.r.TryAppend(&replica.AppendRequest{
		Batch: batches, Acks: -1, ExpectedEpoch: epoch, Internal: true, Timeout: appendTimeout,
		Done: func(a *replica.AppendRequest) { done(asLogError(a.Err)) },
	})
}

// asLogError makes ErrNotLeader of everything that says so.
func asLogError(err error) error {
	for _, gone := range []error{
		partition.ErrNotLeader, partition.ErrFenced, partition.ErrUnknownEpoch, partition.ErrStaleEpoch,
		replica.ErrClosed, seglog.ErrClosed, seglog.ErrFailed,
	} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
	}
	return err
}
