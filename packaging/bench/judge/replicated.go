package main

import (
	"fmt"
	"syscall"
	"time"

	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

const (
	replicatedBoxes      = 3
	replicatedPartitions = 3 // led by all boxes
	flushedOnAll         = "yes: fdatasync on every replica before the answer (one box: on it)"
)

// replicatedLoad is how a topic with a replica on every box is produced to.
type replicatedLoad struct {
	records             int // in a batch; one batch in a request
	connections, window int // connections to all partitions alike
}

var replicatedLoads = []replicatedLoad{{64, 6, 4}, {1, 6, 10}}

func (l replicatedLoad) String() string {
	if l.records == 1 {
		return fmt.Sprintf("one record of 1 KiB a request, %d × %d in flight", l.connections, l.window)
	}
	return fmt.Sprintf("batches of %d records of 1 KiB, %d × %d in flight", l.records, l.connections, l.window)
}

// measureReplicated: three boxes on this machine and its disk, three replicas of every partition, acks=all, beside one box with
// one replica. Both are up all the time, and one is loaded at a time. The processor time is that of all boxes.
func measureReplicated(b *bench) ([]row, error) {
	dir, err := b.clear("replicated")
	if err != nil {
		return nil, err
	}
	three, err := b.startBoxes(dir, replicatedBoxes)
	if err != nil {
		return nil, err
	}
	defer three.kill()
	one, err := b.startBoxes(dir, 1)
	if err != nil {
		return nil, err
	}
	defer one.kill()
	var rows []row
	for _, l := range replicatedLoads {
		got, err := b.replicatedRows(three, one, l)
		rows = append(rows, got...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// replicatedRows measures one load in turn.
func (b *bench) replicatedRows(three, one boxes, l replicatedLoad) ([]row, error) {
	figures := [2]struct{ speed, perCPU, p50, p99 measure.Figures }{}
	for i := range b.runs {
		for side, at := range []boxes{three, one} {
			got, err := b.replicatedRun(at, fmt.Sprintf("replicated-%d-%d", l.records, i), l)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at.name(), err)
			}
			megabytes := float64(got.Payload) / 1e6
			f := &figures[side]
			f.speed = append(f.speed, megabytes/got.Elapsed.Seconds())
			f.perCPU = append(f.perCPU, megabytes/got.cpu.Seconds())
			f.p50, f.p99 = append(f.p50, milliseconds(got.P50)), append(f.p99, milliseconds(got.P99))
		}
	}
	ours, beside := &figures[0], &figures[1]
	name := fmt.Sprintf("replication factor 3, acks=all, %v: ", l)
	line := func(what, unit string, cairn, floor measure.Figures) row {
		return row{name: name + what, unit: unit, cairn: cairn, floor: floor, durable: flushedOnAll}
	}
	speed := line("produced", "MB/s", ours.speed, beside.speed)
	speed.note = "3 boxes on this machine and disk; floor: the same load on one box with one replica; 3 partitions on both"
	return []row{speed, line("produced per processor time of all boxes", "MB/CPU-s", ours.perCPU, beside.perCPU),
		line("p50", "ms", ours.p50, beside.p50), line("p99", "ms", ours.p99, beside.p99)}, nil
}

// replicatedRun makes a topic, loads its leaders, and deletes it.
func (b *bench) replicatedRun(at boxes, topic string, l replicatedLoad) (loaded, error) {
	if _, err := at.createTopic(b.ctx, topic, replicatedPartitions); err != nil {
		return loaded{}, err
	}
	leaders, err := at.leaders(b.ctx, topic)
	if err != nil {
		return loaded{}, err
	}
	batch := frames.Batch(l.records, recordBytes, 1)
	var requests []*frames.Request
	for partition := range replicatedPartitions {
		requests = append(requests, frames.Produce(topic, int32(partition), batch))
	}
	got, err := b.runAll(at.pids(), load.Plan{Addresses: leaders, Connections: l.connections, Window: l.window, WarmUp: b.seconds(1), Measure: b.seconds(4),
		Talker: func(i int) load.Talker {
			return &load.Producer{Request: requests[i%replicatedPartitions], Topic: topic, Batch: len(batch)}
		}})
	if err != nil {
		return got, err
	}
	if err := at.deleteTopic(b.ctx, topic); err != nil {
		return got, err
	}
	syscall.Sync()
	select {
	case <-b.ctx.Done():
	case <-time.After(b.seconds(1)): // what is deleted is unlinked
	}
	return got, b.ctx.Err()
}
