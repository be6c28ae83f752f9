package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/broker/settings"
)

// bytesOnDisk is the bytes of log below a directory of topics.
func bytesOnDisk(t *testing.T, dir, topic string) (n int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "topics", topic+"-*", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil { // one may be replaced just now
			n += info.Size()
		}
	}
	return n
}

// Committed offsets and an idempotent producer's records are the same after their logs were compacted under real clients, and after a
// restart that replays them.
func TestCompactionUnderRealClients(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Kafka.Settings["offsets.topic.num.partitions"] = "1"
	cfg.Kafka.Settings["offsets.topic.segment.bytes"] = "1048576"
	cfg.Kafka.Settings["log.cleaner.backoff.ms"] = "100"
	n := open(t, cfg)
	defer func() { closeNode(t, n) }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := kafkaClient(t, n)
	adm := kadm.NewClient(c)
	compacted := map[string]*string{"cleanup.policy": kadm.StringPtr("compact"), "segment.bytes": kadm.StringPtr("1048576")}
	if _, err := adm.CreateTopic(ctx, 50, 1, nil, "state"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(ctx, 1, 1, compacted, "ledger"); err != nil {
		t.Fatal(err)
	}
	commit := func(round int) {
		offsets := kadm.Offsets{}
		for p := range int32(50) {
			offsets.Add(kadm.Offset{Topic: "state", Partition: p, At: int64(round)*100 + int64(p), Metadata: strings.Repeat("m", 500)})
		}
		if err := adm.CommitAllOffsets(ctx, "readers", offsets); err != nil {
			t.Fatal(err)
		}
	}
	put := func(c *kgo.Client, round int) {
		var records []*kgo.Record
		for key := range 50 {
			r := &kgo.Record{Topic: "ledger", Key: fmt.Append(nil, key), Value: fmt.Append(nil, round, " ", strings.Repeat("v", 700))}
			if key%10 == 9 && round%2 == 1 {
				r.Value = nil
			}
			records = append(records, r)
		}
		if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	plain := kafkaClient(t, n, kgo.ProducerBatchCompression(kgo.NoCompression()))
	rounds := 0
	for ; rounds < 150; rounds++ {
		commit(rounds)
		put(plain, rounds)
	}
	rounds--
	for bytesOnDisk(t, cfg.Data, "__consumer_offsets") > 3<<19 || bytesOnDisk(t, cfg.Data, "ledger") > 3<<19 {
		if ctx.Err() != nil {
			t.Fatalf("%d and %d bytes are left of what was written", bytesOnDisk(t, cfg.Data, "__consumer_offsets"), bytesOnDisk(t, cfg.Data, "ledger"))
		}
		time.Sleep(50 * time.Millisecond)
	}
	check := func() {
		t.Helper()
		c := kafkaClient(t, n)
		committed, err := kadm.NewClient(c).FetchOffsets(ctx, "readers")
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(50) {
			if o, ok := committed.Lookup("state", p); !ok || o.At != int64(rounds)*100+int64(p) {
				t.Fatalf("committed for partition %d: %+v", p, o)
			}
		}
		state, last := map[string]string{}, int64(-1)
		reader := kafkaClient(t, n, kgo.ConsumeTopics("ledger"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		for last < int64(rounds+1)*50-1 {
			f := reader.PollFetches(ctx)
			if err := f.Err(); err != nil {
				t.Fatal(err)
			}
			f.EachRecord(func(r *kgo.Record) {
				if r.Offset <= last {
					t.Fatalf("offset %d after %d", r.Offset, last)
				}
				last = r.Offset
				delete(state, string(r.Key))
				if r.Value != nil {
					word, _, _ := strings.Cut(string(r.Value), " ")
					state[string(r.Key)] = word
				}
			})
		}
		for key := range 50 {
			want := fmt.Sprint(rounds)
			if key%10 == 9 && rounds%2 == 1 {
				want = ""
			}
			if got := state[fmt.Sprint(key)]; got != want {
				t.Fatalf("key %d is %q, want %q", key, got, want)
			}
		}
	}
	check()
	rounds++
	put(plain, rounds) // the producer's sequence goes on
	commit(rounds)
	closeNode(t, n)
	n = open(t, cfg)
	check()
}

// A box that was away comes back to a log that was compacted meanwhile: it copies what is left, over the gaps, and its readers find
// the last of every key.
func TestAFollowerComesBackToACompactedLog(t *testing.T) {
	s := threeBrokersWith(t, func(id uint64) map[string]string {
		return map[string]string{
			"log.cleaner.backoff.ms": "100", "broker.rack": fmt.Sprint("rack", id), "replica.selector.class": settings.RackAwareSelector,
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	producer := s.kafka(kgo.ProducerBatchCompression(kgo.NoCompression()))
	compacted := map[string]*string{"cleanup.policy": kadm.StringPtr("compact"), "segment.bytes": kadm.StringPtr("1048576")}
	if _, err := kadm.NewClient(producer).CreateTopic(ctx, 1, 3, compacted, "ledger"); err != nil {
		t.Fatal(err)
	}
	rounds := 0
	put := func(until int) {
		for ; rounds < until; rounds++ {
			var records []*kgo.Record
			for key := range 50 {
				records = append(records, &kgo.Record{Topic: "ledger", Key: fmt.Append(nil, key), Value: fmt.Append(nil, rounds, " ", strings.Repeat("v", 700))})
			}
			if err := producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(5)
	leader := uint64(s.nodes[1].broker.catalog.Current().Topic("ledger").Partition(0).Leader)
	gone := leader%3 + 1
	if err := s.nodes[gone].Close(); err != nil {
		t.Fatal(err)
	}
	delete(s.nodes, gone)
	put(100)
	for id := range s.nodes {
		s.eventually("the others compact", func() bool { return bytesOnDisk(t, s.configs[id].Data, "ledger") < 3<<19 })
	}
	s.open(gone)
	s.ready(gone)
	s.eventually("the box that was away is in sync", func() bool {
		return len(s.nodes[gone].broker.catalog.Current().Topic("ledger").Partition(0).ISR) == 3
	})
	r, err := s.nodes[gone].broker.topics.Lookup("ledger", 0)
	if err != nil || r.View().End != 100*50 || r.View().Leader {
		t.Fatalf("%v; its log ends at %d", err, r.View().End)
	}
	reader := s.kafka(kgo.ConsumeTopics("ledger"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Rack(fmt.Sprint("rack", gone)))
	state := map[string]string{}
	for last := int64(-1); last < 100*50-1; {
		f := reader.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) {
			if r.Offset <= last {
				t.Fatalf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			state[string(r.Key)], _, _ = strings.Cut(string(r.Value), " ")
		})
	}
	for key := range 50 {
		if got := state[fmt.Sprint(key)]; got != "99" {
			t.Fatalf("key %d is of round %q", key, got)
		}
	}
	if r.Counts().ReadBytes == 0 {
		t.Error("the reader has not read from the box that was away")
	}
}
