package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
	"cairn/packaging/bench/table"
)

const (
	boxCount  = 4
	loadTopic = "load"
	moveTopic = "moved"
	// recordBytes is the record of the load's requests, connections and window how they are spread while the most is looked for.
	recordBytes = 1 << 10
	connections = 16
	window      = 16
	pacedWindow = 256 // a late answer must not hold the next request back
	// fillBytes is one batch of the topic that moves, fillWindow how many are on their way on each of its partitions.
	fillBytes   = 256 << 10
	fillWindow  = 4
	latenessMax = 2.0 // p99 during the move, beside the p99 before it and after it
)

// Where the replicas are. The load is on all boxes, three replicas of each partition, every box leads as many; what moves is
// led by boxes 1 and 2, and goes to box 3: as leader of half of it.
var (
	loadReplicas = [][]int32{{1, 2, 3}, {2, 3, 4}, {3, 4, 1}, {4, 1, 2}, {1, 3, 4}, {2, 4, 1}, {3, 1, 2}, {4, 2, 3}}
	moveFrom     = [][]int32{{1, 2}, {2, 1}, {1, 2}, {2, 1}}
	moveTo       = [][]int32{{1, 3}, {2, 3}, {3, 2}, {3, 1}}
	receiver     = 3
)

// measure runs everything.
func (b *bench) measure() (rows []table.Row, err error) {
	c, err := startCluster(b.ctx, b.cairn, b.dir, boxCount)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := errors.Join(c.create(b.ctx, loadTopic, loadReplicas), c.create(b.ctx, moveTopic, moveFrom)); err != nil {
		return nil, err
	}
	progress("filling %s", moveTopic)
	if err := b.fill(c); err != nil {
		return nil, fmt.Errorf("fill %s: %w", moveTopic, err)
	}
	cache := "what moves is in the page cache"
	if !b.warm {
		if cache, err = measure.DropCache(c.data...); err != nil {
			return nil, err
		}
	}
	most, err := load.Run(b.ctx, b.produce(c, 0, b.seconds(10)))
	if err != nil {
		return nil, fmt.Errorf("measure the most: %w", err)
	}
	rate := b.part * most.PerSecond()
	progress("%.0f requests/s at most, p50 %v, p99 %v; %.0f offered", most.PerSecond(), most.P50, most.P99, rate)
	if b.turns {
		return b.takeTurns(c, rate)
	}
	before, err := load.Run(b.ctx, b.produce(c, rate, b.seconds(20)))
	if err != nil {
		return nil, fmt.Errorf("measure before the move: %w", err)
	}
	progress("before: p50 %v, p99 %v", before.P50, before.P99)
	m, err := b.move(c, rate)
	if err != nil {
		return nil, fmt.Errorf("measure the move: %w", err)
	}
	progress("during: p50 %v, p99 %v, %.1f MB/s", m.served.P50, m.served.P99, m.arrival.mean()/1e6)
	after, err := load.Run(b.ctx, b.produce(c, rate, b.seconds(20)))
	if err != nil {
		return nil, fmt.Errorf("measure after the move: %w", err)
	}
	progress("after: p50 %v, p99 %v", after.P50, after.P99)
	return b.rows(most, rate, before, after, m, cache), nil
}

// rows are what was seen.
func (b *bench) rows(most load.Result, rate float64, before, after load.Result, m moved, cache string) []table.Row {
	bytes := m.arrival.all[len(m.arrival.all)-1].bytes - m.arrival.all[0].bytes
	name := fmt.Sprintf("%d boxes, %.0f MB to another box while %.0f %% of the most is produced", boxCount, float64(bytes)/1e6, 100*b.part)
	limit := table.AtMost
	if b.rate == 0 {
		name, limit = name+", no throttle", 0
	} else {
		name += fmt.Sprintf(", throttle %.0f MB/s", float64(b.rate)/1e6)
	}
	ms := func(d time.Duration) float64 { return 1e3 * d.Seconds() }
	beside := func(now, was, is time.Duration) float64 { return 2 * now.Seconds() / (was + is).Seconds() }
	quiet := func(r load.Result) string { return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(r.P50), ms(r.P99)) }
	return []table.Row{
		{Name: fmt.Sprintf("%d boxes: most produced, 1 KiB a request, %d partitions with three replicas, %d × %d in flight", boxCount, len(loadReplicas), connections, window),
			Value: most.PerSecond(), Unit: "requests/s", Note: quiet(most)},
		{Name: name + ": bytes moved, highest over 5 s", Value: m.arrival.highest(windowTime) / 1e6, Unit: "MB/s", Target: float64(b.rate) / 1e6, Promise: limit,
			Note: fmt.Sprintf("highest over 1 s %s MB/s; %s", measure.Number(m.arrival.highest(time.Second)/1e6), cache)},
		{Name: name + ": bytes moved, mean", Value: m.arrival.mean() / 1e6, Unit: "MB/s", Target: float64(b.rate) / 1e6, Promise: limit},
		{Name: name + ": from the request to the end of the reassignment", Value: m.took.Seconds(), Unit: "s", Note: fmt.Sprintf("the bytes came within %.1f s", m.arrival.took().Seconds())},
		{Name: name + ": produced meanwhile", Value: m.served.PerSecond(), Unit: "requests/s", Target: 0.99 * rate, Promise: table.AtLeast, Note: measure.Number(rate) + "/s offered"},
		{Name: name + ": p99 of the requests", Value: ms(m.served.P99), Unit: "ms", Note: fmt.Sprintf("before %s; after %s", quiet(before), quiet(after))},
		{Name: name + ": p99 beside the mean of before and after", Value: beside(m.served.P99, before.P99, after.P99), Unit: "times", Target: latenessMax, Promise: table.AtMost},
		{Name: name + ": p50 of the requests", Value: ms(m.served.P50), Unit: "ms", Note: fmt.Sprintf("%s times before and after", measure.Number(beside(m.served.P50, before.P50, after.P50)))},
		{Name: name + ": processor time of the box that gets the replicas", Value: 1e3 * m.cpu[receiver-1].Seconds() / m.took.Seconds(), Unit: "ms/s",
			Note: fmt.Sprintf("boxes 1 to %d: %v", boxCount, m.cpu)},
	}
}

// fill writes what moves.
func (b *bench) fill(c *cluster) error {
	batch, err := frames.BatchOfBytes(fillBytes, 1)
	if err != nil {
		return err
	}
	plan := b.lanes(c, moveTopic, moveFrom, batch)
	plan.Connections, plan.Window, plan.Requests = len(moveFrom), fillWindow, uint64(b.moved/fillBytes)
	_, err = load.Run(b.ctx, plan)
	return err
}

// produce is the load: at a rate, or as much as goes.
func (b *bench) produce(c *cluster, rate float64, measured time.Duration) load.Plan {
	plan := b.lanes(c, loadTopic, loadReplicas, frames.Batch(1, recordBytes, 1))
	plan.Connections, plan.Window, plan.WarmUp, plan.Measure = connections, window, b.seconds(3), measured
	if rate > 0 {
		plan.Rate, plan.Window = rate, pacedWindow
	}
	return plan
}

// lanes is a plan whose connections take a topic's partitions in turn, each at its leader, the first replica.
func (b *bench) lanes(c *cluster, topic string, replicas [][]int32, batch []byte) load.Plan {
	var addresses []string
	var requests []*frames.Request
	for p, list := range replicas {
		addresses = append(addresses, c.boxes[list[0]-1].Kafka)
		requests = append(requests, frames.Produce(topic, int32(p), batch))
	}
	return load.Plan{Addresses: addresses, Talker: func(i int) load.Talker {
		return &load.Producer{Request: requests[i%len(requests)], Topic: topic, Batch: len(batch)}
	}}
}

// moved is what was seen during a move.
type moved struct {
	served  load.Result
	arrival *arrival
	took    time.Duration // from the request to the end of the reassignment
	cpu     []time.Duration
}

// move moves the replicas under the load. What is measured begins with the request and ends with the reassignment.
func (b *bench) move(c *cluster, rate float64) (m moved, err error) {
	if b.rate > 0 {
		if err := c.throttle(b.ctx, moveTopic, b.rate, moveFrom, moveTo); err != nil {
			return m, err
		}
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	begun, stop := make(chan struct{}), make(chan struct{})
	plan := b.produce(c, rate, 0)
	plan.Until = stop
	plan.Mark = func(begin bool) {
		if begin {
			close(begun)
		}
	}
	type outcome struct {
		load.Result
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		got, err := load.Run(ctx, plan)
		ended <- outcome{got, err}
	}()
	select {
	case <-begun:
	case got := <-ended:
		return m, got.err
	}
	m.arrival = watchArrival(c.data[receiver-1], moveTopic)
	err = b.moveNow(c, &m)
	close(stop)
	served := <-ended
	m.served = served.Result
	return m, errors.Join(err, served.err, m.arrival.end())
}

// movePatience bounds a move.
const movePatience = 10 * time.Minute

func (b *bench) moveNow(c *cluster, m *moved) error {
	ctx, cancel := context.WithTimeout(b.ctx, movePatience)
	defer cancel()
	used, err := c.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := c.reassign(ctx, moveTopic, moveTo); err != nil {
		return err
	}
	err = poll(ctx, "the reassignment has ended", pollPauseLong, func() (bool, error) {
		moving, err := c.moving(ctx, moveTopic, len(moveTo))
		return !moving, err
	})
	m.took = time.Since(begin)
	if err != nil {
		return err
	}
	if m.cpu, err = c.cpu(); err != nil {
		return err
	}
	for i := range m.cpu {
		m.cpu[i] -= used[i]
	}
	got, err := logBytes(c.data[receiver-1], moveTopic)
	if err == nil && got < b.moved*99/100 {
		err = fmt.Errorf("only %d of %d bytes have moved", got, b.moved)
	}
	return err
}
