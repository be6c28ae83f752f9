package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

const (
	fetchTarget     = 1.5
	fetchBatchBytes = 64 << 10
	fetchLogBytes   = 256 << 20
	fetchTopic      = "bench"
)

// measureFetch: one consumer reads a log that is in the page cache, by responses of 64 KiB and of 1 MiB. What counts is the
// server's processor time for a GB: on loopback the reader's copy decides the speed, not the server.
func measureFetch(b *bench) ([]row, error) {
	dir, err := b.clear("fetch")
	if err != nil {
		return nil, err
	}
	batch, err := frames.BatchOfBytes(fetchBatchBytes, 1)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "floor.log")
	if err := os.WriteFile(file, bytes.Repeat(batch, fetchLogBytes/len(batch)), 0o644); err != nil {
		return nil, err
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return nil, err
	}
	defer cairn.Kill()
	if err := b.fill(cairn, fetchTopic, batch, fetchLogBytes/len(batch)); err != nil {
		return nil, err
	}
	syscall.Sync()
	var rows []row
	for _, chunk := range []int{fetchBatchBytes, 1 << 20} {
		got, err := b.fetchRow(cairn, file, chunk)
		rows = append(rows, got...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (b *bench) fetchRow(cairn *box.Box, file string, chunk int) ([]row, error) {
	floor, err := b.startFloor("fetch", "-file", file, "-batch", fmt.Sprint(fetchBatchBytes), "-chunk", fmt.Sprint(chunk))
	if err != nil {
		return nil, err
	}
	defer floor.stop()
	var ours, floors, oursSpeed, floorsSpeed measure.Figures
	for range b.runs {
		got, err := b.run(cairn.PID(), b.fetchPlan(cairn.Kafka, chunk))
		if err != nil {
			return nil, err
		}
		if mean := got.Payload / got.Requests; mean < uint64(chunk)*9/10 {
			return nil, fmt.Errorf("a response to a fetch of %d bytes has %d on average", chunk, mean)
		}
		beside, err := b.run(floor.cmd.Process.Pid, b.fetchPlan(floor.address, chunk))
		if err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
		ours, floors = append(ours, got.cpuPerGB()), append(floors, beside.cpuPerGB())
		oursSpeed = append(oursSpeed, float64(got.Payload)/1e6/got.Elapsed.Seconds())
		floorsSpeed = append(floorsSpeed, float64(beside.Payload)/1e6/beside.Elapsed.Seconds())
	}
	name := fmt.Sprintf("fetch by %d KiB, page cache", chunk>>10)
	cpu := row{name: name + ": server's processor time", unit: "CPU-s/GB", cairn: ours, floor: floors, durable: "reads only",
		note: "floor: head with MSG_MORE, sendfile, and the format's last three bytes; one connection, one request in flight"}
	return []row{cpu.ratio(fetchTarget, false), {name: name + ": speed", unit: "MB/s", cairn: oursSpeed, floor: floorsSpeed, durable: "reads only"}}, nil
}

func (b *bench) fetchPlan(address string, chunk int) load.Plan {
	return load.Plan{Address: address, Connections: 1, Window: 1, WarmUp: b.seconds(0.5), Measure: b.seconds(3),
		Talker: func(int) load.Talker {
			return &load.Fetcher{Request: frames.Fetch(fetchTopic, 0, chunk), End: fetchLogBytes / fetchBatchBytes}
		}}
}

// fill creates a topic of one partition and produces the batch so many times.
func (b *bench) fill(cairn *box.Box, topic string, batch []byte, times int) error {
	if err := b.createTopic(cairn, topic, 1); err != nil {
		return err
	}
	request := frames.Produce(topic, 0, batch)
	_, err := load.Run(b.ctx, load.Plan{Address: cairn.Kafka, Connections: 1, Window: 8, Requests: uint64(times),
		Talker: func(int) load.Talker { return &load.Producer{Request: request, Topic: topic, Batch: len(batch)} }})
	if err != nil {
		return err
	}
	end, err := b.endOffset(cairn, topic)
	if err == nil && end != int64(times) {
		err = fmt.Errorf("%s ends at %d after %d acknowledged records", topic, end, times)
	}
	return err
}
