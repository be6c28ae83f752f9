package ensemble

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
)

// Status is what four-letter words, the admin server and `cairn doctor` show of the ensemble. It is as of the owner's
// last step.
type Status struct {
	Box     uint64
	Role    string // leader, follower, candidate
	Leader  uint64 // the box that leads; 0: none known
	Term    uint64
	Applied uint64 // index
	Zxid    int64
	Rules   uint32
	Voters  []uint64
	// Learners are ZooKeeper's observers.
	Learners []uint64
	Serving  bool
	// Several: this box was configured as one of several servers, whatever became of the others.
	Several bool
	// LeadsSince is when this box began to lead, of the process's clock; 0 when it does not.
	LeadsSince time.Duration
	// ReadOnly: it serves clients that asked for no more than reads.
	ReadOnly bool
	// Differs: this box's tree was found not to be that of the others; it serves again when it has been brought the leader's.
	Differs bool
	Failed  error

	Nodes, Ephemerals, Containers, TTLs int
	Sessions                            int
	// DataSize is ZooKeeper's approximate_data_size; TreeBytes what the tree takes, of at most TreeBytesMax.
	DataSize, TreeBytes, TreeBytesMax int64

	// InFlight proposals and ReadsWaiting, which syncs are, and the encoded sizes of the last, smallest and largest ever proposed; -1 before the first.
	InFlight, ReadsWaiting                   int
	ProposalLast, ProposalMin, ProposalMax   int
	Snapshot                                 SnapshotStatus
	LogBytesSinceSnapshot, EntriesSinceStart int64
}

// SnapshotStatus is the last snapshot that this process wrote or started from.
type SnapshotStatus struct {
	Index uint64
	Zxid  int64
	// At is when it was cut, or, of one that this process went on from, the time of the last entry in it. Zero: there is none.
	At    time.Time
	Bytes int64
	Took  time.Duration
	// Err of the last attempt, if it failed; it is tried again.
	Err error
}

// Status returns the present status. It never blocks.
func (e *Ensemble) Status() Status {
	s := *e.status.Load()
	s.ReadsWaiting = int(e.readsWaiting.Load())
	return s
}

// LogSynced is how far this box's log is on stable storage, for tests that cut the power: what lies behind it in the last
// file may be lost.
func (e *Ensemble) LogSynced() raftlog.Position { return e.log.Synced() }

// publish makes the status of this step visible. Only the owner changes the tree, so that it may read it without lock.
func (o *owner) publish() {
	t := o.e.tree
	o.e.readsWaiting.Store(int64(o.reads.waiting()))
	old := o.e.status.Load()
	if old != nil && !o.over && old.Applied == o.applied && old.InFlight == len(o.pending) && old.Leader == o.leader() &&
		old.Differs == (o.differs != nil) &&
		old.Role == roleName(o.role) && old.Serving == o.e.serving.Load() && old.ReadOnly == o.e.readOnly.Load() && old.Snapshot.Index == o.snap.last.Index &&
		(old.Snapshot.Err == nil) == (o.snap.last.Err == nil) {
		return
	}
	s := &Status{
		Box: o.e.cfg.Box, Role: roleName(o.role), Leader: o.leader(), Term: o.term, Applied: o.applied, Zxid: t.Zxid(),
		Rules: t.Rules(), Several: len(o.e.cfg.Servers.Servers) > 0 || !o.alone(), LeadsSince: o.leadsSince(), Voters: serversOf(o.conf.Voters), Learners: serversOf(o.conf.Learners), Serving: o.e.serving.Load(), ReadOnly: o.e.readOnly.Load(), Differs: o.differs != nil, Failed: o.e.Failed(),
		Nodes: t.NodeCount(), Ephemerals: t.EphemeralsCount(), Containers: t.ContainersCount(), TTLs: t.TTLCount(),
		Sessions: t.SessionCount(), DataSize: t.DataSize(), TreeBytes: t.Bytes(), TreeBytesMax: o.e.cfg.Limits.TreeBytesMax,
		InFlight: len(o.pending), Snapshot: o.snap.last, LogBytesSinceSnapshot: o.snap.logBytes,
		EntriesSinceStart: int64(o.e.metrics.commits.Get()),
	}
	s.ProposalLast, s.ProposalMin, s.ProposalMax = o.e.metrics.last, o.e.metrics.min, o.e.metrics.max
	o.e.status.Store(s)
}

// leadsSince is since when this box is ready to lead, 0 when it is not.
func (o *owner) leadsSince() time.Duration {
	if !o.ready {
		return 0
	}
	return o.readySince
}

// serversOf are the servers that raft ids stand for.
func serversOf(ids []uint64) []uint64 {
	servers := make([]uint64, len(ids))
	for i, id := range ids {
		servers[i] = quorum.ServerOf(id)
	}
	return servers
}

// eachServer names each server once that one of the raft ids stands for, in the order of their numbers.
func eachServer(ids ...[]uint64) []uint64 {
	all := serversOf(slices.Concat(ids...))
	slices.Sort(all)
	return slices.Compact(all)
}

func roleName(r raft.StateType) string {
	switch r {
	case raft.StateLeader:
		return "leader"
	case raft.StateFollower:
		return "follower"
	default:
		return "candidate"
	}
}

// RaftID is the raft id under which this box takes part. Its low half is the server's number.
func (e *Ensemble) RaftID() uint64 { return e.raftID.Load() }
