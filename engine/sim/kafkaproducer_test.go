package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/engine/broker/batch"
)

// producer is an idempotent producer (KIP-98): several batches of a partition are on their way at a time, and those that fail are
// sent again in their order and with their numbers, until they are acknowledged.
type producer struct {
	*kafkaClient
	id       int64 // -1 until the cluster gave one
	epoch    int16
	lines    map[partitionName]*produceLine
	draining bool
}

// produceLine is one partition's batches.
type produceLine struct {
	next    int32 // record number, which is its sequence
	batches []*produced
	pause   time.Duration // nothing is sent before
	box     uint64        // to which what is on its way was sent
}

// produced is a batch that is not acknowledged.
type produced struct {
	first  int32
	values []string
	onWay  bool
	tries  int
}

const (
	batchesMax = 4 // a broker remembers five
	// triesMax is how often a batch may be out of order.
	triesMax = 200
)

func newProducer(w *world, n int) *producer {
	p := &producer{kafkaClient: newKafkaClient(w, fmt.Sprint("producer ", n), 10+n), id: -1, lines: map[partitionName]*produceLine{}}
	for _, name := range w.kafka.partitions {
		p.lines[name] = &produceLine{}
	}
	p.again(p.begin)
	return p
}

// begin asks for a producer id.
func (p *producer) begin() {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = -1, -1
	p.ask(p.pick(), req, 4, func(resp kmsg.Response, err error) {
		if err == nil {
			r := resp.(*kmsg.InitProducerIDResponse)
			if e := kerr.TypedErrorForCode(r.ErrorCode); e != nil && !e.Retriable {
				p.w.failf("%s is given no id: %v", p.name, e)
				return
			}
			if r.ErrorCode == 0 {
				p.id, p.epoch = r.ProducerID, r.ProducerEpoch
				p.w.kafka.producerID(p, r.ProducerID)
				p.turn()
				return
			}
		}
		p.again(p.begin)
	})
}

func (p *producer) turn() {
	r := p.w.rand()
	for _, name := range p.w.kafka.partitions {
		l := p.lines[name]
		if !p.draining && len(l.batches) < batchesMax && r.IntN(3) == 0 {
			b := &produced{first: l.next}
			for range 1 + r.IntN(3) {
				b.values = append(b.values, fmt.Sprintf("%s %v %d", p.name, name, l.next))
				l.next++
			}
			l.batches = append(l.batches, b)
		}
		p.push(name, l)
	}
	p.w.sched.After(10*time.Millisecond+time.Duration(r.Int64N(int64(200*time.Millisecond))), p.name, func() {
		if !p.w.over {
			p.turn()
		}
	})
}

// idle tells whether everything is acknowledged.
func (p *producer) idle() bool {
	for _, l := range p.lines {
		if len(l.batches) > 0 {
			return false
		}
	}
	return true
}

// push sends what is not on its way. A batch is not sent before those in front of it, nor to another broker than they, nor before one
// that has failed.
func (p *producer) push(name partitionName, l *produceLine) {
	box, ok := p.leader(name)
	if !ok || p.w.now() < l.pause {
		return
	}
	for i, b := range l.batches {
		if !b.onWay {
			continue
		}
		if slices.ContainsFunc(l.batches[:i], func(b *produced) bool { return !b.onWay }) || box != l.box {
			return
		}
	}
	l.box = box
	for _, b := range l.batches {
		if !b.onWay {
			p.send(box, name, l, b)
		}
		if b.tries > 1 {
			return // what is sent again is sent alone, as by Kafka's producer: a broker remembers five batches
		}
	}
}

func (p *producer) send(box uint64, name partitionName, l *produceLine, b *produced) {
	builder := batch.NewBuilder(batch.Options{LeaderEpoch: -1, ProducerID: p.id, ProducerEpoch: p.epoch, BaseSequence: b.first})
	for _, v := range b.values {
		builder.Append(p.w.clock.Now().UnixMilli(), []byte(p.name), []byte(v))
	}
	records, err := builder.Build(nil)
	if err != nil {
		p.w.failf("%v", err)
		return
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1500
	t := kmsg.NewProduceRequestTopic()
	t.Topic = name.topic
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = name.partition, records
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	b.onWay = true
	b.tries++
	p.ask(box, req, 9, func(resp kmsg.Response, err error) {
		b.onWay = false
		if err != nil {
			p.later(l)
			return
		}
		r := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		p.answered(name, l, b, r.ErrorCode, r.BaseOffset)
	})
}

func (p *producer) answered(name partitionName, l *produceLine, b *produced, code int16, offset int64) {
	switch e := kerr.TypedErrorForCode(code); {
	case code == 0:
		p.w.kafka.acknowledged(name, offset, b.values)
		for i, other := range l.batches {
			if other == b {
				l.batches = append(l.batches[:i:i], l.batches[i+1:]...)
				return
			}
		}
	case code == kerr.OutOfOrderSequenceNumber.Code && b.tries < triesMax || e.Retriable:
		p.later(l) // a leader that is cut off and does not know that it leads no more has not seen the last ones
	default:
		p.w.failf("%s: batch %d of %v, tried %d times, is refused: %v", p.name, b.first, name, b.tries, e)
	}
}

// later sends again in a while, to whoever leads then.
func (p *producer) later(l *produceLine) {
	p.refresh()
	l.pause = p.w.now() + time.Duration(p.w.rand().Int64N(int64(100*time.Millisecond)))
}
