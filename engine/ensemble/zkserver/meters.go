package zkserver

import (
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/znode"
	"cairn/platform/observe"
)

// meterNames and summaryNames are what the box's rooms count under names of ServerMetrics, for mntr.
var (
	meterNames = []string{
		"commit_count", "proposal_count", "learner_proposal_received_count", "learner_commit_received_count", "looking_count",
		"snap_count", "stale_sessions_expired", "digest_mismatches_count", "unrecoverable_error_count",
		"large_requests_rejected", "throttled_ops", "stale_requests_dropped", "request_throttle_wait_count",
	}
	summaryNames = []string{
		"fsynctime", "snapshottime", "readlatency", "updatelatency", "propagation_latency", "quorum_ack_latency", "election_time",
		"follower_sync_time", "observer_sync_time", "node_created_watch_count", "node_deleted_watch_count",
		"node_changed_watch_count", "node_children_watch_count", "unavailable_time", "leader_unavailable_time", "sync_processor_batch_size",
		"sync_processor_queue_and_flush_time_ms", "dbinittime", "startup_txns_loaded", "connection_token_deficit",
	}
)

// meters are the counters and summaries of those names, in their order.
type meters struct {
	counted []*observe.Counter
	summed  []*observe.Summary
}

func metersOf(m *observe.Metrics) (all meters) {
	for _, name := range meterNames {
		all.counted = append(all.counted, m.Counter(name))
	}
	for _, name := range summaryNames {
		all.summed = append(all.summed, m.Summary(name))
	}
	return all
}

func (m *meters) counters() []zkadmin.Counter {
	all := make([]zkadmin.Counter, len(m.counted))
	for i, c := range m.counted {
		all[i] = zkadmin.Counter{Name: meterNames[i], Value: int64(c.Get())}
	}
	return all
}

func (m *meters) summaries() []zkadmin.Summary {
	all := make([]zkadmin.Summary, len(m.summed))
	for i, s := range m.summed {
		all[i] = zkadmin.Summary{Name: summaryNames[i], Span: s.Span()}
	}
	return all
}

// reset is srst's part. Counters go on: who reads them takes the difference.
func (m *meters) reset() {
	for _, s := range m.summed {
		s.Reset()
	}
}

// quorum is what this server knows of the ensemble.
func (s *Server) quorum(status *ensemble.Status) *zkadmin.Quorum {
	q := &zkadmin.Quorum{Leader: int64(status.Leader), Voters: len(status.Voters), PendingSyncs: status.ReadsWaiting, Servers: s.servers}
	if status.LeadsSince != 0 {
		q.LeaderUptime = s.deps.Clock.Now().Mono - status.LeadsSince
	}
	for _, l := range s.deps.Ensemble.Learners() {
		q.Learners = append(q.Learners, zkadmin.Learner{Server: int64(l.Server), Votes: l.Votes, Observer: l.Observer, Heard: l.Heard, Synced: l.Synced})
	}
	return q
}

// servers are the lines of the configuration in the tree; none while this server does not serve.
func (s *Server) servers() quorum.Config {
	var text string
	_ = s.view(func(t *znode.Tree, _ *ensemble.Watches) {
		if data, _, code := t.Get(znode.PathConfig, znode.Box()); code == jute.OK {
			text = string(data)
		}
	})
	c, err := quorum.ParseConfig(text)
	if err != nil {
		return quorum.Config{} // the ensemble itself does not start with such a tree
	}
	return c
}
