package node

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/group"
	"cairn/engine/broker/replica"
	"cairn/platform/observe"
)

// openMetrics counts what moves in the catalog. What stands is looked at when somebody asks for the metrics.
func (b *broker) openMetrics() {
	m, box := b.n.deps.Observer.Metrics, b.n.id.box
	shrinks, expands := m.Counter("cairn_isr_shrinks_total"), m.Counter("cairn_isr_expands_total")
	elections, unclean := m.Counter("cairn_leader_elections_total"), m.Counter("cairn_unclean_leader_elections_total")
	l := leaderless{since: map[partitionKey]time.Duration{}, took: m.Histogram("cairn_partition_leaderless_seconds")}
	b.catalog.OnChange(func(before, after *catalog.Snapshot) {
		moves := catalog.MovesOf(before, after, box)
		shrinks.Add(moves.InSyncShrinks)
		expands.Add(moves.InSyncExpands)
		elections.Add(moves.Elections)
		unclean.Add(moves.UncleanElections)
		l.follow(before, after, b.n.deps.Clock.Now().Mono)
	})
}

// leaderless measures how long partitions are without a leader that may act, from the end of a broker's registration on, as this
// box's catalog shows it. It is of the goroutine that applies entries.
type leaderless struct {
	since map[partitionKey]time.Duration
	took  *observe.Histogram
}

type partitionKey struct {
	topic     catalog.UUID
	partition int
}

func (l *leaderless) follow(before, after *catalog.Snapshot, now time.Duration) {
	if !catalog.SameBrokers(before, after) {
		for t := range after.Topics() {
			for i, p := range t.Partitions {
				if p.HasState && p.Leader >= 0 && after.LeaderOf(p) == catalog.NoLeader {
					l.begin(partitionKey{t.ID, i}, now)
				}
			}
		}
	}
	catalog.Diff(before, after, func(was, is *catalog.Topic) {
		if is == nil {
			for i := range was.Partitions {
				delete(l.since, partitionKey{was.ID, i})
			}
			return
		}
		for i, p := range is.Partitions {
			at, waits := l.since[partitionKey{is.ID, i}]
			switch led := after.LeaderOf(p) != catalog.NoLeader; {
			case led && waits:
				l.took.Observe((now - at).Seconds())
				delete(l.since, partitionKey{is.ID, i})
			case !led && p.HasState:
				l.begin(partitionKey{is.ID, i}, now)
			}
		}
	})
}

func (l *leaderless) begin(key partitionKey, now time.Duration) {
	if _, ok := l.since[key]; !ok {
		l.since[key] = now
	}
}

// metricsTime is how long the coordinator may take to say what its groups have committed.
const metricsTime = 2 * time.Second

// writeMetrics writes what the wing's metrics are now, in Prometheus's text format.
func (b *broker) writeMetrics(ctx context.Context, out io.Writer) {
	w := &strings.Builder{}
	s := b.catalog.Current()
	h := s.Health(b.n.id.box)
	controller := 0
	if s.ControllerID == b.n.id.box && s.Broker(b.n.id.box) != nil {
		controller = 1
	}
	for _, g := range []struct {
		name  string
		value int
	}{
		{"cairn_active_controller", controller}, {"cairn_brokers", h.Brokers}, {"cairn_topics", h.Topics}, {"cairn_partitions", h.Partitions},
		{"cairn_replicas", h.Replicas}, {"cairn_leaders", h.Leaders}, {"cairn_offline_replicas", h.OfflineReplicas},
		{"cairn_under_replicated_partitions", h.UnderReplicated}, {"cairn_under_min_isr_partitions", h.UnderMinInSync},
		{"cairn_at_min_isr_partitions", h.AtMinInSync}, {"cairn_offline_partitions", h.OfflinePartitions},
		{"cairn_not_preferred_leaders", h.NotPreferred}, {"cairn_reassigning_partitions", h.Reassigning},
	} {
		fmt.Fprintf(w, "%s %d\n", g.name, g.value)
	}
	b.writeTopics(w)
	b.writeGroups(ctx, w)
	_, _ = io.WriteString(out, w.String()) // who asked has gone if it fails
}

// writeTopics writes what went through the partitions that this box holds, a series for each topic.
func (b *broker) writeTopics(w *strings.Builder) {
	sums := map[string]replica.Counts{}
	b.topics.All(func(r *replica.Replica) {
		c, sum := r.Counts(), sums[r.TopicPartition().Topic]
		sum.AppendedBytes += c.AppendedBytes
		sum.AppendedRecords += c.AppendedRecords
		sum.ReadBytes += c.ReadBytes
		sum.Lag = max(sum.Lag, c.Lag)
		sums[r.TopicPartition().Topic] = sum
	})
	names := slices.Sorted(maps.Keys(sums))
	for _, series := range []struct {
		name string
		of   func(replica.Counts) int64
	}{
		{"cairn_topic_received_bytes_total", func(c replica.Counts) int64 { return c.AppendedBytes }},
		{"cairn_topic_received_records_total", func(c replica.Counts) int64 { return c.AppendedRecords }},
		{"cairn_topic_sent_bytes_total", func(c replica.Counts) int64 { return c.ReadBytes }},
		{"cairn_topic_replica_lag_records_max", func(c replica.Counts) int64 { return c.Lag }},
	} {
		for _, name := range names {
			fmt.Fprintf(w, "%s %d\n", observe.Series(series.name, "topic", name), series.of(sums[name]))
		}
	}
}

// writeGroups writes how far the groups that this box coordinates are behind, where it holds the partition.
func (b *broker) writeGroups(ctx context.Context, w *strings.Builder) {
	ctx, cancel := context.WithTimeout(ctx, metricsTime)
	defer cancel()
	listed := make(chan []group.Listed, 1)
	b.groups.List(ctx, nil, func(l []group.Listed, _ *kerr.Error) { listed <- l })
	select {
	case groups := <-listed:
		for _, g := range groups {
			b.writeGroup(ctx, w, g.Group)
		}
	case <-ctx.Done():
	}
}

func (b *broker) writeGroup(ctx context.Context, w *strings.Builder, name string) {
	answered := make(chan group.Answer, 1)
	b.groups.Ask(ctx, &group.FetchOffsets{Target: group.To(name), All: true}, func(a group.Answer) { answered <- a })
	var offsets *group.FetchAnswer
	select {
	case a := <-answered:
		offsets, _ = a.(*group.FetchAnswer)
	case <-ctx.Done():
	}
	if offsets == nil {
		return
	}
	for _, t := range offsets.Topics {
		for _, p := range t.Partitions {
			r, err := b.topics.Lookup(t.Topic, p.Partition)
			if err != nil || r == nil || p.Offset < 0 {
				continue
			}
			series := observe.Series("cairn_group_lag_records", "group", name, "topic", t.Topic, "partition", strconv.Itoa(int(p.Partition)))
			fmt.Fprintf(w, "%s %d\n", series, max(r.View().HighWatermark-p.Offset, 0))
		}
	}
}
