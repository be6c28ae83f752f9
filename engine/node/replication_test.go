package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// threeBrokers are servers 1 to 3 with a broker each.
func threeBrokers(t *testing.T) *servers {
	t.Helper()
	return threeBrokersWith(t, func(uint64) map[string]string { return nil })
}

// threeBrokersWith gives each settings of its own.
func threeBrokersWith(t *testing.T, settings func(id uint64) map[string]string) *servers {
	t.Helper()
	s := newServers(t, 3)
	for id, cfg := range s.configs {
		cfg.Kafka = &Kafka{Listen: s.reserve(), Settings: settings(id)}
		s.configs[id] = cfg
	}
	for id := uint64(1); id <= 3; id++ {
		s.open(id)
	}
	for id := uint64(1); id <= 3; id++ {
		s.ready(id)
	}
	s.eventually("three brokers", func() bool {
		return s.each(func(n *Node) bool { return n.broker.catalog.Current().BrokerCount() == 3 })
	})
	return s
}

// threeBrokersWritten are three with topic t, a replica of each of its partitions on every box, and so many records in them.
func threeBrokersWritten(t *testing.T, partitions int32, records int) (*servers, *kgo.Client) {
	t.Helper()
	s := threeBrokers(t)
	c := s.kafka()
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), partitions, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, c, "t", 0, records)
	s.whole("t")
	return s, c
}

func (s *servers) each(f func(*Node) bool) bool {
	for _, n := range s.nodes {
		if !f(n) {
			return false
		}
	}
	return true
}

// kafka is a Kafka client of those brokers that are there.
func (s *servers) kafka(opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	var seeds []string
	for _, n := range s.nodes {
		seeds = append(seeds, n.Addresses()["kafka"].String())
	}
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(time.Second)}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// produce sends numbered records with acks=all.
func produce(t *testing.T, c *kgo.Client, topic string, from, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := from; i < from+n; i++ {
		c.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// consumeAll reads until n different records have come.
func consumeAll(t *testing.T, c *kgo.Client, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen := map[string]int{}
	for len(seen) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", len(seen), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	for value, times := range seen {
		if times != 1 {
			t.Errorf("record %s came %d times", value, times)
		}
	}
}

// logBytes are a replica's whole log, of however many segments: a cut begins another.
func logBytes(t *testing.T, r *replica.Replica) []byte {
	t.Helper()
	v := r.View()
	var out []byte
	for next := v.Start; next < v.End; {
		span, err := v.Log.Read(next, 64<<20, v.End, true)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, span.Length)
		_, err = span.File.ReadAt(b, span.Position)
		span.Release()
		if err != nil {
			t.Fatal(err)
		}
		before := next
		for scan := batch.Scan(b); scan.Next(); {
			if next = scan.Header().NextOffset(); next > before {
				out = append(out, scan.Bytes()...)
			}
		}
		if next == before {
			t.Fatalf("%v: %d bytes at offset %d hold no whole batch", r.TopicPartition(), len(b), before)
		}
	}
	return out
}

// whole waits until all replicas of a topic are in sync, equal, and acknowledged to their ends.
func (s *servers) whole(topic string) {
	s.t.Helper()
	var lacks string
	defer func() {
		if s.t.Failed() {
			s.t.Log(lacks)
		}
	}()
	s.eventually("all replicas of "+topic+" are in sync and equal", func() bool {
		lacks = s.lacks(topic)
		return lacks == ""
	})
}

// lacks says what a topic lacks to be whole; "" when it is.
func (s *servers) lacks(topic string) string {
	for i := range s.nodes[1].broker.catalog.Current().Topic(topic).Partitions {
		var first []byte
		for id := uint64(1); id <= 3; id++ {
			b := s.nodes[id].broker
			p := b.catalog.Current().Topic(topic).Partition(int32(i))
			r, err := b.topics.Lookup(topic, int32(i))
			if err != nil {
				return fmt.Sprintf("box %d: partition %d: %v", id, i, err)
			}
			v := r.View()
			all := logBytes(s.t, r)
			if len(p.ISR) != 3 || v.HighWatermark != v.End || id > 1 && !bytes.Equal(first, all) {
				return fmt.Sprintf("box %d: partition %d: leader %d, epoch %d, partition epoch %d, in sync %v, eligible %v; view leads %v, epoch %d, partition epoch %d, vouches %d, "+
					"high watermark %d, end %d, lag %d, %d bytes, the first box's has %d", id, i, p.Leader, p.LeaderEpoch, p.PartitionEpoch, p.ISR, p.ELR, v.Leader, v.LeaderEpoch,
					v.PartitionEpoch, v.Vouches, v.HighWatermark, v.End, r.Counts().Lag, len(all), len(first))
			}
			first = all
		}
	}
	return ""
}

// Three brokers replicate: what is acknowledged with acks=all is on all of them, survives a broker that goes, and is brought
// to it when it is back.
func TestThreeBrokersReplicate(t *testing.T) {
	s, producer := threeBrokersWritten(t, 3, 300)
	consumeAll(t, s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 300)

	gone := s.leader() // of the ensemble: the controller goes with it
	if err := s.nodes[gone].Close(); err != nil {
		t.Fatal(err)
	}
	delete(s.nodes, gone)
	produce(t, producer, "t", 300, 300)
	consumeAll(t, s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 600)
	s.open(gone)
	s.ready(gone)
	s.whole("t")
	produce(t, producer, "t", 600, 100)
	s.whole("t")

	// A group, its offsets and producer ids, which all need the controller, wherever it is.
	group := s.kafka(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	consumeAll(t, group, 700)
	if err := group.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.whole(catalog.GroupOffsetsTopic)
	for range 3 {
		produce(t, s.kafka(), "t", 1000, 1) // each with a producer id of its own
	}
}

// A broker that cannot be registered, for want of a quorum, tries again: nobody else would.
func TestARegistrationThatFailsIsTriedAgain(t *testing.T) {
	s := threeBrokers(t)
	b := s.nodes[1].broker
	var calls atomic.Int32
	b.enroll = func(_ catalog.Registration, done func(error)) {
		if calls.Add(1) < 3 {
			done(catalog.ErrNoQuorum)
			return
		}
		done(nil)
	}
	b.brokerEpoch.Store(0) // as after the end of its lease
	b.register()
	s.eventually("three tries", func() bool {
		if calls.Load() < 3 {
			b.brokerEpoch.Store(0) // the catalog still shows the old registration
		}
		return calls.Load() == 3
	})
}

func TestVouchersOnTheWire(t *testing.T) {
	list := []fetcher.Voucher{
		{Topic: seglog.ID{1, 2}, Partition: 3, Epoch: 4, Offset: 5, Member: partition.Member{Broker: 9, Epoch: 6}},
		{Topic: seglog.ID{7}, Partition: 1 << 30, Epoch: 1 << 30, Offset: 1 << 62, Member: partition.Member{Broker: 9, Epoch: 1 << 62}},
	}
	var got []fetcher.Voucher
	b := appendVouchers(nil, list)
	if err := eachVoucher(9, b, func(v fetcher.Voucher) { got = append(got, v) }); err != nil || !slices.Equal(got, list) {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := eachVoucher(9, b[:len(b)-1], func(fetcher.Voucher) {}); err == nil {
		t.Fatal("a half voucher is taken")
	}
	if errors.Is(errorOf(codeOf(nil)), nil) == false {
		t.Fatal("no error is one")
	}
}
