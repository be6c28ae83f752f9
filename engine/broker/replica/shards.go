package replica

import (
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

// ShardsConfig are the bounds of a box's shards.
type ShardsConfig struct {
	// Count of shards: a few for each CPU.
	Count int
	// QueueMax bounds the messages that wait at one shard.
	QueueMax int
	// StageBytesMax bounds the bytes of appends that are gathered into one write.
	StageBytesMax int
	// WaitersMax bounds the long polls that wait at one partition; the oldest is woken early beyond it.
	WaitersMax int

	bugs bugs // see WithBug
}

// Deps is the outside of the shards.
type Deps struct {
	Runtime  mailbox.Runtime
	Observer *observe.Observer
	// Moved is called, on a shard's goroutine, when high watermarks have moved since the last checkpoint; it only posts.
	Moved func()
	// Failed is called, on a shard's goroutine, when a replica has become unusable; it only posts. It may be nil.
	Failed func(r *Replica)
	// Vouched is called, on a shard's goroutine, when a follower may vouch for more (View.Vouches); it only posts. Propose asks the controller for another ISR, without the leader, on top of the
	// partition epoch, and calls done once: written is false where the controller has refused it; where nobody knows, done
	// is not called, and the catalog says what came of it. Both may be nil.
	Vouched func(r *Replica)
	Propose func(r *Replica, epoch, partitionEpoch int32, isr []partition.Member, done func(written bool))
	// LagMax is replica.lag.time.max.ms: how long a follower may be behind and stay in sync. Default 30 s.
	LagMax time.Duration
}

// Shards are the owners of all partitions of a box.
type Shards struct {
	shards []*shard
}

// NewShards starts the shards.
func NewShards(cfg ShardsConfig, deps Deps) *Shards {
	if deps.LagMax <= 0 {
		deps.LagMax = 30 * time.Second
	}
	s := &Shards{}
	for i := range max(cfg.Count, 1) {
		s.shards = append(s.shards, newShard(i, cfg, deps))
	}
	return s
}

// Close ends the shards after the topics room has closed every replica.
func (s *Shards) Close() {
	for _, sh := range s.shards {
		sh.box.Close()
	}
}

// Open makes a replica of an open log: it reads the producers' state and follows the log behind it, which may block on
// the disk; call it off any owner. The replica leads nothing yet.
func (s *Shards) Open(log *seglog.Log, highWatermark int64, cfg *Config) (*Replica, error) {
	r := &Replica{tp: log.TopicPartition(), topicID: log.TopicID()}
	r.shard = s.shards[s.pick(r.tp)]
	r.own.log, r.own.config, r.own.vouchedIn = log, cfg, noEpoch
	view := log.View()
	r.own.leadStart = -1
	r.own.state.Open(view.StartOffset(), view.EndOffset(), view.LatestEpoch(), highWatermark)
	r.own.state.SetDurability(cfg.Durability)
	log.KeepState(func() []byte { return r.own.state.Producers.MarshalSnapshot(nil) })
	if err := loadProducers(&r.own.state.Producers, log, anyRow); err != nil {
		return nil, fmt.Errorf("open %s-%d: %w", r.tp.Topic, r.tp.Partition, err)
	}
	// What ended below the high watermark is decided; the next append may be long in coming.
	r.own.state.Producers.PassedHighWatermark(r.own.state.HighWatermark())
	r.publish()
	return r, nil
}

// pick spreads partitions: those of one topic go to different shards. A partition has the same shard in every run, so
// that a trace replays.
func (s *Shards) pick(tp seglog.TopicPartition) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tp.Topic)) // never fails
	return int((uint64(h.Sum32()) + uint64(tp.Partition)) % uint64(len(s.shards)))
}

// anyRow of the transaction index may be missing.
const anyRow int64 = -1

// loadProducers rebuilds the producers' state: the newest snapshot that can be read, and the batches after it. A snapshot from before the
// log's first segment is of no use: what lay between may have gone on with a sequence, or ended a transaction, and producers that are not
// known may begin anywhere (Kafka: ProducerStateManager.truncateAndReload).
//
// It also brings the transaction index up to what those batches say: it lacks the rows of markers from lacks on, or any, which a crash or a
// cut may have taken. Readers of the log would miss rows while they are written anew.
func loadProducers(p *partition.Producers, log *seglog.Log, lacks int64) error {
	view := log.View()
	from := view.FirstOffset() // a transaction that begins before the start may end there, too
	atMost := view.EndOffset()
	for {
		offset, blob, ok, err := log.ProducerState(atMost)
		if err != nil {
			return err
		}
		if !ok || offset < from {
			*p = partition.Producers{}
			break
		}
		err = p.UnmarshalSnapshot(blob)
		if err == nil {
			from = offset
			break
		}
		if !errors.Is(err, partition.ErrSnapshot) {
			return err
		}
		if offset == 0 {
			break // torn by a crash; there is nothing before it, the log alone gives the state
		}
		atMost = offset - 1 // an older snapshot and more of the log give the same state
	}
	if lacks == anyRow {
		if err := log.ResetAborted(from); err != nil {
			return err
		}
	}
	return view.Scan(from, view.EndOffset(), func(h *batch.Header, control []byte) error {
		if row, ok := note(p, h, control); ok && h.BaseOffset >= lacks {
			return log.AppendAborted(seglog.AbortedTxn(row))
		}
		return nil
	})
}

// note tells the producers' state of a batch that is in the log. It returns the row for the transaction index of a
// marker that aborted something.
func note(p *partition.Producers, h *batch.Header, control []byte) (partition.Aborted, bool) {
	if control == nil {
		p.Appended(h)
		return partition.Aborted{}, false
	}
	marker, err := batch.ReadMarker(h, control)
	if err != nil || marker.Type != batch.Commit && marker.Type != batch.Abort {
		return partition.Aborted{}, false // another control record, such as a leader change: no producer's
	}
	return p.Marked(h, marker.Type == batch.Commit, marker.CoordinatorEpoch)
}
