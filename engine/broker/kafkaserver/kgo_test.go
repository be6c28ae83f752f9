package kafkaserver

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A real client, idempotent, with every codec, over several partitions and connections, reads back what it wrote, once,
// in order by partition.
func TestFranzGo(t *testing.T) {
	r := newRig(t, onDisk(t.TempDir()))
	const partitions, perCodec = 3, 1000
	r.topic("t", partitions)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for n, codec := range codecs {
		cl, err := kgo.NewClient(kgo.SeedBrokers(r.address), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(codec),
			kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(0))
		if err != nil {
			t.Fatal(err)
		}
		for i := range perCodec {
			cl.Produce(ctx, kgo.StringRecord(fmt.Sprintf("%d/%06d", n, i)), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	for _, isolation := range []kgo.IsolationLevel{kgo.ReadUncommitted(), kgo.ReadCommitted()} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(r.address), kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(isolation),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		last := map[int32]string{}
		for len(seen) < perCodec*len(codecs) && ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			fetches.EachError(func(topic string, p int32, err error) { t.Errorf("%s-%d: %v", topic, p, err) })
			fetches.EachRecord(func(rec *kgo.Record) {
				v := string(rec.Value)
				seen[v]++
				if v <= last[rec.Partition] {
					t.Errorf("partition %d: %q after %q", rec.Partition, v, last[rec.Partition])
				}
				last[rec.Partition] = v
			})
		}
		cl.Close()
		for v, n := range seen {
			if n != 1 {
				t.Fatalf("%q came %d times", v, n)
			}
		}
		if len(seen) != perCodec*len(codecs) {
			t.Errorf("%d of %d records", len(seen), perCodec*len(codecs))
		}
	}
}
