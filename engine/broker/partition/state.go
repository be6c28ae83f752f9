package partition

import (
	"errors"
	"fmt"

	"cairn/engine/broker/batch"
	"cairn/engine/invariant"
)

// Errors of the rules for leaders.
var (
	// ErrNotLeader means that this box does not lead the partition.
	ErrNotLeader = errors.New("not the leader of the partition")
	// ErrFenced means that the caller expects an older leader epoch than the present one.
	ErrFenced = errors.New("leader epoch is older than the partition's")
	// ErrUnknownEpoch means that the caller knows a newer leader epoch than this box.
	ErrUnknownEpoch = errors.New("leader epoch is newer than the partition's")
	// ErrStaleEpoch means that the controller gave a leader epoch that the log already holds: a box that starts leads
	// nothing until the epoch is above every epoch in its log.
	ErrStaleEpoch = errors.New("leader epoch is not above the log's")
	// ErrNotEnoughReplicas means that fewer replicas are in sync than min.insync.replicas asks for.
	ErrNotEnoughReplicas = errors.New("not enough in-sync replicas")
)

// Durability says when a record counts as acknowledged.
type Durability uint8

const (
	// Flushed: after fdatasync on every in-sync replica. cairn's default.
	Flushed Durability = iota
	// Replicated: once it is in the page cache of every in-sync replica, which is Kafka's own rule
	// (cairn.durability=replicated). A power cut of all of them loses acknowledged records.
	Replicated
)

// State is one partition as its box knows it. The zero value is an empty partition without a leader; Open sets it to
// what recovery found.
type State struct {
	Producers Producers

	leader     bool
	epoch      int32 // the present leader epoch, -1 before any
	logEpoch   int32 // the greatest epoch in the log, -1 for an empty log
	durability Durability

	// start <= highWatermark <= flushed <= end (highWatermark <= end with Replicated). See CheckInvariants.
	start, highWatermark, flushed, end int64
	// promised is the high watermark that Replicated left behind when the topic went to Flushed: flushed may lag behind
	// it until the flushes of that time have come back.
	promised int64
}

// Open sets what recovery found: the log's start and end, its greatest leader epoch (-1 when empty) and the checkpointed
// high watermark. Nothing is acknowledged by it: the first flush vouches for the rest.
func (s *State) Open(start, end int64, logEpoch int32, highWatermark int64) {
	hw := min(max(highWatermark, start), end)
	s.start, s.end, s.logEpoch, s.epoch = start, end, logEpoch, -1
	s.highWatermark, s.flushed, s.promised = hw, hw, 0
}

// Lead makes this box the leader in epoch. A repeated epoch of the present leadership changes nothing; one that the
// log already holds from before is ErrStaleEpoch.
func (s *State) Lead(epoch int32) error {
	switch {
	case s.leader && epoch == s.epoch:
		return nil
	case epoch < s.epoch:
		return fmt.Errorf("%w: epoch %d, the partition is in %d", ErrFenced, epoch, s.epoch)
	case epoch <= s.logEpoch:
		return fmt.Errorf("%w: epoch %d, the log holds %d", ErrStaleEpoch, epoch, s.logEpoch)
	}
	s.leader, s.epoch = true, epoch
	return nil
}

// Resign ends this box's leadership; epoch is that of the new leader, or the present one where none is known.
func (s *State) Resign(epoch int32) {
	s.leader, s.epoch = false, max(s.epoch, epoch)
}

// SetDurability changes when records count. Going from Replicated to Flushed never takes back a high watermark.
func (s *State) SetDurability(d Durability) {
	if s.durability == Replicated && d == Flushed {
		s.promised = s.highWatermark
	}
	s.durability = d
	s.advance()
}

// CheckEpoch compares the leader epoch that a request expects (-1: any) with the present one (KIP-320).
func (s *State) CheckEpoch(expected int32) error {
	switch {
	case expected >= 0 && expected < s.epoch:
		return fmt.Errorf("%w: %d, the partition is in %d", ErrFenced, expected, s.epoch)
	case expected > s.epoch:
		return fmt.Errorf("%w: %d, the partition is in %d", ErrUnknownEpoch, expected, s.epoch)
	case !s.leader:
		return ErrNotLeader
	}
	return nil
}

// Stamp readies a batch for the log: base offset and leader epoch are written into it, and h is brought up to date. The
// batch is b[:h.Size()].
func (s *State) Stamp(b []byte, h *batch.Header, at int64) {
	batch.Stamp(b, at, s.epoch)
	h.BaseOffset, h.LeaderEpoch = at, s.epoch
}

// Appended notes that the log ends at end now and that its last batches carry the present epoch.
func (s *State) Appended(end int64) {
	s.end = end
	s.logEpoch = max(s.logEpoch, s.epoch)
	s.advance()
}

// FlushedTo notes that everything before offset is on stable storage. It reports whether the high watermark moved.
func (s *State) FlushedTo(offset int64) bool {
	s.flushed = max(s.flushed, min(offset, s.end))
	return s.advance()
}

// advance moves the high watermark to what this single replica vouches for.
func (s *State) advance() bool {
	to := s.flushed
	if s.durability == Replicated {
		to = s.end
	}
	if to <= s.highWatermark {
		return false
	}
	s.highWatermark = to
	s.Producers.PassedHighWatermark(to)
	return true
}

// StartMoved notes that records before start are gone, by retention or DeleteRecords.
func (s *State) StartMoved(start int64) {
	s.start = max(s.start, start)
	s.end = max(s.end, s.start)
	s.flushed = max(s.flushed, s.start)
	s.highWatermark = max(s.highWatermark, s.start)
	s.Producers.StartMoved(s.start)
}

// LastStable is the offset up to which a reader of committed data may read (the LSO): nothing before it is undecided.
func (s *State) LastStable() int64 {
	if first := s.Producers.FirstUnstable(); first != noOffset && first < s.highWatermark {
		return max(first, s.start)
	}
	return s.highWatermark
}

// Leader reports whether this box leads, and in which epoch the partition is.
func (s *State) Leader() (bool, int32) { return s.leader, s.epoch }

// LogEpoch is the greatest leader epoch in the log, -1 for an empty one.
func (s *State) LogEpoch() int32 { return s.logEpoch }

// Start is the first offset that is there.
func (s *State) Start() int64 { return s.start }

// End is the offset that the next record gets (the LEO).
func (s *State) End() int64 { return s.end }

// Flushed is the offset before which everything is on stable storage here.
func (s *State) Flushed() int64 { return s.flushed }

// HighWatermark is the offset before which everything is acknowledged.
func (s *State) HighWatermark() int64 { return s.highWatermark }

// CheckInvariants returns an error that wraps invariant.ErrViolated when the state contradicts itself.
func (s *State) CheckInvariants() error {
	ok := s.start <= s.highWatermark && s.highWatermark <= s.end && s.flushed <= s.end &&
		(s.durability == Replicated || s.highWatermark <= max(s.flushed, s.promised)) && (!s.leader || s.epoch >= s.logEpoch)
	return invariant.Check(ok, "partition: start %d, high watermark %d, flushed %d, end %d, leader %v, epoch %d, log epoch %d",
		s.start, s.highWatermark, s.flushed, s.end, s.leader, s.epoch, s.logEpoch)
}
