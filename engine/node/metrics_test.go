package node

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// metric is the sum of a series over all boxes, those with other labels included.
func (s *servers) metric(name string) (sum float64) {
	s.t.Helper()
	for _, n := range s.nodes {
		var out bytes.Buffer
		n.deps.Observer.Metrics.Write(&out)
		n.broker.writeMetrics(s.t.Context(), &out)
		for line := range strings.Lines(out.String()) {
			series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if series != name && !strings.HasPrefix(series, name+"{") {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// What the metrics say follows what happens.
func TestBrokerMetrics(t *testing.T) {
	s, producer := threeBrokersWritten(t, 3, 30)
	is := func(name string, want float64) {
		t.Helper()
		s.eventually(name+" is "+strconv.FormatFloat(want, 'f', -1, 64), func() bool { return s.metric(name) == want })
	}
	for name, want := range map[string]float64{
		"cairn_active_controller": 1, "cairn_brokers": 9, "cairn_leaders": 3, "cairn_replicas": 9, "cairn_under_replicated_partitions": 0,
		"cairn_under_min_isr_partitions": 0, "cairn_at_min_isr_partitions": 0, "cairn_offline_partitions": 0, "cairn_offline_replicas": 0,
		"cairn_topic_received_records_total": 30, "cairn_topic_replica_lag_records_max": 0, "cairn_isr_shrinks_total": 0,
		"cairn_leader_elections_total": 0, "cairn_unclean_leader_elections_total": 0, "cairn_reassigning_partitions": 0,
	} {
		is(name, want)
	}
	group := s.kafka(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	consumeAll(t, group, 30)
	if err := group.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	is("cairn_group_lag_records", 0)
	produce(t, producer, "t", 30, 7)
	is("cairn_group_lag_records", 7)
	if sent, received := s.metric("cairn_topic_sent_bytes_total{topic=\"t\"}"), s.metric("cairn_topic_received_bytes_total{topic=\"t\"}"); sent == 0 || received < sent {
		t.Errorf("%v bytes sent of %v", sent, received)
	}

	gone := s.leader()
	if err := s.nodes[gone].Close(); err != nil {
		t.Fatal(err)
	}
	delete(s.nodes, gone)
	is("cairn_brokers", 4)
	s.eventually("what lacks a replica is counted", func() bool {
		return s.metric("cairn_under_replicated_partitions") >= 3 && s.metric("cairn_under_replicated_partitions") == s.metric("cairn_at_min_isr_partitions")
	})
	is("cairn_active_controller", 1)
	if n := s.metric("cairn_leader_elections_total"); n == 0 {
		t.Error("no election was counted")
	}
	s.open(gone)
	s.ready(gone)
	is("cairn_under_replicated_partitions", 0)
	if n := s.metric("cairn_isr_expands_total"); n < 3 {
		t.Errorf("%v expansions of the ISR are counted", n)
	}
}
