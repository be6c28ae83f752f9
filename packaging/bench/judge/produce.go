package main

import (
	"fmt"
	"path/filepath"
	"syscall"

	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

const (
	produceTarget = 0.60
	recordBytes   = 1 << 10
	flushedBefore = "yes, both: fdatasync before the answer"
)

// shape is how 64 requests in flight are spread over connections.
type shape struct {
	connections, window int
	headline            bool // the one that the target is about
}

var produceShapes = []shape{{4, 16, true}, {64, 1, false}, {1, 64, false}}

func (s shape) String() string {
	return fmt.Sprintf("%d × %d in flight", s.connections, s.window)
}

// measureProduce: one record of 1 KiB in each request, acks=all, one partition, 64 requests in flight. The floor reads the
// same frames, writes and flushes them in groups and echoes a response of the same size.
func measureProduce(b *bench) ([]row, error) {
	dir, err := b.clear("produce")
	if err != nil {
		return nil, err
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return nil, err
	}
	defer cairn.Kill()
	floor, err := b.startFloor("produce", "-file", filepath.Join(dir, "floor.log"))
	if err != nil {
		return nil, err
	}
	defer floor.stop()
	var rows []row
	for _, s := range produceShapes {
		var ours, floors, oursCPU, floorsCPU measure.Figures
		var last [2]loaded
		for i := range b.runs {
			topic := fmt.Sprintf("produce-%d-%d-%d", s.connections, s.window, i)
			if err := b.createTopic(cairn, topic, 1); err != nil {
				return rows, err
			}
			got, err := b.run(cairn.PID(), b.producePlan(cairn.Kafka, topic, s))
			if err != nil {
				return rows, err
			}
			if err := b.deleteTopic(cairn, topic); err != nil {
				return rows, err
			}
			syscall.Sync()
			beside, err := b.run(floor.cmd.Process.Pid, b.producePlan(floor.address, "bench", s))
			if err != nil {
				return rows, fmt.Errorf("floor: %w", err)
			}
			syscall.Sync()
			ours, floors = append(ours, got.PerSecond()), append(floors, beside.PerSecond())
			oursCPU, floorsCPU = append(oursCPU, got.cpuPerRequest()), append(floorsCPU, beside.cpuPerRequest())
			last = [2]loaded{got, beside}
		}
		name := fmt.Sprintf("produce 1 KiB, acks=all, %v", s)
		r := row{name: name, unit: "requests/s", cairn: ours, floor: floors, durable: flushedBefore}
		if s.headline {
			r = r.ratio(produceTarget, true)
			r.name = "**" + name + "** (headline)"
		}
		r.note = fmt.Sprintf("last run p50/p99 in ms: cairn %.2f/%.2f, floor %.2f/%.2f",
			milliseconds(last[0].P50), milliseconds(last[0].P99), milliseconds(last[1].P50), milliseconds(last[1].P99))
		rows = append(rows, r, row{name: name + ": server's processor time", unit: "µs/request", cairn: oursCPU, floor: floorsCPU, durable: flushedBefore})
	}
	return rows, nil
}

func (b *bench) producePlan(address, topic string, s shape) load.Plan {
	batch := frames.Batch(1, recordBytes, 1)
	request := frames.Produce(topic, 0, batch)
	return load.Plan{Address: address, Connections: s.connections, Window: s.window, WarmUp: b.seconds(1), Measure: b.seconds(4),
		Talker: func(int) load.Talker { return &load.Producer{Request: request, Topic: topic, Batch: len(batch)} }}
}
