package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
	"cairn/platform/loopback"
)

const (
	startTargetMs = 150
	retryPause    = 5 * time.Millisecond
	startTopic    = "bench"
	startRecords  = 10000
)

// measureStart: from the start of the process to the first acknowledged produce on a topic that was there before, by a
// client that tries every 5 ms; after a clean stop, and after kill -9. The floor is the floor program's own start.
func measureStart(b *bench) ([]row, error) {
	dir, err := b.clear("start")
	if err != nil {
		return nil, err
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return nil, err
	}
	defer cairn.Kill()
	batch := frames.Batch(1, recordBytes, 1)
	if err := b.fill(cairn, startTopic, batch, startRecords); err != nil {
		return nil, err
	}
	address, err := loopback.Address()
	if err != nil {
		return nil, err
	}
	clean := func() error { return cairn.Stop(stopPatience) }
	kill := func() error { cairn.Kill(); return nil }
	var rows []row
	for _, way := range []struct {
		name string
		end  func() error
	}{{"a clean stop", clean}, {"kill -9", kill}} {
		var ours, floors measure.Figures
		for range b.starts() {
			if err := way.end(); err != nil {
				return rows, err
			}
			took, err := b.firstAck(cairn.Kafka, cairn.Spawn)
			if err != nil {
				return rows, err
			}
			ours = append(ours, took)
			var floor *floorProgram
			took, err = b.firstAck(address, func() (err error) {
				floor, err = b.startFloor("produce", "-listen", address, "-file", filepath.Join(dir, "floor.log"))
				return err
			})
			if floor != nil {
				floor.stop()
			}
			if err != nil {
				return rows, fmt.Errorf("floor: %w", err)
			}
			floors = append(floors, took)
		}
		r := row{name: "start to first acknowledged produce, after " + way.name, unit: "ms", cairn: ours, floor: floors, durable: flushedBefore,
			note: fmt.Sprintf("%d starts; a topic of %d records; page cache warm", len(ours), startRecords)}
		rows = append(rows, r.absolute(startTargetMs))
	}
	return rows, nil
}

// starts is how often a start is measured: it is short and varies more than the rest.
func (b *bench) starts() int {
	if b.short {
		return 3
	}
	return 12
}

// firstAck starts a program and returns the milliseconds until it has acknowledged one record.
func (b *bench) firstAck(address string, spawn func() error) (float64, error) {
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	request := frames.Produce(startTopic, 0, frames.Batch(1, recordBytes, 2)).Append(nil, 1)
	begin := time.Now()
	if err := spawn(); err != nil {
		return 0, err
	}
	for {
		err := produceOnce(ctx, address, request)
		if err == nil {
			return milliseconds(time.Since(begin)), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no produce was acknowledged within %v, the last: %w", startPatience, err)
		case <-time.After(retryPause):
		}
	}
}

// produceOnce sends the request on a connection of its own.
func produceOnce(ctx context.Context, address string, request []byte) error {
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(request); err != nil {
		return err
	}
	response, err := load.ReadFrame(c, nil)
	if err != nil {
		return err
	}
	code, err := frames.ProduceError(response, startTopic)
	if err == nil && code != 0 {
		err = fmt.Errorf("error code %d", code)
	}
	return err
}
