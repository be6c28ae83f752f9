package partition

import (
	"errors"
	"fmt"
	"time"

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
	// followers is what a leader knows of the other replicas; epochStart is where its log ended when it began to lead.
	followers  followers
	epochStart int64
	// matched says that a follower's log is known to be the beginning of its leader's, in the present epoch; leaderHW is
	// the highest high watermark that it was told of.
	matched  bool
	leaderHW int64
	// promised is the high watermark that Replicated left behind when the topic went to Flushed: flushed may lag behind
	// it until the flushes of that time have come back.
	promised int64
}

// Open sets what recovery found: the log's start and end, its greatest leader epoch (-1 when empty) and the checkpointed
// high watermark. Nothing is acknowledged by it: the first flush vouches for the rest.
func (s *State) Open(start, end int64, logEpoch int32, highWatermark int64) {
	hw := min(max(highWatermark, start), end)
	s.start, s.end, s.logEpoch, s.epoch = start, end, logEpoch, -1
	s.highWatermark, s.flushed, s.promised, s.leaderHW, s.matched = hw, hw, 0, hw, false
}

// Lead makes this box the leader in epoch, of the replicas that m names. A repeated epoch of the present leadership takes
// only the newer m; one that the log already holds from before is ErrStaleEpoch.
func (s *State) Lead(epoch int32, m Membership, now time.Duration) error {
	switch {
	case s.leader && epoch == s.epoch:
		s.followers.set(m, now)
		s.advance()
		return nil
	case epoch < s.epoch:
		return fmt.Errorf("%w: epoch %d, the partition is in %d", ErrFenced, epoch, s.epoch)
	case epoch <= s.logEpoch:
		return fmt.Errorf("%w: epoch %d, the log holds %d", ErrStaleEpoch, epoch, s.logEpoch)
	}
	s.leader, s.epoch, s.epochStart, s.matched = true, epoch, s.end, false
	s.followers.begin(m, now)
	s.advance()
	return nil
}

// ForgetEpoch forgets which epoch the log holds, so that the box may lead in it again. Nothing but a bug on purpose asks for it.
func (s *State) ForgetEpoch() { s.logEpoch = -1 }

// Resign ends this box's leadership: it follows, or waits for somebody to follow. epoch is that of the new leader, or the
// present one where none is known.
func (s *State) Resign(epoch int32) {
	if s.leader || epoch > s.epoch {
		s.matched, s.leaderHW = false, s.highWatermark
	}
	s.leader, s.epoch, s.followers = false, max(s.epoch, epoch), followers{}
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

// Appended notes that a leader's log ends at end now and that its last batches carry the present epoch.
func (s *State) Appended(end int64, now time.Duration) {
	s.followers.grows(s.end, now)
	s.end = end
	s.logEpoch = max(s.logEpoch, s.epoch)
	s.advance()
}

// Vouch notes that a follower has everything before offset of this leader's log on stable storage (with Replicated, in its
// page cache). It alone acknowledges something in the name of the follower; where it fetches does not. It reports whether
// the high watermark moved.
func (s *State) Vouch(m Member, epoch int32, offset int64, now time.Duration) (bool, error) {
	if err := s.CheckEpoch(epoch); err != nil {
		return false, err
	}
	return s.followers.vouch(m, offset, s.end, now) && s.advance(), nil
}

// ProposeInSync decides on a change of the ISR; see followers.propose. lagMax is replica.lag.time.max.ms.
func (s *State) ProposeInSync(now, lagMax time.Duration) (isr []Member, ok bool) {
	if !s.leader {
		return nil, false
	}
	return s.followers.propose(s.highWatermark, s.epochStart, s.end, now, lagMax)
}

// Waits reports whether this leader waits for a replica in sync, which has not vouched for all of its log in this epoch: ProposeInSync is to be
// asked again, for time alone makes it late. It does not while a change of the ISR is on its way: what comes of that is heard.
func (s *State) Waits() bool { return s.leader && s.followers.waits(s.end) }

// InSyncRefused says that the controller has refused the last proposal, and has not written it. Where nobody knows, it
// must not be called: the catalog shows what came of it.
func (s *State) InSyncRefused() {
	s.followers.settle()
	s.advance()
}

// Lag is how many records the follower furthest behind lacks, or has not vouched for yet; 0 of a follower.
func (s *State) Lag() int64 {
	if !s.leader {
		return 0
	}
	return s.followers.lag(s.start, s.end)
}

// PartitionEpoch is that of the catalog's state which this leader has seen.
func (s *State) PartitionEpoch() int32 { return s.followers.epoch }

// InSync is how many replicas are in sync, as the catalog has it; of a leader.
func (s *State) InSync() int { return s.followers.inSync }

// InSyncMin is how many must be, by its membership; of a leader.
func (s *State) InSyncMin() int { return s.followers.min }

// Fetched notes what a follower learns from an answer of its leader, which has found the follower's log to be a beginning
// of its own. It reports whether the high watermark moved.
func (s *State) Fetched(leaderHighWatermark int64) bool {
	if s.leader {
		return false
	}
	s.matched, s.leaderHW = true, max(s.leaderHW, leaderHighWatermark)
	return s.advance()
}

// Copied notes that a follower has appended batches of its leader: the log ends at end, in logEpoch.
func (s *State) Copied(end int64, logEpoch int32) {
	s.end, s.logEpoch = end, max(s.logEpoch, logEpoch)
	s.advance()
}

// Truncated notes that a follower has cut its log, which ends at end in logEpoch now. What was acknowledged goes only with
// an unclean election. A log that is cut below its start begins where it is cut (UnifiedLog.truncateTo), for what comes next is its
// leader's, and is there.
func (s *State) Truncated(end int64, logEpoch int32) {
	s.end, s.logEpoch = min(s.end, end), logEpoch
	s.start = min(s.start, s.end)
	s.flushed, s.highWatermark = min(s.flushed, s.end), min(s.highWatermark, s.end)
	s.leaderHW, s.matched = s.highWatermark, false
}

// StartedAnew notes that a follower's log was emptied and begins at offset, durably, where its leader's log begins: what the follower
// had is not there any more.
func (s *State) StartedAnew(offset int64) {
	s.start, s.end, s.flushed, s.highWatermark, s.logEpoch = offset, offset, offset, offset, -1
	s.leaderHW, s.matched = offset, false
}

// Vouches is the offset before which this follower has everything of its leader's log on stable storage (with Replicated, at
// all), to be told to the leader of the present epoch. ok is false before the logs were found to agree.
func (s *State) Vouches() (offset int64, ok bool) { return s.Own(), s.matched && !s.leader }

// Own is how far this replica's own copy counts: to what is flushed, or, with Replicated, to its end. It answers acks=1.
func (s *State) Own() int64 {
	if s.durability == Replicated {
		return s.end
	}
	return s.flushed
}

// FlushedTo notes that everything before offset is on stable storage. It reports whether the high watermark moved.
func (s *State) FlushedTo(offset int64) bool {
	s.flushed = max(s.flushed, min(offset, s.end))
	return s.advance()
}

// advance moves the high watermark: a leader's to what all that are in sync vouch for, a follower's to the leader's as far
// as its own copy goes.
func (s *State) advance() bool {
	to := min(s.Own(), s.leaderHW)
	if s.leader {
		if !s.followers.enough() {
			return false
		}
		to = min(s.Own(), s.followers.bound())
	}
	if to <= s.highWatermark {
		return false
	}
	s.highWatermark = to
	s.Producers.PassedHighWatermark(to)
	return true
}

// StartMoved notes that records before start are gone, by retention or DeleteRecords: of those that are acknowledged. It does not move the end, nor
// the high watermark: a start beyond them is a bug, which CheckInvariants finds.
func (s *State) StartMoved(start int64) {
	s.start = max(s.start, start)
	s.flushed = max(s.flushed, min(s.start, s.end))
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
		(s.durability == Replicated || s.highWatermark <= max(s.flushed, s.promised)) && (!s.leader && !s.matched || s.epoch >= s.logEpoch)
	return invariant.Check(ok, "partition: start %d, high watermark %d, flushed %d, end %d, leader %v, epoch %d, log epoch %d",
		s.start, s.highWatermark, s.flushed, s.end, s.leader, s.epoch, s.logEpoch)
}

// EpochEnd is where a leader epoch ends in a log: Kafka's answer to OffsetForLeaderEpoch, and its diverging epoch in Fetch.
// -1 stands for what is not known.
type EpochEnd struct {
	Epoch int32
	End   int64
}

// ErrNoCommonEpoch means that a leader's answer does not say where two logs part. A follower then cuts nothing.
var ErrNoCommonEpoch = errors.New("the leader does not know where the logs part")

// TruncationPoint is where a follower cuts a log that ends at end, after its leader has answered where the epochs of the two
// logs part (KIP-279; AbstractFetcherThread.getOffsetTruncationState). endOf is the follower's own log: the greatest epoch
// at or below the given one, and where it ends. The next fetch shows whether that was far enough. Kafka cuts down to the
// follower's high watermark where the leader knows no epoch, which loses what was acknowledged since the follower heard of
// it last (KIP-101); a leader of ours always knows its own epoch, and it is an error.
func TruncationPoint(leader EpochEnd, endOf func(epoch int32) EpochEnd, end int64) (int64, error) {
	if leader.Epoch < 0 || leader.End < 0 {
		return end, fmt.Errorf("%w: epoch %d, offset %d", ErrNoCommonEpoch, leader.Epoch, leader.End)
	}
	own := endOf(leader.Epoch)
	switch {
	case own.End < 0:
		return min(leader.End, end), nil
	case own.Epoch != leader.Epoch: // the epoch that the leader names is not known here: back to the last that may be common
		return min(own.End, end), nil
	}
	return min(own.End, leader.End, end), nil
}
