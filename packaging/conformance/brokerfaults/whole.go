package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cairn/packaging/conformance/boxes"
)

const (
	lookMax   = time.Second // for one box's metadata
	groupsLog = "__consumer_offsets"
)

// Admin asks boxes how things stand. The main goroutine owns it.
type Admin struct {
	ledger  *Ledger
	address func(box int) string
	client  *kgo.Client
	kadm    *kadm.Client
}

// NewAdmin makes one that asks any box.
func NewAdmin(ledger *Ledger, seeds []string, address func(box int) string) (*Admin, error) {
	client, err := kgo.NewClient(clientOptions(seeds)...)
	if err != nil {
		return nil, err
	}
	return &Admin{ledger, address, client, kadm.NewClient(client)}, nil
}

// Close ends it.
func (a *Admin) Close() { a.client.Close() }

// Partition is one of any topic, as all boxes say.
type Partition struct {
	Topic     string
	Partition int32
	Leader    int32
	Epoch     int32
}

// Look returns all partitions if all boxes say the same of them and every replica is in sync; else an error says what is not so.
func (a *Admin) Look(ctx context.Context) ([]Partition, error) {
	var all []Partition
	for box := 1; box <= boxes.Count; box++ {
		one, err := a.lookAt(ctx, box)
		if err != nil {
			return nil, fmt.Errorf("box %d: %w", box, err)
		}
		if box > 1 {
			for i := range max(len(one), len(all)) {
				if i >= len(one) || i >= len(all) || one[i] != all[i] {
					return nil, fmt.Errorf("box %d and box 1 do not say the same of %d and %d partitions", box, len(one), len(all))
				}
			}
		}
		all = one
	}
	return all, nil
}

func (a *Admin) lookAt(ctx context.Context, box int) ([]Partition, error) {
	w, err := dialWire(ctx, a.address(box))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	q := kmsg.NewPtrMetadataRequest()
	q.SetVersion(metadataAt)
	answer, err := w.ask(q, lookMax)
	if err != nil {
		return nil, err
	}
	m := answer.(*kmsg.MetadataResponse)
	if len(m.Brokers) != boxes.Count {
		return nil, fmt.Errorf("%d brokers", len(m.Brokers))
	}
	var all []Partition
	missing := map[Place]bool{}
	for _, p := range a.ledger.Places {
		missing[p] = true
	}
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			one := Partition{*t.Topic, p.Partition, p.Leader, p.LeaderEpoch}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil || p.Leader < 0 || len(p.ISR) != len(p.Replicas) || len(p.Replicas) != boxes.Count {
				return nil, fmt.Errorf("%s-%d has leader %d in epoch %d, replicas %v, in sync %v, error %v", *t.Topic, p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, err)
			}
			delete(missing, Place{*t.Topic, p.Partition})
			all = append(all, one)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d partitions of the load are not there", len(missing))
	}
	return all, nil
}

// Whole waits until Look has nothing to say.
func (a *Admin) Whole(ctx context.Context, patience time.Duration) ([]Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error // what an ended context says is of no use
	for {
		all, err := a.Look(ctx)
		switch {
		case err == nil:
			return all, nil
		case ctx.Err() == nil:
			last = err
		default:
			return nil, cmp.Or(last, err)
		}
		boxes.Pause(ctx, 4*boxes.PollPause)
	}
}

// Ends are the high watermarks of all places.
func (a *Admin) Ends(ctx context.Context) ([]int64, error) {
	topics := map[string]bool{}
	for _, p := range a.ledger.Places {
		topics[p.Topic] = true
	}
	var names []string
	for name := range topics {
		names = append(names, name)
	}
	listed, err := a.kadm.ListEndOffsets(ctx, names...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	ends := make([]int64, len(a.ledger.Places))
	for i, p := range a.ledger.Places {
		at, ok := listed.Lookup(p.Topic, p.Partition)
		if !ok {
			return nil, fmt.Errorf("%v has no end", p)
		}
		ends[i] = at.Offset
	}
	return ends, nil
}

// Committed are a group's offsets of all places, 0 where there is none.
func (a *Admin) Committed(ctx context.Context, group int) ([]int64, error) {
	fetched, err := a.kadm.FetchOffsets(ctx, groupNames[group])
	if err == nil {
		err = fetched.Error()
	}
	if err != nil {
		return nil, err
	}
	committed := make([]int64, len(a.ledger.Places))
	for i, p := range a.ledger.Places {
		if at, ok := fetched.Lookup(p.Topic, p.Partition); ok {
			committed[i] = at.At
		}
	}
	return committed, nil
}

// Drain waits until every group has committed the end of every partition, and returns the ends.
func (a *Admin) Drain(ctx context.Context, patience time.Duration) (ends []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error // as in Whole
	for {
		switch ends, err = a.drained(ctx); {
		case err == nil:
			return ends, nil
		case ctx.Err() == nil:
			last = err
		default:
			return nil, cmp.Or(last, err)
		}
		boxes.Pause(ctx, 10*boxes.PollPause)
	}
}

func (a *Admin) drained(ctx context.Context) ([]int64, error) {
	ends, err := a.Ends(ctx)
	if err != nil {
		return nil, err
	}
	for group := range groupsCount {
		committed, err := a.Committed(ctx, group)
		if err != nil {
			return ends, fmt.Errorf("offsets of group %d: %w", group, err)
		}
		for i, end := range ends {
			if committed[i] != end {
				return ends, fmt.Errorf("%v: group %d has committed %d, the high watermark is %d", a.ledger.Places[i], group, committed[i], end)
			}
		}
	}
	return ends, nil
}
