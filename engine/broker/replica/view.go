package replica

import (
	"sync/atomic"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
)

// Config are the settings of one partition, as its topic has them now. A Config is immutable once given.
type Config struct {
	Log seglog.Config
	// Durability says when a record counts as acknowledged (cairn.durability).
	Durability partition.Durability
	// InSyncMin is min.insync.replicas; appends with acks=all are refused with fewer replicas in sync, and with fewer than the
	// partition's membership says.
	InSyncMin int
	// BatchBytesMax is max.message.bytes, the greatest batch in bytes, as compressed by its producer.
	BatchBytesMax int
	// Compact says that cleanup.policy has compact: records without a key are refused.
	Compact bool
	// LogAppendTime says that the leader's clock, not the producer's, gives the timestamps.
	LogAppendTime bool
	// TimestampBefore and TimestampAfter bound how far a producer's timestamps may lie from the leader's clock
	// (message.timestamp.before.max.ms, message.timestamp.after.max.ms); negative means no bound.
	TimestampBefore, TimestampAfter time.Duration
	// ProducerExpiration is how long a silent producer id is remembered (producer.id.expiration.ms).
	ProducerExpiration time.Duration
	// ProducersMax bounds the producer ids of a partition; the longest silent one goes.
	ProducersMax int
	// Internal marks a topic that only coordinators write.
	Internal bool
}

// View is what a partition's owner has published: immutable, one instant.
type View struct {
	// Err, when set, says why the partition cannot be used: its log directory has failed, or it was closed.
	Err error
	// Leader says whether this box leads; LeaderEpoch is the present epoch, -1 before the first.
	Leader      bool
	LeaderEpoch int32
	// PartitionEpoch is that of the catalog's state which this leader has seen.
	PartitionEpoch int32
	// InSync is the number of replicas in sync, this one included.
	InSync int
	// Vouches is the offset before which this follower has everything of its leader's log, of LeaderEpoch, on stable storage;
	// -1 while the logs are not known to agree, and of a leader.
	Vouches int64
	// LeadStart is where the leader's log begins, as this follower was told last in LeaderEpoch; -1 where it was not.
	LeadStart int64
	// Start <= LastStable <= HighWatermark <= End.
	Start, LastStable, HighWatermark, End int64
	// Log reads the bytes.
	Log    seglog.View
	Config *Config
}

// moved reports whether somebody who has seen old has something new to look at.
func (v *View) moved(old *View) bool {
	return v.HighWatermark != old.HighWatermark || v.LastStable != old.LastStable || v.LeaderEpoch != old.LeaderEpoch ||
		v.Leader != old.Leader || v.Err != old.Err || v.Start != old.Start
}

// CheckEpoch compares the leader epoch that somebody knows, -1 for any, with the present one (KIP-320): partition.ErrFenced,
// partition.ErrUnknownEpoch.
func (v *View) CheckEpoch(known int32) error {
	switch {
	case known < 0 || known == v.LeaderEpoch:
		return nil
	case known < v.LeaderEpoch:
		return partition.ErrFenced
	}
	return partition.ErrUnknownEpoch
}

// Diverging says where this log and one part that goes to offset with a last record of epoch last; nil where it is a beginning
// of this one (KIP-595). partition.ErrNoCommonEpoch: this log knows no such epoch.
func (v *View) Diverging(last int32, offset int64) (*partition.EpochEnd, error) {
	epoch, end := v.Log.EpochEnd(last)
	switch {
	case epoch < 0 || end < 0:
		return nil, partition.ErrNoCommonEpoch
	case epoch < last || end < offset:
		return &partition.EpochEnd{Epoch: epoch, End: end}, nil
	}
	return nil, nil
}

// news reports whether somebody who waits has something new to look at.
func (w *Waiter) news(v, old *View) bool {
	if !w.follower {
		return v.moved(old)
	}
	if v.End != old.End || v.Start != old.Start || v.LeaderEpoch != old.LeaderEpoch || v.Leader != old.Leader || v.Err != old.Err {
		return true
	}
	if w.heard != nil && !w.over.Load() && v.moved(old) {
		w.heard()
	}
	return false
}

// Waiter is one long poll, parked at one or more partitions. The first of them that moves wakes it, once.
type Waiter struct {
	over     atomic.Bool
	follower bool // waits for the log's end, and not for the high watermark
	wake     func()
	heard    func() // of a watcher: something else has moved
}

// NewWaiter returns a waiter that calls wake at most once, from any goroutine; wake must not block.
func NewWaiter(wake func()) *Waiter { return &Waiter{wake: wake} }

// NewFollowerWaiter returns one for a follower, which is woken by whatever is appended, acknowledged or not, and when the log's start
// moves: whoever has asked for a deletion waits for it.
func NewFollowerWaiter(wake func()) *Waiter { return &Waiter{wake: wake, follower: true} }

// NewFollowerWatcher returns a follower's waiter that also calls heard, as often as it happens and without being woken by it, when
// something else moves that a follower is told: the high watermark. Neither may block.
func NewFollowerWatcher(wake, heard func()) *Waiter {
	return &Waiter{wake: wake, heard: heard, follower: true}
}

// Cancel ends the wait. It reports false when wake has been or is being called.
func (w *Waiter) Cancel() bool { return w.over.CompareAndSwap(false, true) }

func (w *Waiter) fire() {
	if w.over.CompareAndSwap(false, true) {
		w.wake()
	}
}
