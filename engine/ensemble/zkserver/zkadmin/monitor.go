package zkadmin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// field is one name and value of an ordered JSON object.
type field struct {
	name  string
	value any
}

// object is a JSON object that keeps its order, as ZooKeeper's LinkedHashMaps do.
type object []field

// MarshalJSON writes the fields in order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// monitor are the fields of mntr and monitor: version and state, the gauges, then what ServerMetrics counts and has an
// honest counterpart here. The percentiles of its summaries are in the box's metrics alone.
func (a *Admin) monitor() object {
	s := a.source.Stats()
	o := object{{"version", a.cfg.fullVersion()}, {"server_state", s.Mode}}
	if q := s.Quorum; q != nil && !s.ReadOnly {
		o = append(o, field{"peer_state", peerState(&s)})
		if s.Mode == modeObserver {
			o = append(o, field{"observer_master_id", q.Leader})
		}
	}
	o = append(o, s.gauges()...)
	for _, c := range append(s.Counters, s.Metered...) {
		o = append(o, field{c.Name, c.Value})
	}
	for _, m := range s.Summaries {
		o = append(o, field{"avg_" + m.Name, rounded(m.Average())}, field{"min_" + m.Name, m.Min}, field{"max_" + m.Name, m.Max},
			field{"cnt_" + m.Name, m.Count}, field{"sum_" + m.Name, m.Sum})
	}
	return o
}

// WriteMetrics writes the gauges and counters that the box's metrics do not have under ZooKeeper's names, in Prometheus's
// text format.
func (a *Admin) WriteMetrics(w io.Writer) {
	s := a.source.Stats()
	for _, g := range s.gauges() {
		_, _ = fmt.Fprintf(w, "%s %v\n", g.name, g.value)
	}
	for _, c := range s.Counters {
		_, _ = fmt.Fprintf(w, "%s %d\n", c.Name, c.Value)
	}
}

// The modes of a server that is one of several and serves writes.
const (
	modeLeader   = "leader"
	modeFollower = "follower"
	modeObserver = "observer"
)

// peerState is QuorumPeer.getDetailedPeerState.
func peerState(s *Stats) string {
	switch {
	case s.Quorum.Leader == 0:
		return "looking"
	case s.Mode == modeLeader:
		return "leading - broadcast"
	case s.Mode == modeObserver:
		return "observing - broadcast"
	}
	return "following - broadcast"
}

// gauges are those of ZooKeeperServer.registerMetrics and of its subclass for the server's role.
func (s *Stats) gauges() object {
	openFiles, maxFiles := s.openFiles()
	o := object{
		{"avg_latency", s.Latency.Average()},
		{"min_latency", s.Latency.Min},
		{"max_latency", s.Latency.Max},
		{"packets_received", s.Received},
		{"packets_sent", s.Sent},
		{"num_alive_connections", s.Connections},
		{"outstanding_requests", s.Outstanding},
		{"uptime", s.Uptime.Milliseconds()},
		{"znode_count", s.Nodes},
		{"watch_count", s.countWatches()},
		{"ephemerals_count", s.Ephemerals},
		{"approximate_data_size", s.DataBytes},
		{"global_sessions", s.Sessions},
		{"local_sessions", s.LocalSessions},
		{"open_file_descriptor_count", openFiles},
		{"max_file_descriptor_count", maxFiles},
		{"connection_drop_probability", s.DropProbability},
		{"last_client_response_size", s.ResponseSizes.Last},
		{"max_client_response_size", s.ResponseSizes.Max},
		{"min_client_response_size", s.ResponseSizes.Min},
		{"outstanding_tls_handshake", 0},
		{"auth_failed_count", s.AuthFailed},
		{"non_mtls_remote_conn_count", 0},
		{"non_mtls_local_conn_count", 0},
	}
	q := s.Quorum
	if q == nil || s.ReadOnly {
		return o
	}
	o = append(o, field{"quorum_size", q.Voters})
	if s.Mode != modeLeader {
		return o
	}
	return append(o, object{
		{"learners", q.count(func(l *Learner) bool { return l.Heard })},
		{"synced_followers", q.count(func(l *Learner) bool { return l.Synced && !l.Observer })},
		{"synced_non_voting_followers", q.count(func(l *Learner) bool { return l.Synced && !l.Observer && !l.Votes })},
		{"synced_observers", q.count((*Learner).syncedObserver)},
		{"pending_syncs", q.PendingSyncs},
		{"leader_uptime", q.LeaderUptime.Milliseconds()},
		{"last_proposal_size", s.ProposalSizes.Last},
		{"max_proposal_size", s.ProposalSizes.Max},
		{"min_proposal_size", s.ProposalSizes.Min},
	}...)
}

func (l *Learner) syncedObserver() bool { return l.Synced && l.Observer }
