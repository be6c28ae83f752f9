package main

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/packaging/conformance/boxes"
)

const (
	groupsCount    = 2
	membersCount   = 2 // of each group
	pollRecordsMax = 500
	idlePoll       = 200 * time.Millisecond
	commitTimeout  = 5 * time.Second
	watchPace      = 200 * time.Millisecond
	watchTimeout   = 5 * time.Second
)

var groupNames = [groupsCount]string{"g0", "g1"}

// Consumer is a member of a group. It polls, notes what it was given, and commits.
type Consumer struct {
	ledger *Ledger
	group  int
	client *kgo.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	// The goroutine's own; assigned is called on it, as rebalances wait for it.
	due map[int]kgo.EpochOffset // by place
	mu  sync.Mutex              // protects what follows
	at  map[int]*position
}

// position is where a member is in a partition that was assigned to it.
type position struct {
	next  int64 // -1 before the first record
	floor int64 // acknowledged commit before the assignment
}

// StartConsumer joins a group.
func StartConsumer(ledger *Ledger, seeds, topics []string, group int) (*Consumer, error) {
	c := &Consumer{ledger: ledger, group: group, due: map[int]kgo.EpochOffset{}, at: map[int]*position{}}
	client, err := kgo.NewClient(clientOptions(seeds, kgo.ConsumeTopics(topics...), kgo.ConsumerGroup(groupNames[group]), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond), kgo.SessionTimeout(8*time.Second),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(c.assigned), kgo.OnPartitionsRevoked(c.revoked), kgo.OnPartitionsLost(c.revoked),
		kgo.FetchMaxWait(500*time.Millisecond))...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.client, c.cancel = client, cancel
	c.done.Go(func() { c.consume(ctx) })
	return c, nil
}

// assigned notes what has been committed of the partitions before: the member must not begin before that.
func (c *Consumer) assigned(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, all := range partitions {
		for _, p := range all {
			if place := c.ledger.Place(topic, p); place >= 0 {
				delete(c.due, place)
				c.at[place] = &position{-1, c.ledger.Floor(c.group, place)}
			}
		}
	}
}

func (c *Consumer) revoked(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, all := range partitions {
		for _, p := range all {
			place := c.ledger.Place(topic, p)
			delete(c.due, place)
			delete(c.at, place)
		}
	}
}

// consume polls, checks and commits; what could not be committed is tried again with what comes next, or after a while of
// nothing. Errors of fetches are no violations: boxes die, and kgo tries again.
func (c *Consumer) consume(ctx context.Context) {
	for ctx.Err() == nil {
		polling, cancel := context.WithTimeout(ctx, idlePoll)
		fetches := c.client.PollRecords(polling, pollRecordsMax)
		cancel()
		fetches.EachRecord(c.check)
		if len(c.due) > 0 {
			c.commit(ctx)
		}
		c.client.AllowRebalance()
	}
}

// check looks at one record: it must follow its predecessor, and the first one not lie before what was committed.
func (c *Consumer) check(r *kgo.Record) {
	place := c.ledger.Place(r.Topic, r.Partition)
	id, err := readValue(r.Value)
	if err != nil || place < 0 {
		c.ledger.Violation("%s-%d: group %d was given at %d %v", r.Topic, r.Partition, c.group, r.Offset, err)
		return
	}
	c.mu.Lock()
	at := c.at[place]
	c.mu.Unlock()
	switch {
	case at == nil:
		c.ledger.Violation("%s-%d: a member of group %d was given offset %d of a partition that it was not assigned", r.Topic, r.Partition, c.group, r.Offset)
		return
	case at.next >= 0 && r.Offset != at.next:
		c.ledger.Violation("%s-%d: group %d was given offset %d after %d", r.Topic, r.Partition, c.group, r.Offset, at.next-1)
	case at.next < 0 && r.Offset < at.floor:
		c.ledger.Violation("%s-%d: group %d begins at offset %d, committed was %d before the assignment", r.Topic, r.Partition, c.group, r.Offset, at.floor)
	}
	at.next = r.Offset + 1
	c.ledger.Seen(c.group, place, r.Offset, id)
	c.due[place] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
}

func (c *Consumer) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	offsets := map[string]map[int32]kgo.EpochOffset{}
	sent := maps.Clone(c.due)
	for place, at := range sent {
		p := c.ledger.Places[place]
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[p.Topic][p.Partition] = at
	}
	c.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			return // in doubt: the coordinator moves, or the group is being formed anew
		}
		for _, t := range response.Topics {
			for _, p := range t.Partitions {
				if place := c.ledger.Place(t.Topic, p.Partition); place >= 0 && kerr.ErrorForCode(p.ErrorCode) == nil {
					c.ledger.Committed(c.group, place, sent[place].Offset)
					delete(c.due, place)
				}
			}
		}
	})
}

// Close leaves the group.
func (c *Consumer) Close() {
	c.cancel()
	c.done.Wait()
	c.client.CloseAllowingRebalance()
}

// Watcher asks for the committed offsets of a group again and again: none may lie before one that was acknowledged.
type Watcher struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	client *kgo.Client
	asked  int
}

// StartWatcher begins.
func StartWatcher(ledger *Ledger, seeds []string, group int) (*Watcher, error) {
	client, err := kgo.NewClient(clientOptions(seeds)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{cancel: cancel, client: client}
	w.done.Go(func() {
		for ctx.Err() == nil {
			w.look(ctx, ledger, group)
			boxes.Pause(ctx, watchPace)
		}
	})
	return w, nil
}

func (w *Watcher) look(ctx context.Context, ledger *Ledger, group int) {
	floors := make([]int64, len(ledger.Places))
	for place := range floors {
		floors[place] = ledger.Floor(group, place)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	fetched, err := kadm.NewClient(w.client).FetchOffsets(ctx, groupNames[group])
	if err != nil || fetched.Error() != nil {
		return
	}
	w.asked++
	for place, floor := range floors {
		at, ok := fetched.Lookup(ledger.Places[place].Topic, ledger.Places[place].Partition)
		if floor > 0 && (!ok || at.At < floor) {
			ledger.Violation("%v: the committed offset of group %d is %d (%t) in an answer to a question of %s; acknowledged was %d before",
				ledger.Places[place], group, at.At, ok, began.UTC().Format("15:04:05.000"), floor)
		}
	}
}

// Close ends it.
func (w *Watcher) Close() {
	w.cancel()
	w.done.Wait()
	w.client.Close()
}
