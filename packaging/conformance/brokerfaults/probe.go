package main

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/packaging/conformance/boxes"
)

const (
	refresh       = 50 * time.Millisecond  // between two looks at the metadata
	refreshMax    = 200 * time.Millisecond // for one
	probePace     = 20 * time.Millisecond  // between two records of a partition
	probePatience = 10 * time.Second       // for an acknowledgement; a change of leader ends it
	retryPace     = 5 * time.Millisecond
	metadataAt    = 9 // versions that name topics by name and tell the leader's epoch
	produceAt     = 9
)

// leadership is who leads a partition, as the metadata that was seen says.
type leadership struct {
	box     int
	epoch   int32
	changed chan struct{} // closed when it is no longer so
}

// Prober measures how long no record of a partition is acknowledged, with a client that refreshes its metadata every 50 ms
// from all boxes, and asks another leader as soon as it knows of one.
type Prober struct {
	ledger  *Ledger
	address func(box int) string
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // protects what follows
	now   []leadership
	first []time.Time // by place: first acknowledgement of what was sent after the fault
	fault time.Time
}

// StartProber looks at the metadata and produces nothing yet.
func StartProber(ledger *Ledger, address func(box int) string) *Prober {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Prober{ledger: ledger, address: address, cancel: cancel, now: make([]leadership, len(ledger.Places)), first: make([]time.Time, len(ledger.Places))}
	for i := range p.now {
		p.now[i] = leadership{epoch: -1, changed: make(chan struct{})}
	}
	for box := 1; box <= boxes.Count; box++ {
		p.running.Go(func() { p.look(ctx, box) })
	}
	return p
}

// Close ends it.
func (p *Prober) Close() {
	p.cancel()
	p.running.Wait()
}

// Led are the places that a box leads.
func (p *Prober) Led(box int) (places []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.now {
		if l.box == box {
			places = append(places, i)
		}
	}
	return places
}

// look asks one box for the metadata again and again.
func (p *Prober) look(ctx context.Context, box int) {
	var w *wire
	for ctx.Err() == nil {
		began := time.Now()
		var err error
		if w == nil {
			w, err = dialWire(ctx, p.address(box))
		}
		if err == nil {
			var answer kmsg.Response
			q := kmsg.NewPtrMetadataRequest()
			q.SetVersion(metadataAt)
			if answer, err = w.ask(q, refreshMax); err == nil {
				p.learn(answer.(*kmsg.MetadataResponse))
			} else {
				w.Close()
				w = nil
			}
		}
		boxes.Pause(ctx, refresh-time.Since(began))
	}
	if w != nil {
		w.Close()
	}
}

func (p *Prober) learn(m *kmsg.MetadataResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range m.Topics {
		for _, q := range t.Partitions {
			place := -1
			if t.Topic != nil {
				place = p.ledger.Place(*t.Topic, q.Partition)
			}
			if place < 0 || q.Leader < 1 || q.LeaderEpoch <= p.now[place].epoch {
				continue
			}
			close(p.now[place].changed)
			p.now[place] = leadership{int(q.Leader), q.LeaderEpoch, make(chan struct{})}
		}
	}
}

func (p *Prober) leader(place int) leadership {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[place]
}

// Run is the probing of some partitions around one fault.
type Run struct {
	p      *Prober
	places []int
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Probe begins to produce to places.
func (p *Prober) Probe(places []int) *Run {
	p.mu.Lock()
	p.first, p.fault = make([]time.Time, len(p.ledger.Places)), time.Time{}
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Run{p: p, places: places, cancel: cancel}
	for _, place := range places {
		r.done.Go(func() { p.probe(ctx, place) })
	}
	return r
}

// Fault notes when the fault happened.
func (r *Run) Fault(at time.Time) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.p.first, r.p.fault = make([]time.Time, len(r.p.ledger.Places)), at
}

// End waits until each partition has acknowledged a record that was sent after the fault, and gives the times; one that has
// none until the context ends has the time until then.
func (r *Run) End(ctx context.Context) (times []time.Duration, all bool) {
	all = true
	for _, place := range r.places {
		for {
			r.p.mu.Lock()
			at, fault := r.p.first[place], r.p.fault
			r.p.mu.Unlock()
			if !at.IsZero() {
				times = append(times, at.Sub(fault))
				break
			}
			if ctx.Err() != nil {
				times, all = append(times, time.Since(fault)), false
				break
			}
			boxes.Pause(ctx, retryPace)
		}
	}
	r.Stop()
	return times, all
}

// Stop ends the probing.
func (r *Run) Stop() {
	r.cancel()
	r.done.Wait()
}

// probe produces one record after the other to a partition.
func (p *Prober) probe(ctx context.Context, place int) {
	var w *wire
	to := leadership{}
	for ctx.Err() == nil {
		if l := p.leader(place); w == nil || l.epoch != to.epoch {
			if w != nil {
				w.Close()
				w = nil
			}
			to = l
			var err error
			if to.box == 0 {
				boxes.Pause(ctx, retryPace)
				continue
			}
			if w, err = dialWire(ctx, p.address(to.box)); err != nil {
				w = nil
				boxes.Pause(ctx, retryPace)
				continue
			}
		}
		sent := time.Now()
		offset, id, err := p.produce(ctx, w, place, to.changed)
		if err == nil {
			p.acked(place, id, offset, sent)
			boxes.Pause(ctx, probePace)
			continue
		}
		if kerr.IsRetriable(err) { // the connection is still of use
			boxes.Pause(ctx, retryPace)
			continue
		}
		w.Close()
		w = nil
		boxes.Pause(ctx, retryPace)
	}
	if w != nil {
		w.Close()
	}
}

// produce sends one record with acks=all. The change of the leader ends it.
func (p *Prober) produce(ctx context.Context, w *wire, place int, changed <-chan struct{}) (int64, ID, error) {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-changed:
		case <-ctx.Done():
		case <-ended:
			return
		}
		w.Close()
	}()
	id := p.ledger.NextProbe()
	at := p.ledger.Places[place]
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(produceAt)
	q.Acks, q.TimeoutMillis = -1, int32(probePatience.Milliseconds())
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = at.Partition, batchOf(value(id, valueHeadBytes))
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = at.Topic, append(t.Partitions, part)
	q.Topics = append(q.Topics, t)
	answer, err := w.ask(q, probePatience+time.Second)
	if err != nil {
		return 0, id, err
	}
	r := answer.(*kmsg.ProduceResponse)
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return 0, id, kerr.UnknownServerError
	}
	return r.Topics[0].Partitions[0].BaseOffset, id, kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
}

func (p *Prober) acked(place int, id ID, offset int64, sent time.Time) {
	p.ledger.Acked(place, id, offset)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fault.IsZero() && sent.After(p.fault) && p.first[place].IsZero() {
		p.first[place] = time.Now()
	}
}

// Stock measures the same with franz-go as it comes.
type Stock struct {
	*Prober
	client *kgo.Client
	gate   *Gate
}

// StartStock begins to produce to all places, one record after the other, while the gate is open.
func StartStock(ledger *Ledger, seeds []string) (*Stock, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Stock{gate: NewGate(), Prober: &Prober{ledger: ledger, cancel: cancel, first: make([]time.Time, len(ledger.Places))}, client: client}
	for place, at := range ledger.Places {
		s.running.Go(func() {
			for s.gate.Enter(ctx) {
				id, sent := ledger.NextProbe(), time.Now()
				// The record's own context is never cancelled: one that may be on its way is not given up.
				r, err := client.ProduceSync(context.Background(), &kgo.Record{Topic: at.Topic, Partition: at.Partition, Value: value(id, valueHeadBytes)}).First()
				if err == nil {
					s.acked(place, id, r.Offset, sent)
				} else if ctx.Err() == nil {
					ledger.Violation("%v: stock franz-go gave %v up: %v", at, id, err)
				}
				s.gate.Leave()
				boxes.Pause(ctx, 5*probePace)
			}
		})
	}
	return s, nil
}

// Fault notes when the fault happened.
func (s *Stock) Fault(at time.Time) { (&Run{p: s.Prober}).Fault(at) }

// Times are those of some places, as Run.End gives them.
func (s *Stock) Times(ctx context.Context, places []int) []time.Duration {
	times, _ := (&Run{p: s.Prober, places: places, cancel: func() {}}).End(ctx)
	return times
}

// Close ends it, and gives up what is under way.
func (s *Stock) Close() {
	s.cancel()
	s.client.Close()
	s.running.Wait()
}
