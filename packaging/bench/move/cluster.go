package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/measure"
	"cairn/platform/loopback"
)

// startPatience bounds a start, and what the controller is asked for.
const startPatience = 60 * time.Second

// cluster is a number of boxes that are one cluster. The main goroutine owns it.
type cluster struct {
	boxes []*box.Box // the i-th is broker i+1
	data  []string
	kafka *kgo.Client
	admin *kadm.Client
}

// startCluster starts so many boxes below dir and waits until all of them are registered. The caller closes it.
func startCluster(ctx context.Context, binary, dir string, n int) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var links, joins, doors []string
	for range n {
		link, err := loopback.Address()
		if err != nil {
			return c, err
		}
		links, joins = append(links, link), append(joins, "--join", link)
	}
	for i, link := range links {
		data := filepath.Join(dir, fmt.Sprintf("box%d", i+1))
		b, err := box.New(box.Config{Binary: binary, Data: data, Log: data + ".log", Flags: append([]string{"--link-listen", link}, joins...)})
		if err != nil {
			return c, err
		}
		c.boxes, c.data, doors = append(c.boxes, b), append(c.data, data), append(doors, b.Kafka)
		if err := b.Spawn(); err != nil {
			return c, err
		}
	}
	for _, b := range c.boxes {
		if err := b.Ready(ctx); err != nil {
			return c, err
		}
	}
	if c.kafka, err = kgo.NewClient(kgo.SeedBrokers(doors...), kgo.MetadataMinAge(10*time.Millisecond)); err != nil {
		return c, err
	}
	c.admin = kadm.NewClient(c.kafka)
	return c, poll(ctx, "all brokers are registered", pollPause, func() (bool, error) {
		m, err := c.admin.BrokerMetadata(ctx)
		return err == nil && len(m.Brokers) == n, nil
	})
}

// close ends the boxes.
func (c *cluster) close() {
	if c.kafka != nil {
		c.kafka.Close()
	}
	for _, b := range c.boxes {
		b.Kill()
	}
}

// create makes a topic of which the i-th partition is on the i-th of these lists of brokers, and waits until the first of each leads.
func (c *cluster) create(ctx context.Context, topic string, replicas [][]int32) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = topic, -1, -1
	for i, list := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), list
		one.ReplicaAssignment = append(one.ReplicaAssignment, a)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics, req.TimeoutMillis = append(req.Topics, one), 20000
	resp, err := req.RequestWith(ctx, c.kafka)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return c.settled(ctx, topic, replicas)
}

// settled waits until a topic's partitions are on these brokers, all in sync, and the first of each leads.
func (c *cluster) settled(ctx context.Context, topic string, replicas [][]int32) error {
	return poll(ctx, topic+" is where it should be", pollPause, func() (bool, error) {
		m, err := c.admin.Metadata(ctx, topic)
		if err != nil {
			return false, nil
		}
		partitions := m.Topics[topic].Partitions
		for i, list := range replicas {
			p := partitions[int32(i)]
			if p.Err != nil || len(p.Replicas) != len(list) || len(p.ISR) != len(list) || p.Leader != list[0] {
				return false, nil
			}
		}
		return len(partitions) == len(replicas), nil
	})
}

// throttle sets the rate on every broker, and names what it is for, as kafka-reassign-partitions --throttle does.
func (c *cluster) throttle(ctx context.Context, topic string, rate int64, from, to [][]int32) error {
	value := strconv.FormatInt(rate, 10)
	var brokers []int32
	for i := range c.boxes {
		brokers = append(brokers, int32(i+1))
	}
	leaders, followers := "", ""
	for p := range from {
		for _, broker := range from[p] {
			leaders += fmt.Sprintf(",%d:%d", p, broker)
		}
		for _, broker := range to[p] {
			if !slices.Contains(from[p], broker) {
				followers += fmt.Sprintf(",%d:%d", p, broker)
			}
		}
	}
	leaders, followers = leaders[1:], followers[1:]
	set := func(name string, value *string) kadm.AlterConfig {
		return kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value}
	}
	got, err := c.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set("leader.replication.throttled.rate", &value), set("follower.replication.throttled.rate", &value)}, brokers...)
	if err := errors.Join(err, failed(got)); err != nil {
		return fmt.Errorf("throttle the brokers: %w", err)
	}
	got, err = c.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{set("leader.replication.throttled.replicas", &leaders), set("follower.replication.throttled.replicas", &followers)}, topic)
	if err := errors.Join(err, failed(got)); err != nil {
		return fmt.Errorf("throttle %s: %w", topic, err)
	}
	return nil
}

func failed(list kadm.AlterConfigsResponses) (err error) {
	for _, one := range list {
		err = errors.Join(err, one.Err)
	}
	return err
}

// reassign begins a move and does not wait.
func (c *cluster) reassign(ctx context.Context, topic string, to [][]int32) error {
	var req kadm.AlterPartitionAssignmentsReq
	for p, list := range to {
		req.Assign(topic, int32(p), list)
	}
	got, err := c.admin.AlterPartitionAssignments(ctx, req)
	if err == nil {
		err = got.Error()
	}
	if err != nil {
		return fmt.Errorf("reassign %s: %w", topic, err)
	}
	return nil
}

// moving reports whether a reassignment of a topic's first partitions is under way.
func (c *cluster) moving(ctx context.Context, topic string, partitions int) (bool, error) {
	var set kadm.TopicsSet
	for p := range partitions {
		set.Add(topic, int32(p))
	}
	got, err := c.admin.ListPartitionReassignments(ctx, set)
	return len(got) > 0, err
}

// cpu is the processor time that each box has used.
func (c *cluster) cpu() (used []time.Duration, err error) {
	for _, b := range c.boxes {
		one, err := measure.CPU(b.PID())
		if err != nil {
			return nil, err
		}
		used = append(used, one)
	}
	return used, nil
}

// pollPause is between two looks at something that is awaited; during a measurement a question is a load of its own.
const (
	pollPause     = 20 * time.Millisecond
	pollPauseLong = 100 * time.Millisecond
)

// poll waits until something is true.
func poll(ctx context.Context, what string, pause time.Duration, is func() (bool, error)) error {
	for {
		if ok, err := is(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-time.After(pause):
		}
	}
}
