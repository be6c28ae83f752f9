package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	sizeMax      = 8 << 10
	sizeWhenFull = 64                   // of records beyond the round's allowance
	pauseWhenDue = 2 * time.Millisecond // between them
	inFlightMax  = 500                  // records that one producer buffers
)

// Allowance bounds the bytes that a round adds to the log. Beyond it the producers go on with small records.
type Allowance struct{ left atomic.Int64 }

// Producer makes numbered records for its partitions, idempotent and with acks=all, until it is closed.
type Producer struct {
	client  *kgo.Client
	cancel  context.CancelFunc
	closing atomic.Bool
	done    sync.WaitGroup
}

// StartProducer starts a producer. It tries for ever: only Close makes it give up a record.
func StartProducer(ledger *Ledger, allowance *Allowance, seeds string, partitions []int32, codec kgo.CompressionCodec, seed uint64) (*Producer, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.StopProducerOnDataLossDetected(), kgo.ProducerBatchCompression(codec),
		kgo.MaxBufferedRecords(inFlightMax), kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(time.Millisecond),
		kgo.RetryBackoffFn(quickly), kgo.MetadataMinAge(metadataAge), kgo.DialTimeout(dialTimeout))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Producer{client: client, cancel: cancel}
	p.done.Go(func() { p.produce(ctx, ledger, allowance, partitions, rand.New(rand.NewPCG(seed, 2))) })
	return p, nil
}

func (p *Producer) produce(ctx context.Context, ledger *Ledger, allowance *Allowance, partitions []int32, random *rand.Rand) {
	for ctx.Err() == nil {
		size := payloadHeadBytes + random.IntN(sizeMax)
		if allowance.left.Add(int64(-size)) < 0 {
			size = sizeWhenFull
			select {
			case <-ctx.Done():
				return
			case <-time.After(pauseWhenDue):
			}
		}
		partition := partitions[random.IntN(len(partitions))]
		number := ledger.Next(partition)
		record := &kgo.Record{Partition: partition, Value: payload(partition, number, size)}
		// The record's own context is never cancelled: a record that may be on its way must not be given up.
		p.client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			switch {
			case err == nil:
				ledger.Acked(partition, number, r.Offset, len(r.Value))
			case p.closing.Load() && (errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled)):
				// The client says either, by where a record was when it was closed.
				ledger.GaveUp(partition, number)
			default:
				ledger.GaveUp(partition, number)
				ledger.Fault("partition %d: record %d was refused: %v", partition, number, err)
			}
		})
	}
}

// Pause ends the making of records and waits until every one that was made is acknowledged.
func (p *Producer) Pause(ctx context.Context) error {
	p.cancel()
	p.done.Wait()
	return p.client.Flush(ctx)
}

// Close gives up what is not acknowledged. While the box is alive, Pause must come first.
func (p *Producer) Close() {
	p.closing.Store(true)
	p.cancel()
	p.client.Close()
	p.done.Wait()
}
