package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/measure"
	"cairn/platform/loopback"
)

// createPatience is how long a topic of thousands of partitions may take to be led.
const createPatience = 4 * time.Minute

// boxes is one box, or several that are one cluster.
type boxes []*box.Box

// startBoxes starts so many boxes with their data below dir, and waits until all are ready. The caller kills them.
func (b *bench) startBoxes(dir string, count int) (boxes, error) {
	var members []string
	for range count {
		address, err := loopback.Address()
		if err != nil {
			return nil, err
		}
		members = append(members, address)
	}
	var all boxes
	for i := range count {
		home := filepath.Join(dir, fmt.Sprintf("box-%d-of-%d", i+1, count))
		if err := os.MkdirAll(home, 0o755); err != nil {
			return nil, err
		}
		var flags []string
		if count > 1 {
			flags = []string{"--box", strconv.Itoa(i + 1), "--join", strings.Join(members, ",")}
		}
		made, err := box.New(box.Config{Binary: b.cairn, Data: filepath.Join(home, "data"), Log: filepath.Join(home, "cairn.log"), Flags: flags})
		if err != nil {
			return nil, err
		}
		all = append(all, made)
	}
	if err := all.start(b.ctx); err != nil {
		all.kill()
		return nil, err
	}
	return all, nil
}

// start starts every box and waits until all are ready.
func (s boxes) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, one := range s {
		if err := one.Spawn(); err != nil {
			return err
		}
	}
	for _, one := range s {
		if err := one.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s boxes) kill() {
	for _, one := range s {
		if one.Running() {
			one.Kill()
		}
	}
}

func (s boxes) pids() []int {
	var all []int
	for _, one := range s {
		all = append(all, one.PID())
	}
	return all
}

// name is for the rows of the table.
func (s boxes) name() string {
	if len(s) == 1 {
		return "one box"
	}
	return fmt.Sprintf("%d boxes", len(s))
}

// client asks all boxes, whichever is there.
func (s boxes) client() (*kgo.Client, error) {
	var seeds []string
	for _, one := range s {
		seeds = append(seeds, one.Kafka)
	}
	return kgo.NewClient(kgo.SeedBrokers(seeds...))
}

// createTopic makes a topic with a replica of every partition on every box, and returns after how long all its leaders answer.
func (s boxes) createTopic(ctx context.Context, topic string, partitions int) (time.Duration, error) {
	client, err := s.client()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	admin := kadm.NewClient(client)
	admin.SetTimeoutMillis(int32(createPatience.Milliseconds()))
	begin := time.Now()
	_, err = admin.CreateTopic(ctx, int32(partitions), int16(len(s)), nil, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // the client asks again where the controller has moved meanwhile
		return 0, fmt.Errorf("create topic %s of %d partitions: %w", topic, partitions, err)
	}
	pause := 10*time.Millisecond + time.Duration(partitions)*20*time.Microsecond // looking must not be what is looked at
	for {
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err == nil && ends.Error() == nil && len(ends[topic]) == partitions {
			return time.Since(begin), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("topic %s of %d partitions is not led: %w", topic, partitions, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// deleteTopic deletes a topic.
func (s boxes) deleteTopic(ctx context.Context, topic string) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if _, err := kadm.NewClient(client).DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return nil
}

// leaders are the addresses of the brokers that lead a topic's partitions, in their order.
func (s boxes) leaders(ctx context.Context, topic string) ([]string, error) {
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	metadata, err := kadm.NewClient(client).Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	addresses := map[int32]string{}
	for _, broker := range metadata.Brokers {
		addresses[broker.NodeID] = fmt.Sprintf("%s:%d", broker.Host, broker.Port)
	}
	var all []string
	for _, p := range metadata.Topics[topic].Partitions.Sorted() {
		address, ok := addresses[p.Leader]
		if !ok {
			return nil, fmt.Errorf("partition %d of %s is led by broker %d, which is not there", p.Partition, topic, p.Leader)
		}
		all = append(all, address)
	}
	return all, nil
}

// costs is what processes have resident and have used up to now, summed.
type costs struct {
	cpu      time.Duration
	switches uint64 // of context
	calls    uint64 // to read and to write
	memory   measure.Memory
	open     int // files of logs: descriptors and mappings
}

// costs of all boxes.
func (s boxes) costs() (sum costs, err error) {
	for _, pid := range s.pids() {
		cpu, err := measure.CPU(pid)
		if err != nil {
			return sum, err
		}
		switches, err := measure.ContextSwitches(pid)
		if err != nil {
			return sum, err
		}
		calls, err := measure.Calls(pid)
		if err != nil {
			return sum, err
		}
		memory, err := measure.ResidentMemory(pid)
		if err != nil {
			return sum, err
		}
		open, err := measure.OpenBelow(pid, "/topics/"+idleTopic)
		if err != nil {
			return sum, err
		}
		sum.cpu += cpu
		sum.switches += switches
		sum.calls += calls
		sum.open += open
		sum.memory.RSS += memory.RSS
		sum.memory.Anon += memory.Anon
	}
	return sum, nil
}
