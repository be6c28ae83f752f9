package replica

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
)

// Errors of this room; those of partition, seglog and batch pass through it.
var (
	// ErrClosed means that the partition is not open here any more: it was deleted, or the box stops.
	ErrClosed = errors.New("partition closed")
	// ErrTimeout means that an append is in the log but was not acknowledged within the time that its producer gave.
	ErrTimeout = errors.New("not acknowledged in time")
	// ErrBusy means that the owner's queue is full; the caller tries again later.
	ErrBusy = errors.New("partition owner is busy")
	// ErrTooLarge means a batch longer than max.message.bytes.
	ErrTooLarge = errors.New("batch longer than max.message.bytes")
)

// Any is the expected leader epoch of a caller that takes whatever there is.
const Any int32 = -1

// AppendRequest is one append on its way. It belongs to the replica from Append until Done.
type AppendRequest struct {
	// Batch is one or more whole batches of format v2; base offset and leader epoch are stamped into them. CRC and
	// records have been checked. The memory must stay untouched until Done.
	Batch []byte
	// Acks is Kafka's: 0 answers after the append, 1 and -1 after the flush (or, with Durability Replicated, after the
	// append), -1 also asks for the minimum of in-sync replicas.
	Acks int16
	// ExpectedEpoch is the leader epoch in which alone the append makes sense, or Any.
	ExpectedEpoch int32
	// Internal is set by coordinators: control batches and internal topics are allowed.
	Internal bool
	// Timeout after which a parked append is answered with ErrTimeout although it stays in the log; 0 means a minute.
	Timeout time.Duration
	// Done is called exactly once, on the owner's goroutine; it must not block.
	Done func(*AppendRequest)

	// Result, set before Done.
	Err        error
	BaseOffset int64 // of the first record; of the original one for a retry that was already in the log
	// LogAppendTime is the time that the leader stamped, in milliseconds, or -1.
	LogAppendTime int64
	LogStart      int64

	end      int64 // offset after the last record; the high watermark at which the request is answered
	deadline time.Duration
}

func (a *AppendRequest) finish(err error) {
	a.Err = err
	if err != nil {
		a.BaseOffset = -1
	}
	a.Done(a)
}

// Replica is the handle of one partition on this box. Its methods may be called from any goroutine.
type Replica struct {
	tp      seglog.TopicPartition
	topicID seglog.ID
	shard   *shard
	view    atomic.Pointer[View]
	counts  counts

	own owned // the shard's
}

// owned is the part of a Replica that only its shard touches.
type owned struct {
	log       *seglog.Log
	state     partition.State
	config    *Config
	err       error            // why the partition is unusable
	incoming  []*AppendRequest // of the present step, not yet written
	parked    parked           // with acks=all: until the high watermark has passed them
	written   parked           // with acks=1: until they are on stable storage here
	waiters   []*Waiter
	vouched   int64 // of a follower: told last, in vouchedIn
	vouchedIn int32 // noEpoch: nothing was told yet
	leadStart int64 // where the leader's log begins, as this follower was told last in the present epoch; -1: it was not
	following int   // checkpoints under way that a start of the leader's is to be in
	startDue  bool  // the start is not known to be in a checkpoint that is durable: one found no room, or the log let go by itself
	starts    []*startWaiter
	flushing  bool
	behind    bool // it follows and is not in sync: nobody waits for its flushes
	touched   bool // in shard.touched
	active    bool // in shard.active
	idle      int  // ticks since the last append
	unnamed   bool // high watermark moved since the last checkpoint
	changed   bool // view must be published
}

// counts are what went through a replica since this box opened it, and how far the others are behind.
type counts struct{ appendedBytes, appendedRecords, readBytes, lag atomic.Int64 }

// Counts are a partition's figures.
type Counts struct {
	// AppendedBytes and AppendedRecords are what producers and coordinators appended here, ReadBytes what consumers were sent.
	AppendedBytes, AppendedRecords, ReadBytes int64
	// Lag is how many records the follower furthest behind lacks; 0 where this box does not lead.
	Lag int64
}

// Counts are read without the owner.
func (r *Replica) Counts() Counts {
	c := &r.counts
	return Counts{c.appendedBytes.Load(), c.appendedRecords.Load(), c.readBytes.Load(), c.lag.Load()}
}

// Sent counts what a consumer is sent.
func (r *Replica) Sent(bytes int) { r.counts.readBytes.Add(int64(bytes)) }

// noEpoch is before the first leader epoch, which is 0.
const noEpoch int32 = -1

// TopicPartition names the partition.
func (r *Replica) TopicPartition() seglog.TopicPartition { return r.tp }

// TopicID is the topic's id.
func (r *Replica) TopicID() seglog.ID { return r.topicID }

// View is the present state. It is never nil.
func (r *Replica) View() *View { return r.view.Load() }

// Append hands an append over. It waits while the owner's queue is full and is meant for connection goroutines; the
// outcome, a refusal included, comes through a.Done.
func (r *Replica) Append(ctx context.Context, a *AppendRequest) {
	if err := r.shard.box.Put(ctx, message{kind: msgAppend, replica: r, append: a}); err != nil {
		a.finish(closedError(err))
	}
}

// TryAppend is Append for owners, who must not wait: a full queue is ErrBusy through a.Done, on the caller's goroutine.
func (r *Replica) TryAppend(a *AppendRequest) {
	if err := r.shard.box.Send(message{kind: msgAppend, replica: r, append: a}); err != nil {
		a.finish(closedError(err))
	}
}

// Await parks w until the view is no longer as seen was. If it has already moved, w is woken at once.
func (r *Replica) Await(ctx context.Context, seen *View, w *Waiter) {
	if w.news(r.View(), seen) || r.shard.box.Put(ctx, message{kind: msgAwait, replica: r, seen: seen, waiter: w}) != nil {
		w.fire()
	}
}

// DeleteRecords raises the log's start to offset, -1 for the high watermark. done is called once, on the owner's
// goroutine, when the new start is on stable storage. Errors: seglog.ErrOutOfRange, partition.ErrNotLeader, ErrClosed.
func (r *Replica) DeleteRecords(ctx context.Context, offset int64, done func(logStart int64, err error)) {
	m := message{kind: msgDeleteRecords, replica: r, offset: offset, deleted: done}
	if err := r.shard.box.Put(ctx, m); err != nil {
		done(-1, closedError(err))
	}
}

// AwaitStart calls done once nothing before offset is readable here and that is on stable storage, or with the error for which it will not
// be: on any goroutine; done must not block. When ctx ends first done may never be called.
func (r *Replica) AwaitStart(ctx context.Context, offset int64, done func(error)) {
	if err := r.shard.box.Put(ctx, message{kind: msgAwaitStart, replica: r, start: &startWaiter{ctx, offset, done}}); err != nil {
		done(closedError(err))
	}
}

// Producers calls f with the producers that the partition knows, on the owner's goroutine; f copies what it needs and
// must not block. A nil argument with an error means that the partition is not open.
func (r *Replica) Producers(ctx context.Context, f func(*partition.Producers, error)) {
	if err := r.shard.box.Put(ctx, message{kind: msgProducers, replica: r, producers: f}); err != nil {
		f(nil, closedError(err))
	}
}

// PostProducers is Producers for owners, who must not wait.
func (r *Replica) PostProducers(f func(*partition.Producers, error)) {
	r.shard.box.Post(message{kind: msgProducers, replica: r, producers: f})
}

// Replace puts a segment that compaction has made in the place of those that it was made from. done is called once, on the
// owner's goroutine; the errors are those of seglog's Replace, and ErrClosed.
func (r *Replica) Replace(w *seglog.Rewrite, done func(error)) {
	r.shard.box.Post(message{kind: msgReplace, replica: r, rewrite: w, closed: done})
}

// Compacted notes that the log, as v shows it, is compacted before offset, for the next checkpoint. done is called once, on the owner's
// goroutine; the errors are those of seglog's SetCleaned, and ErrClosed.
func (r *Replica) Compacted(v seglog.View, offset int64, done func(error)) {
	r.shard.box.Post(message{kind: msgCompacted, replica: r, compacted: &v, offset: offset, closed: done})
}

// Lead makes this box the leader in epoch, of the replicas that m names. Repeated in the same epoch it takes the newer m.
// done is called once; partition.ErrStaleEpoch
// says that the log holds that epoch already, and logEpoch above which one the controller must go.
func (r *Replica) Lead(epoch int32, m partition.Membership, done func(logEpoch int32, err error)) {
	r.shard.box.Post(message{kind: msgLead, replica: r, epoch: epoch, membership: &m, led: done})
}

// Resign ends this box's leadership; epoch is the new leader's, or -1.
func (r *Replica) Resign(epoch int32) {
	r.shard.box.Post(message{kind: msgResign, replica: r, epoch: epoch})
}

// Copy appends what the leader answered to the log of a follower, or cuts the log where the two part.
func (r *Replica) Copy(c *CopyRequest) {
	r.shard.box.Post(message{kind: msgCopy, replica: r, copy: c})
}

// Vouch notes that a follower has everything before offset on stable storage, of the log that this box leads in epoch.
func (r *Replica) Vouch(m partition.Member, epoch int32, offset int64) {
	r.shard.box.Post(message{kind: msgVouch, replica: r, member: m, epoch: epoch, offset: offset})
}

// SetConfig changes the settings, effective from the next append on.
func (r *Replica) SetConfig(c *Config) {
	r.shard.box.Post(message{kind: msgConfig, replica: r, config: c})
}

// Retain applies retention by time and size. goodClock says that the wall clock is known to be right; without it time
// removes nothing. done gets what was removed.
func (r *Replica) Retain(goodClock bool, done func(seglog.Removed, error)) {
	r.shard.box.Post(message{kind: msgRetain, replica: r, good: goodClock, removed: done})
}

// Trim removes whole segments before offset for the device's budget.
func (r *Replica) Trim(offset int64, done func(seglog.Removed, error)) {
	r.shard.box.Post(message{kind: msgTrim, replica: r, offset: offset, removed: done})
}

// Close ends the partition here: parked appends are answered with ErrClosed, waiters woken, the log closed cleanly, or
// deleted. done is called once.
func (r *Replica) Close(remove bool, done func(error)) {
	r.shard.box.Post(message{kind: msgClose, replica: r, good: remove, closed: done})
}
