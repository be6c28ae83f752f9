package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/packaging/conformance/boxes"
)

const (
	producersCount = 4
	sizeMax        = 700
	pace           = 8 * time.Millisecond // between two records of one producer
	inFlightMax    = 200                  // records that one producer buffers
	metadataAge    = 50 * time.Millisecond
	dialTimeout    = 500 * time.Millisecond
)

// quickly is the pause before a client tries again.
func quickly(tries int) time.Duration {
	return min(time.Duration(tries)*10*time.Millisecond, 100*time.Millisecond)
}

// clientOptions are those of all clients but the stock one.
func clientOptions(seeds []string, more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.RetryBackoffFn(quickly), kgo.MetadataMinAge(metadataAge), kgo.MetadataMaxAge(time.Second), kgo.DialTimeout(dialTimeout),
	}, more...)
}

// Producer makes numbered records for its keys, idempotent and with acks=all. It gives no record up.
type Producer struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// StartProducer starts one that makes records of all keys that leave the remainder when divided by the number of producers.
func StartProducer(ledger *Ledger, seeds []string, number, keys int, gate *Gate, seed uint64) (*Producer, error) {
	client, err := kgo.NewClient(clientOptions(seeds, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.StopProducerOnDataLossDetected(), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(inFlightMax),
		kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(time.Millisecond))...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Producer{client: client, cancel: cancel}
	p.done.Go(func() { p.produce(ctx, ledger, number, keys, gate, rand.New(rand.NewPCG(seed, uint64(number)))) })
	return p, nil
}

func (p *Producer) produce(ctx context.Context, ledger *Ledger, number, keys int, gate *Gate, random *rand.Rand) {
	mine := keys / producersCount
	for gate.Enter(ctx) {
		// Every partition has keys of every producer; a key belongs to one.
		key := int32(random.IntN(mine)*producersCount + number)
		place := ledger.PlaceOf(key)
		at, id := ledger.Places[place], ledger.Next(key)
		record := &kgo.Record{Topic: at.Topic, Partition: at.Partition, Value: value(id, valueHeadBytes+random.IntN(sizeMax))}
		// The record's own context is never cancelled: a record that may be on its way must not be given up.
		p.client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			if err == nil {
				ledger.Acked(place, id, r.Offset)
				return
			}
			ledger.Refused(id)
			if ctx.Err() == nil {
				ledger.Violation("%v: producer %d had %v refused: %v", at, number, id, err)
			}
		})
		gate.Leave()
		boxes.Pause(ctx, pace)
	}
}

// Close gives up what is not acknowledged: Flush comes first.
func (p *Producer) Close() {
	p.cancel()
	p.client.Close()
	p.done.Wait()
}

// Gate lets producers make records, or not.
type Gate struct {
	mu     sync.Mutex    // protects what follows
	open   chan struct{} // closed while records may be made
	inside int
}

// NewGate makes one that is shut.
func NewGate() *Gate { return &Gate{open: make(chan struct{})} }

// Enter waits until the gate is open. Leave must follow if it returns true.
func (g *Gate) Enter(ctx context.Context) bool {
	for ctx.Err() == nil {
		g.mu.Lock()
		open := g.open
		select {
		case <-open:
			g.inside++
			g.mu.Unlock()
			return true
		default:
		}
		g.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
		}
	}
	return false
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
}

// Open opens the gate.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// Shut shuts it and waits until nobody is inside; it reports false if somebody still is when the context ends, for a full
// buffer holds producers up.
func (g *Gate) Shut(ctx context.Context) bool {
	g.mu.Lock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
	g.mu.Unlock()
	for {
		g.mu.Lock()
		inside := g.inside
		g.mu.Unlock()
		if inside == 0 || ctx.Err() != nil {
			return inside == 0
		}
		boxes.Pause(ctx, boxes.PollPause)
	}
}
