package sim

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/engine/broker/batch"
)

// consumer reads all partitions from their beginning, commits where it is, and now and then starts again from what it has committed,
// as after a crash of its own.
type consumer struct {
	*kafkaClient
	group     string
	positions map[partitionName]int64
	seen      map[partitionName]map[string]int32 // the last record number of each producer
	fetching  map[uint64]bool

	coordinator uint64 // 0: not known
	busy        bool   // a request about the group is under way
	committed   map[partitionName]int64
	attempted   map[partitionName]int64 // the most that a commit may have written
	// unanswered are what commits without an answer have asked for: each may still be on its way, on a connection that was given up.
	unanswered map[partitionName]map[int64]bool
	restarting bool
	restarts   int
}

func newConsumer(w *world, n int) *consumer {
	c := &consumer{
		kafkaClient: newKafkaClient(w, fmt.Sprint("consumer ", n), 20+n), group: fmt.Sprint("group ", n), fetching: map[uint64]bool{},
		positions: map[partitionName]int64{}, seen: map[partitionName]map[string]int32{}, committed: map[partitionName]int64{}, attempted: map[partitionName]int64{},
	}
	c.unanswered = map[partitionName]map[int64]bool{}
	for _, p := range w.kafka.partitions {
		c.seen[p], c.unanswered[p] = map[string]int32{}, map[int64]bool{}
	}
	c.again(c.turn)
	return c
}

func (c *consumer) turn() {
	c.poll()
	r := c.w.rand()
	if !c.busy {
		switch {
		case c.coordinator == 0:
			c.findCoordinator()
		case r.IntN(25) == 0 && !c.restarting:
			c.restarting = true
			c.restart()
		case r.IntN(8) == 0 && !c.restarting:
			c.commit()
		case c.restarting:
			c.restart()
		}
	}
	c.w.sched.After(20*time.Millisecond+time.Duration(r.Int64N(int64(150*time.Millisecond))), c.name, func() {
		if !c.w.over {
			c.turn()
		}
	})
}

// poll asks each leader for what follows.
func (c *consumer) poll() {
	if c.restarting {
		return
	}
	at := map[uint64][]partitionName{}
	for _, p := range c.w.kafka.partitions {
		if box, ok := c.leader(p); ok {
			at[box] = append(at[box], p)
		}
	}
	for _, box := range c.w.ids {
		if len(at[box]) > 0 && !c.fetching[box] {
			c.fetch(box, at[box])
		}
	}
}

func (c *consumer) fetch(box uint64, parts []partitionName) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 200, 1, 1<<20
	req.SessionEpoch = -1
	asked, deleted := map[partitionName]int64{}, map[partitionName]int64{}
	for _, p := range parts {
		t := kmsg.NewFetchRequestTopic()
		t.Topic = p.topic
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes, part.CurrentLeaderEpoch = p.partition, c.positions[p], 1<<20, c.leaders[p].epoch
		t.Partitions = append(t.Partitions, part)
		req.Topics = append(req.Topics, t)
		asked[p], deleted[p] = c.positions[p], c.w.kafka.truth[p].deleted
	}
	c.fetching[box] = true
	restarts := c.restarts
	c.ask(box, req, 12, func(resp kmsg.Response, err error) {
		c.fetching[box] = false
		if err != nil {
			c.refresh()
			return
		}
		for _, t := range resp.(*kmsg.FetchResponse).Topics {
			for i := range t.Partitions {
				p := partitionName{t.Topic, t.Partitions[i].Partition}
				if c.restarts == restarts && asked[p] == c.positions[p] {
					c.fetched(box, p, deleted[p], &t.Partitions[i])
				}
			}
		}
	})
}

// fetched takes a partition's answer. What lay before offset deleted was deleted when it was asked for.
func (c *consumer) fetched(box uint64, p partitionName, deleted int64, r *kmsg.FetchResponseTopicPartition) {
	if at := r.LogStartOffset; r.ErrorCode == kerr.OffsetOutOfRange.Code && c.positions[p] < at && at <= c.w.kafka.truth[p].deleting {
		c.w.trace("%s reads %v from %d on instead of %d", c.name, p, at, c.positions[p])
		c.positions[p] = at
		clear(c.seen[p])
		return
	}
	if e := kerr.TypedErrorForCode(r.ErrorCode); e != nil {
		if !e.Retriable || e == kerr.OffsetOutOfRange {
			c.w.failf("%s reads %v from %d: %v", c.name, p, c.positions[p], e)
		}
		c.refresh()
		return
	}
	s := batch.Scan(r.RecordBatches)
	for s.Next() {
		h := s.Header()
		err := batch.Walk(h, s.Bytes()[batch.HeaderSize:], func(rec *batch.Record) error {
			if offset := h.BaseOffset + int64(rec.OffsetDelta); offset >= c.positions[p] {
				if offset < deleted {
					c.w.failf("%s reads offset %d of %v at box %d, and everything before %d was deleted", c.name, offset, p, box, deleted)
				}
				c.record(p, offset, string(rec.Value))
			}
			return nil
		})
		if err != nil {
			c.w.failf("%s reads %v: %v", c.name, p, err)
		}
	}
}

// record takes one: each producer's follow one another without a gap.
func (c *consumer) record(p partitionName, offset int64, value string) {
	if offset != c.positions[p] {
		c.w.failf("%s reads %v: record %d follows %d", c.name, p, offset, c.positions[p]-1)
	}
	c.positions[p] = offset + 1
	c.w.kafka.consumed(p, offset, value)
	var number int32
	who, err := c.w.kafka.parse(value, p, &number)
	if err != nil {
		c.w.failf("%s reads %v: record %d: %v", c.name, p, offset, err)
		return
	}
	if c.w.kafka.truth[p].again[value] {
		return
	}
	if last, ok := c.seen[p][who]; ok && number != last+1 || !ok && c.restarts == 0 && number != 0 && c.w.kafka.truth[p].deleting == 0 {
		c.w.failf("%s reads %v: at offset %d record %d of %s follows record %d", c.name, p, offset, number, who, last)
	}
	c.seen[p][who] = number
}

func (c *consumer) findCoordinator() {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey = c.group
	c.busy = true
	c.ask(c.pick(), req, 3, func(resp kmsg.Response, err error) {
		c.busy = false
		if err == nil {
			if r := resp.(*kmsg.FindCoordinatorResponse); r.ErrorCode == 0 {
				c.coordinator = uint64(r.NodeID)
			}
		}
	})
}

// commit writes down where the consumer is.
func (c *consumer) commit() {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = c.group, -1
	offsets := map[partitionName]int64{}
	for _, p := range c.w.kafka.partitions {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = p.topic
		part := kmsg.NewOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset = p.partition, c.positions[p]
		t.Partitions = append(t.Partitions, part)
		req.Topics = append(req.Topics, t)
		offsets[p] = c.positions[p]
		c.attempted[p] = max(c.attempted[p], c.positions[p])
	}
	c.busy = true
	at := c.coordinator
	c.ask(at, req, 8, func(resp kmsg.Response, err error) {
		c.busy = false
		if err != nil {
			c.coordinator = 0
			for p, offset := range offsets {
				c.unanswered[p][offset] = true
			}
			return
		}
		for _, t := range resp.(*kmsg.OffsetCommitResponse).Topics {
			for _, part := range t.Partitions {
				p := partitionName{t.Topic, part.Partition}
				switch e := kerr.TypedErrorForCode(part.ErrorCode); {
				case e == nil:
					c.w.trace("%s has committed %d of %v at box %d", c.name, offsets[p], p, at)
					c.committed[p] = offsets[p]
				case e.Retriable:
					c.coordinator = 0
					c.unanswered[p][offsets[p]] = true
				default:
					c.w.failf("%s commits %d of %v: %v", c.name, offsets[p], p, e)
				}
			}
		}
	})
}

// restart goes on from what was committed. One commit is under way at a time, and this waits for it, so that what is found is what was
// acknowledged last, or something that had no answer.
func (c *consumer) restart() {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = c.group, true
	for _, p := range c.w.kafka.partitions {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = p.topic, []int32{p.partition}
		req.Topics = append(req.Topics, t)
	}
	c.busy = true
	c.ask(c.coordinator, req, 7, func(resp kmsg.Response, err error) {
		c.busy = false
		if err != nil {
			c.coordinator = 0
			return
		}
		r := resp.(*kmsg.OffsetFetchResponse)
		if e := kerr.TypedErrorForCode(r.ErrorCode); e != nil {
			if !e.Retriable {
				c.w.failf("%s asks for its offsets: %v", c.name, e)
			}
			c.coordinator = 0
			return
		}
		c.restarting = false
		c.restarts++
		c.w.kafka.restarts++
		for _, t := range r.Topics {
			for _, part := range t.Partitions {
				p := partitionName{t.Topic, part.Partition}
				c.w.trace("%s is told %d of %v", c.name, part.Offset, p)
				if at := max(part.Offset, 0); at < c.committed[p] && !c.unanswered[p][at] || at > c.attempted[p] {
					c.w.failf("%s had committed %d of %v, tried %d at most, and is told %d", c.name, c.committed[p], p, c.attempted[p], part.Offset)
				}
				c.positions[p], c.committed[p] = max(part.Offset, 0), max(part.Offset, 0)
				clear(c.seen[p])
			}
		}
	})
}

// done tells whether everything was read.
func (c *consumer) done() bool {
	if c.restarting {
		return false
	}
	for _, p := range c.w.kafka.partitions {
		if c.positions[p] < c.w.kafka.truth[p].end() {
			return false
		}
	}
	return true
}
