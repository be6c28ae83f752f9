package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	topic       = "kill"
	metadataAge = 50 * time.Millisecond
	dialTimeout = 2 * time.Second
)

// quickly is the pause before a client tries again: short, because the box is back within a second.
func quickly(tries int) time.Duration {
	return min(time.Duration(tries)*10*time.Millisecond, 100*time.Millisecond)
}

// admin calls do with a client that is closed afterwards.
func admin(seeds string, do func(*kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds), kgo.RetryBackoffFn(quickly), kgo.MetadataMinAge(metadataAge), kgo.DialTimeout(dialTimeout))
	if err != nil {
		return err
	}
	defer client.Close()
	return do(kadm.NewClient(client))
}

// endOffsets returns the end of every partition.
func endOffsets(ctx context.Context, client *kadm.Client, partitions int) ([]int64, error) {
	var listed kadm.ListedOffsets
	err := retry(ctx, func() (err error) {
		if listed, err = client.ListEndOffsets(ctx, topic); err != nil {
			return err
		}
		return listed.Error()
	})
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", topic, err)
	}
	ends := make([]int64, partitions)
	for p := range ends {
		at, ok := listed.Lookup(topic, int32(p))
		if !ok {
			return nil, fmt.Errorf("%s has no partition %d", topic, p)
		}
		ends[p] = at.Offset
	}
	return ends, nil
}

// committedOffsets returns the group's committed offset of every partition, -1 where there is none.
func committedOffsets(ctx context.Context, client *kadm.Client, partitions int) ([]int64, error) {
	var fetched kadm.OffsetResponses
	err := retry(ctx, func() (err error) {
		if fetched, err = client.FetchOffsets(ctx, groupName); err != nil {
			return err
		}
		return fetched.Error()
	})
	if err != nil {
		return nil, fmt.Errorf("fetch the offsets of %s: %w", groupName, err)
	}
	committed := make([]int64, partitions)
	for p := range committed {
		committed[p] = -1
		if at, ok := fetched.Lookup(topic, int32(p)); ok {
			committed[p] = at.At
		}
	}
	return committed, nil
}

// retry calls do until it succeeds or ctx ends: a box that has just started may not lead yet.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
