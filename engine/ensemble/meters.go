package ensemble

import (
	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/platform/observe"
)

// meters are this room's metrics, under ZooKeeper's names and in its milliseconds where ServerMetrics has the like, so that
// its dashboards find them.
type meters struct {
	// commits are the entries that were applied, on every box; received those that the leader sent to be logged, learned
	// those of them that it said are committed. proposals, acks and snapshots sent are the leader's.
	proposals, commits, received, learned *observe.Counter
	acks                                  *observe.Summary
	sent                                  *observe.Counter
	// propagation is from the leader's stamp to the entry being applied here, by two clocks that may differ.
	propagation *observe.Summary
	// looking counts how often no leader was known; elections are the times until one was, and syncs those from then until
	// this box served, where it had not.
	looking                              *observe.Counter
	elections, followSyncs, learnerSyncs *observe.Summary

	// unavailable are the times from looking until this box could take writes again, leaderUnavailable those after which it
	// led.
	unavailable, leaderUnavailable *observe.Summary
	// flushed are how many entries each flush of the log was for, flushes how long it took with its wait for the device.
	flushed, flushes *observe.Summary
	// opened is how long the snapshot and the log took to be read at the start, and loaded how many entries the log held.
	opened, loaded *observe.Summary
	failures       *observe.Counter

	// fired are how many connections were told of a change, for changes of which one was.
	fired map[jute.EventType]*observe.Summary

	expired                  *observe.Counter
	snapshots, snapshotFails *observe.Counter
	mismatches               *observe.Counter
	applySeconds             *observe.Histogram
	snapshotTime             *observe.Summary
	last, min, max           int // sizes of proposals; the owner's
}

func newMeters(m *observe.Metrics) *meters {
	return &meters{
		proposals: m.Counter("proposal_count"), commits: m.Counter("commit_count"),
		received: m.Counter("learner_proposal_received_count"), learned: m.Counter("learner_commit_received_count"),
		acks: m.Summary("quorum_ack_latency"), sent: m.Counter("snap_count"), propagation: m.Summary("propagation_latency"),
		looking: m.Counter("looking_count"), elections: m.Summary("election_time"),
		followSyncs: m.Summary("follower_sync_time"), learnerSyncs: m.Summary("observer_sync_time"),
		fired: map[jute.EventType]*observe.Summary{
			jute.EventNodeCreated: m.Summary("node_created_watch_count"), jute.EventNodeDeleted: m.Summary("node_deleted_watch_count"),
			jute.EventNodeDataChanged: m.Summary("node_changed_watch_count"), jute.EventNodeChildrenChanged: m.Summary("node_children_watch_count"),
		},
		unavailable: m.Summary("unavailable_time"), leaderUnavailable: m.Summary("leader_unavailable_time"),
		flushed: m.Summary("sync_processor_batch_size"), flushes: m.Summary("sync_processor_queue_and_flush_time_ms"),
		opened: m.Summary("dbinittime"), loaded: m.Summary("startup_txns_loaded"), failures: m.Counter("unrecoverable_error_count"),
		expired: m.Counter("stale_sessions_expired"), snapshots: m.Counter("cairn_ensemble_snapshots_total"),
		snapshotFails: m.Counter("cairn_ensemble_snapshot_failures_total"), mismatches: m.Counter("digest_mismatches_count"),
		applySeconds: m.Histogram("cairn_ensemble_apply_seconds"), snapshotTime: m.Summary("snapshottime"),
		last: -1, min: -1, max: -1,
	}
}

func (m *meters) proposalSize(n int) {
	if m.min < 0 || n < m.min {
		m.min = n
	}
	m.last, m.max = n, max(m.max, n)
}

// told counts the connections that a change was told to.
func (m *meters) told(kind jute.EventType, connections int) {
	if s := m.fired[kind]; s != nil && connections > 0 {
		s.Add(int64(connections))
	}
}

// measure takes the times of an entry that is applied. Those of the log that a start brings back are not told: nobody
// waited for them.
func (o *owner) measure(p *proposal, entry *znode.Entry) {
	if p != nil && p.offered != 0 {
		o.e.metrics.acks.Add((o.now.Mono - p.offered).Milliseconds())
	}
	if ms := o.now.Wall.UnixMilli() - entry.TimeMs; ms >= 0 && (o.ready || o.follows()) {
		o.e.metrics.propagation.Add(ms)
	}
}

// follows tells whether another box leads.
func (o *owner) follows() bool { return o.lead != raft.None && o.role != raft.StateLeader }

// look begins the time without a leader.
func (o *owner) look() {
	o.leaderless = max(o.now.Mono, 1)
	if o.lookedAt == 0 {
		o.lookedAt = o.leaderless
	}
	if !o.alone() {
		o.e.metrics.looking.Inc()
	}
}

// found ends it.
func (o *owner) found() {
	if o.leaderless != 0 && !o.alone() {
		o.e.metrics.elections.Add((o.now.Mono - o.leaderless).Milliseconds())
	}
	o.leaderless, o.foundAt = 0, o.now.Mono
	if o.follows() && o.e.serving.Load() {
		o.available()
	}
}

// available ends the time in which this box could take no write.
func (o *owner) available() {
	if o.lookedAt == 0 || o.alone() {
		return
	}
	ms := (o.now.Mono - o.lookedAt).Milliseconds()
	o.lookedAt = 0
	o.e.metrics.unavailable.Add(ms)
	if o.ready {
		o.e.metrics.leaderUnavailable.Add(ms)
	}
}

// synced counts how long this box needed to serve after it knew of a leader.
func (o *owner) synced() {
	if o.role == raft.StateLeader || o.alone() {
		return
	}
	s := o.e.metrics.followSyncs
	if o.observer(o.id) {
		s = o.e.metrics.learnerSyncs
	}
	s.Add((o.now.Mono - o.foundAt).Milliseconds())
	o.available()
}
