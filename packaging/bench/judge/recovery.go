package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

const (
	recoveryTargetMs   = 1000
	recoveryBytes      = 10 << 30
	recoveryBytesShort = 512 << 20
	recoveryPartitions = 8
	recoveryTopic      = startTopic
)

// measureRecovery: a log of 10 GB, killed with kill -9 under produce; with the page cache dropped, from the start of the
// process to /readyz, and to the first record acknowledged after that. The floor is the floor program's own start, as cold.
func measureRecovery(b *bench) ([]row, error) {
	dir, err := b.clear("recovery")
	if err != nil {
		return nil, err
	}
	size := recoveryBytes
	if b.short {
		size = recoveryBytesShort
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return nil, err
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < uint64(size)*3/2 {
		return nil, fmt.Errorf("%s has %d bytes free, the log needs %d and some room", dir, free, size)
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return nil, err
	}
	defer cairn.Kill()
	if err := b.createTopic(cairn, recoveryTopic, recoveryPartitions); err != nil {
		return nil, err
	}
	batch, err := frames.BatchOfBytes(512<<10, 1)
	if err != nil {
		return nil, err
	}
	filling := recoveryPlan(cairn.Kafka, batch)
	filling.Requests = uint64(size / len(batch))
	if _, err := load.Run(b.ctx, filling); err != nil {
		return nil, err
	}
	var ours, acks, floors measure.Figures
	var how string
	for range b.runs {
		if err := b.killUnderLoad(cairn); err != nil {
			return nil, err
		}
		if how, err = measure.DropCache(dir, b.cairn, b.floor); err != nil {
			return nil, err
		}
		var ready float64
		acked, err := b.firstAck(cairn.Kafka, func() error {
			begin := time.Now()
			err := b.start(cairn)
			ready = milliseconds(time.Since(begin))
			return err
		})
		if err != nil {
			return nil, err
		}
		ours, acks = append(ours, ready), append(acks, acked)
		if _, err := measure.DropCache(b.floor); err != nil {
			return nil, err
		}
		begin := time.Now()
		floor, err := b.startFloor("echo", "-reply", "100")
		if err != nil {
			return nil, err
		}
		floors = append(floors, milliseconds(time.Since(begin)))
		floor.stop()
	}
	r := row{name: fmt.Sprintf("start after kill -9 with %.1f GB of log, cold, to ready", float64(size)/1e9), unit: "ms", cairn: ours, floor: floors, durable: flushedBefore,
		note: fmt.Sprintf("%s; %d partitions, all being produced to when killed", how, recoveryPartitions)}
	first := row{name: "the same, to the first acknowledged produce", unit: "ms", cairn: acks, durable: flushedBefore,
		note: "tried from ready on, every 5 ms, at one of the partitions"}
	return []row{r.absolute(recoveryTargetMs), first}, nil
}

// killUnderLoad kills the box while every partition is produced to.
func (b *bench) killUnderLoad(cairn *box.Box) error {
	batch, err := frames.BatchOfBytes(64<<10, 2)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	plan := recoveryPlan(cairn.Kafka, batch)
	plan.Measure = startPatience
	under := make(chan struct{}, 1)
	plan.WarmUp = 500 * time.Millisecond
	plan.Mark = func(begin bool) {
		if begin {
			under <- struct{}{}
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := load.Run(ctx, plan)
		ended <- err
	}()
	select {
	case <-under:
	case err := <-ended:
		return fmt.Errorf("before the kill: %w", err)
	}
	cairn.Kill()
	<-ended
	return b.ctx.Err()
}

func recoveryPlan(address string, batch []byte) load.Plan {
	return load.Plan{Address: address, Connections: recoveryPartitions, Window: 2, Talker: func(i int) load.Talker {
		return &load.Producer{Request: frames.Produce(recoveryTopic, int32(i), batch), Topic: recoveryTopic, Batch: len(batch)}
	}}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
