package ensemble

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
	"cairn/platform/observe"
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
	// ReadOnly: it serves clients that asked for no more than reads.
	ReadOnly bool
	// Differs: this box's tree was found not to be that of the others; it serves again when it has been brought the leader's.
	Differs bool
	Failed  error

	Nodes, Ephemerals, Containers, TTLs int
	Sessions                            int
	// DataSize is ZooKeeper's approximate_data_size; TreeBytes what the tree takes, of at most TreeBytesMax.
	DataSize, TreeBytes, TreeBytesMax int64

	// InFlight proposals, and the encoded sizes of the last, smallest and largest ever proposed; -1 before the first.
	InFlight                                 int
	ProposalLast, ProposalMin, ProposalMax   int
	Snapshot                                 SnapshotStatus
	LogBytesSinceSnapshot, EntriesSinceStart int64
}

// SnapshotStatus is the last snapshot that this process wrote or started from.
type SnapshotStatus struct {
	Index uint64
	Bytes int64
	Took  time.Duration
	// Err of the last attempt, if it failed; it is tried again.
	Err error
}

// Status returns the present status. It never blocks.
func (e *Ensemble) Status() Status { return *e.status.Load() }

// LogSynced is how far this box's log is on stable storage, for tests that cut the power: what lies behind it in the last
// file may be lost.
func (e *Ensemble) LogSynced() raftlog.Position { return e.log.Synced() }

// publish makes the status of this step visible. Only the owner changes the tree, so that it may read it without lock.
func (o *owner) publish() {
	t := o.e.tree
	old := o.e.status.Load()
	if old != nil && !o.over && old.Applied == o.applied && old.InFlight == len(o.pending) && old.Leader == o.leader() &&
		old.Differs == (o.differs != nil) &&
		old.Role == roleName(o.role) && old.Serving == o.e.serving.Load() && old.ReadOnly == o.e.readOnly.Load() && old.Snapshot.Index == o.snap.last.Index &&
		(old.Snapshot.Err == nil) == (o.snap.last.Err == nil) {
		return
	}
	s := &Status{
		Box: o.e.cfg.Box, Role: roleName(o.role), Leader: o.leader(), Term: o.term, Applied: o.applied, Zxid: t.Zxid(),
		Rules: t.Rules(), Voters: serversOf(o.conf.Voters), Learners: serversOf(o.conf.Learners), Serving: o.e.serving.Load(), ReadOnly: o.e.readOnly.Load(), Differs: o.differs != nil, Failed: o.e.Failed(),
		Nodes: t.NodeCount(), Ephemerals: t.EphemeralsCount(), Containers: t.ContainersCount(), TTLs: t.TTLCount(),
		Sessions: t.SessionCount(), DataSize: t.DataSize(), TreeBytes: t.Bytes(), TreeBytesMax: o.e.cfg.Limits.TreeBytesMax,
		InFlight: len(o.pending), Snapshot: o.snap.last, LogBytesSinceSnapshot: o.snap.logBytes,
		EntriesSinceStart: int64(o.e.metrics.commits.Get()),
	}
	s.ProposalLast, s.ProposalMin, s.ProposalMax = o.e.metrics.last, o.e.metrics.min, o.e.metrics.max
	o.e.status.Store(s)
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

// meters are this room's metrics, under ZooKeeper's names (ServerMetrics), so that its dashboards find them.
type meters struct {
	proposals, commits       *observe.Counter
	created, deleted         *observe.Counter
	changedData, changedKids *observe.Counter
	expired                  *observe.Counter
	snapshots, snapshotFails *observe.Counter
	mismatches               *observe.Counter
	applySeconds             *observe.Histogram
	snapshotSeconds          *observe.Histogram
	last, min, max           int // sizes of proposals; the owner's
}

func newMeters(m *observe.Metrics) *meters {
	return &meters{
		proposals: m.Counter("proposal_count"), commits: m.Counter("commit_count"),
		created: m.Counter("node_created_watch_count"), deleted: m.Counter("node_deleted_watch_count"),
		changedData: m.Counter("node_changed_watch_count"), changedKids: m.Counter("node_children_watch_count"),
		expired: m.Counter("stale_sessions_expired"), snapshots: m.Counter("cairn_ensemble_snapshots_total"),
		snapshotFails: m.Counter("cairn_ensemble_snapshot_failures_total"), mismatches: m.Counter("digest_mismatches_count"),
		applySeconds: m.Histogram("cairn_ensemble_apply_seconds"), snapshotSeconds: m.Histogram("snapshottime"),
		last: -1, min: -1, max: -1,
	}
}

func (m *meters) proposalSize(n int) {
	if m.min < 0 || n < m.min {
		m.min = n
	}
	m.last, m.max = n, max(m.max, n)
}

func (m *meters) changed(changes []znode.Change) {
	for i := range changes {
		switch changes[i].Kind {
		case jute.EventNodeCreated:
			m.created.Inc()
		case jute.EventNodeDeleted:
			m.deleted.Inc()
		case jute.EventNodeDataChanged:
			m.changedData.Inc()
		case jute.EventNodeChildrenChanged:
			m.changedKids.Inc()
		}
	}
}

// RaftID is the raft id under which this box takes part. Its low half is the server's number.
func (e *Ensemble) RaftID() uint64 { return e.raftID.Load() }
