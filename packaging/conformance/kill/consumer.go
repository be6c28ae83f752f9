package main

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	groupName      = "kill-readers"
	commitTimeout  = 10 * time.Second
	idlePoll       = 500 * time.Millisecond // after which a commit without answer is tried again
	pollRecordsMax = 2000
)

// Consumer is the one member of a group. It checks what it is given, and commits after every poll.
type Consumer struct {
	client *kgo.Client
	ledger *Ledger
	cancel context.CancelFunc
	done   sync.WaitGroup
	next   map[int32]int64           // offset that each partition has come to
	due    map[int32]kgo.EpochOffset // what no acknowledged commit covers yet; owned by whoever blocks the rebalance

	gate     sync.Mutex                         // held while a commit is under way, and from Hold to Release
	breakOff atomic.Pointer[context.CancelFunc] // ends the commit that is under way
}

// StartConsumer starts the member.
func StartConsumer(ledger *Ledger, seeds string) (*Consumer, error) {
	c := &Consumer{ledger: ledger, next: map[int32]int64{}, due: map[int32]kgo.EpochOffset{}}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(groupName), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond), kgo.SessionTimeout(10*time.Second),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(c.assigned),
		kgo.RetryBackoffFn(quickly), kgo.MetadataMinAge(metadataAge), kgo.DialTimeout(dialTimeout))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.client, c.cancel = client, cancel
	c.done.Go(func() { c.consume(ctx) })
	return c, nil
}

// consume polls, checks and commits; what could not be committed is tried again with what comes next, or after a while of
// nothing. Errors of fetches are no faults: the box dies again and again, and kgo tries again. The group is formed anew only
// between two turns, so that no turn commits what another generation has read.
func (c *Consumer) consume(ctx context.Context) {
	for ctx.Err() == nil {
		polling, cancel := context.WithTimeout(ctx, idlePoll)
		fetches := c.client.PollRecords(polling, pollRecordsMax)
		cancel()
		fetches.EachRecord(c.check)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				last := p.Records[len(p.Records)-1]
				c.due[p.Partition] = kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}
			}
		})
		if len(c.due) > 0 {
			c.commit(ctx)
		}
		c.client.AllowRebalance()
	}
}

// assigned forgets what is due of partitions that begin again at their committed offsets.
func (c *Consumer) assigned(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	for _, p := range partitions[topic] {
		delete(c.due, p)
	}
}

// check looks at one record: it must follow its predecessor or, after the group was formed anew, go back, but not behind
// what was committed; and it must be the record that was acknowledged there.
func (c *Consumer) check(r *kgo.Record) {
	if next, ok := c.next[r.Partition]; ok && r.Offset > next {
		c.ledger.Fault("partition %d: the group was given %d after %d: records are missing between them", r.Partition, r.Offset, next-1)
	}
	c.next[r.Partition] = r.Offset + 1
	number, err := readPayload(r.Partition, r.Value)
	if err != nil {
		c.ledger.Fault("partition %d: the group was given at %d %v", r.Partition, r.Offset, err)
		return
	}
	if offset, ok := c.ledger.Status(r.Partition, number); !ok || offset >= 0 && offset != r.Offset {
		c.ledger.Fault("partition %d: the group was given record %d at %d, it was acknowledged at %d", r.Partition, number, r.Offset, offset)
	}
	c.ledger.Seen(r.Partition, r.Offset+1)
}

func (c *Consumer) commit(ctx context.Context) {
	c.gate.Lock()
	defer c.gate.Unlock()
	for p, at := range c.due {
		c.ledger.Attempt(p, at.Offset)
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	c.breakOff.Store(&cancel)
	c.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topic: maps.Clone(c.due)},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				return // in doubt: the box was killed, or the group is being formed anew
			}
			for _, t := range response.Topics {
				for _, p := range t.Partitions {
					if kerr.ErrorForCode(p.ErrorCode) == nil {
						c.ledger.Committed(p.Partition, c.due[p.Partition].Offset)
						delete(c.due, p.Partition)
					}
				}
			}
		})
}

// Hold ends the commit that is under way and allows no other until Release. It is called while the box is dead: a member
// that commits anew as soon as the box is back would hide that an older commit is lost.
func (c *Consumer) Hold() {
	for !c.gate.TryLock() {
		if end := c.breakOff.Load(); end != nil {
			(*end)()
		}
		time.Sleep(time.Millisecond) // until the commit has seen that it is over
	}
}

// Release allows commits again.
func (c *Consumer) Release() { c.gate.Unlock() }

// Close leaves the group.
func (c *Consumer) Close() {
	c.cancel()
	c.done.Wait()
	c.client.CloseAllowingRebalance()
}
