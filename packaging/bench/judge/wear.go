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
	wearTarget     = 1.2
	wearGroupBytes = 64 << 10
)

// measureWear: batches of 64 KiB, one in flight, so that every commit is one group of 64 KiB. What the device was told to
// write, the file system's journal and everybody else's writes included, is divided by what was produced.
func measureWear(b *bench) ([]row, error) {
	dir, err := b.clear("wear")
	if err != nil {
		return nil, err
	}
	device, err := measure.DeviceOf(dir)
	if err != nil {
		return nil, err
	}
	batch, err := frames.BatchOfBytes(wearGroupBytes, 1)
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
	times := 4096
	if b.short {
		times = 1024
	}
	if err := b.createTopic(cairn, "bench", 1); err != nil {
		return nil, err
	}
	request := frames.Produce("bench", 0, batch)
	plan := load.Plan{Connections: 1, Window: 1, Requests: uint64(times),
		Talker: func(int) load.Talker { return &load.Producer{Request: request, Topic: "bench", Batch: len(batch)} }}
	wear := func(pid int, address string) (onDevice, byProcess float64, err error) {
		plan.Address = address
		syscall.Sync()
		before, err := device.Written()
		if err != nil {
			return 0, 0, err
		}
		got, err := b.run(pid, plan)
		if err != nil {
			return 0, 0, err
		}
		syscall.Sync()
		after, err := device.Written()
		return float64(after-before) / float64(got.Payload), float64(got.written) / float64(got.Payload), err
	}
	var ours, floors, oursOwn, floorsOwn measure.Figures
	for range b.runs {
		onDevice, own, err := wear(cairn.PID(), cairn.Kafka)
		if err != nil {
			return nil, err
		}
		ours, oursOwn = append(ours, onDevice), append(oursOwn, own)
		if onDevice, own, err = wear(floor.cmd.Process.Pid, floor.address); err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
		floors, floorsOwn = append(floors, onDevice), append(floorsOwn, own)
	}
	head := row{name: "bytes written to the device per byte produced, groups of 64 KiB", unit: "bytes/byte", cairn: ours, floor: floors, durable: flushedBefore,
		note: fmt.Sprintf("sectors of %s from /sys, sync before and after: what others write meanwhile is in it; %d MiB a run", device.Name, times*wearGroupBytes>>20)}
	own := row{name: "the same by the process's write_bytes", unit: "bytes/byte", cairn: oursOwn, floor: floorsOwn, durable: flushedBefore,
		note: "pages that the process made dirty, from /proc/PID/io: nobody else's writes, no journal"}
	return []row{head.absolute(wearTarget), own}, nil
}
