package ensemble

import (
	"fmt"
	"log/slog"
	"math"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/raftlog"
)

// storage is the tail of the log in memory, where raft reads it. The bytes on disk are raftlog's.
type storage struct {
	*raft.MemoryStorage
	bytes int64 // of the entries' data since the last compaction
	count int

	// latest is the newest snapshot on disk, which a box that lags is brought. The log in memory continues it, or it is
	// of no use: then wanted asks the owner for another.
	latest raftlog.SnapshotMeta
	wanted bool
	// sending are boxes that are being brought a snapshot.
	sending map[uint64]uint64 // the raft id of each box
	// confIndex is where the membership changed last. Raft refuses a snapshot that does not name its receiver: an older one
	// is of no use to a box that has just come.
	confIndex uint64
	// catching are members, by raft id, that are being brought a snapshot or have just taken it and are not near yet, each
	// with the index behind which the log stays for it, so that it need not be brought another one right after.
	catching map[uint64]uint64
	// awaited is the index of the snapshot that is being written, or waits to be sent, for a member that needs one: the log
	// stays behind it, or it would be of no use when it is there. nothingHeld when there is none.
	awaited uint64
	// held is the index behind which entries stay for a tree that is to come; nothingHeld when none is. The bound is the same.
	held uint64
}

const nothingHeld = math.MaxUint64

// sendingFactor bounds what stays for boxes that are brought a snapshot, as a multiple of what stays otherwise.
const sendingFactor = 4

// Snapshot implements raft.Storage: what a box gets whose next entry is not in memory any more.
func (s *storage) Snapshot() (*pb.Snapshot, error) {
	first, err := s.FirstIndex()
	if err != nil {
		return nil, err
	}
	if s.latest.Index == 0 || s.latest.Index+1 < first || s.latest.Index < s.confIndex {
		s.wanted = true
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: raftConf(s.latest.ConfState), Index: new(s.latest.Index), Term: new(s.latest.Term),
	}}, nil
}

// newStorage fills the memory from what was recovered. raft finds the membership in the snapshot that begins the log;
// changes of it that follow in the log are applied again.
func newStorage(r *raftlog.Recovered) (*storage, error) {
	s := &storage{MemoryStorage: raft.NewMemoryStorage(), sending: make(map[uint64]uint64), catching: make(map[uint64]uint64), held: nothingHeld, awaited: nothingHeld}
	s.latest = raftlog.SnapshotMeta{SnapshotID: r.Snapshot, ConfState: r.ConfState}
	begin := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: raftConf(r.ConfState), Index: new(r.Snapshot.Index), Term: new(r.Snapshot.Term),
	}}
	if err := s.ApplySnapshot(begin); err != nil {
		return nil, fmt.Errorf("hand the snapshot at index %d to raft: %w", r.Snapshot.Index, err)
	}
	hard := &pb.HardState{Term: new(r.HardState.Term), Vote: new(r.HardState.Vote), Commit: new(r.HardState.Commit)}
	if err := s.SetHardState(hard); err != nil {
		return nil, fmt.Errorf("hand the hard state to raft: %w", err)
	}
	entries := make([]*pb.Entry, len(r.Entries))
	for i := range r.Entries {
		e := &r.Entries[i]
		kind := pb.EntryType(e.Type)
		entries[i] = &pb.Entry{Index: new(e.Index), Term: new(e.Term), Type: kind.Enum(), Data: e.Data}
	}
	if err := s.add(entries); err != nil {
		return nil, err
	}
	return s, nil
}

// add appends entries; later ones replace earlier ones from their index on.
func (s *storage) add(entries []*pb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	for _, e := range entries {
		s.bytes += int64(len(e.GetData()))
	}
	s.count += len(entries)
	if err := s.Append(entries); err != nil {
		return fmt.Errorf("append %d entries from %d: %w", len(entries), entries[0].GetIndex(), err)
	}
	return nil
}

// compact lets go of applied entries once there are many. A box that is alone keeps none of them (keep is 0); with
// others, the last keep stay for followers that lag, unless they are too many bytes. Each call that does something copies
// what stays, hence the thresholds.
func (s *storage) compact(applied, keep uint64, bytesMax int64) error {
	const countMin, bytesMin = 1024, 1 << 20
	full := s.bytes > bytesMax
	switch {
	case s.count < countMin && s.bytes < bytesMin:
		return nil
	case keep > 0 && !full && uint64(s.count) < 2*keep:
		return nil
	case full:
		keep = 0
	}
	first, err := s.FirstIndex()
	to := applied - min(keep, applied)
	if held := s.heldFor(); held < to && s.bytes < sendingFactor*bytesMax {
		if to = held; to < first+uint64(s.count)/2 {
			return err // what stays is copied: not for every step that somebody has come nearer
		}
	}
	if err != nil || to < first {
		return err
	}
	if err := s.Compact(to); err != nil {
		return fmt.Errorf("compact the log in memory to %d: %w", to, err)
	}
	last, err := s.LastIndex()
	left := int(last - to)
	s.bytes, s.count = s.bytes*int64(left)/int64(max(s.count, 1)), left
	return err
}

// heldFor is the least index behind which somebody needs the log.
func (s *storage) heldFor() uint64 {
	held := min(s.held, s.awaited)
	for _, index := range s.catching {
		held = min(held, index)
	}
	return held
}

// replace begins the memory anew behind a snapshot that came from the leader.
func (s *storage) replace(m raftlog.SnapshotMeta, snapshot *pb.Snapshot) error {
	if err := s.ApplySnapshot(snapshot); err != nil {
		return fmt.Errorf("go on from the leader's snapshot at index %d: %w", m.Index, err)
	}
	s.bytes, s.count, s.latest, s.wanted, s.awaited = 0, 0, m, false, nothingHeld
	return nil
}

func raftConf(c raftlog.ConfState) *pb.ConfState {
	return &pb.ConfState{Voters: c.Voters, Learners: c.Learners, VotersOutgoing: c.VotersOutgoing,
		LearnersNext: c.LearnersNext, AutoLeave: new(c.AutoLeave)}
}

func confOf(c *pb.ConfState) raftlog.ConfState {
	return raftlog.ConfState{Voters: c.GetVoters(), Learners: c.GetLearners(), VotersOutgoing: c.GetVotersOutgoing(),
		LearnersNext: c.GetLearnersNext(), AutoLeave: c.GetAutoLeave()}.Clone()
}

// raftLogger passes raft's words on. Panic and Fatal are bugs or a damaged log: the box stops.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any)              { l.log.Debug(fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any)   { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l raftLogger) Info(v ...any)               { l.log.Debug(fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any)    { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l raftLogger) Warning(v ...any)            { l.log.Warn(fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) { l.log.Warn(fmt.Sprintf(f, v...)) }
func (l raftLogger) Error(v ...any)              { l.log.Error(fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.log.Error(fmt.Sprintf(f, v...)) }
func (l raftLogger) Fatal(v ...any)              { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)              { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
