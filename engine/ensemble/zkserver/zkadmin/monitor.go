package zkadmin

import (
	"bytes"
	"encoding/json"
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

// monitor are the fields of mntr and monitor: version and state, the gauges of ZooKeeperServer.registerMetrics, then the
// counters that are kept here and the two latency summaries.
func (a *Admin) monitor() object {
	s := a.source.Stats()
	o := object{
		{"version", a.cfg.fullVersion()},
		{"server_state", s.Mode},
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
		{"open_file_descriptor_count", s.OpenFiles},
		{"max_file_descriptor_count", s.MaxFiles},
		{"connection_drop_probability", 0.0},
		{"last_client_response_size", s.ResponseSizes.Last},
		{"max_client_response_size", s.ResponseSizes.Max},
		{"min_client_response_size", s.ResponseSizes.Min},
		{"outstanding_tls_handshake", 0},
		{"auth_failed_count", s.AuthFailed},
		{"non_mtls_remote_conn_count", 0},
		{"non_mtls_local_conn_count", 0},
	}
	if s.Voters > 1 {
		o = append(o, field{"quorum_size", s.Voters})
		if s.Mode == "leader" {
			o = append(o, field{"learners", s.Voters + s.Observers - 1},
				field{"last_proposal_size", s.ProposalSizes.Last},
				field{"max_proposal_size", s.ProposalSizes.Max},
				field{"min_proposal_size", s.ProposalSizes.Min})
		}
	}
	for _, c := range s.Counters {
		o = append(o, field{c.Name, c.Value})
	}
	o = appendLatency(o, "readlatency", s.ReadLatency)
	return appendLatency(o, "updatelatency", s.UpdateLatency)
}

func appendLatency(o object, name string, l Latency) object {
	return append(o, field{"avg_" + name, l.Average()}, field{"min_" + name, l.Min}, field{"max_" + name, l.Max},
		field{"cnt_" + name, l.Count}, field{"sum_" + name, l.Sum})
}
