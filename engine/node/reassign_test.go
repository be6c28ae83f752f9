package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// steady produces numbered records one after the other until stop, and returns how many were acknowledged.
func steady(t *testing.T, c *kgo.Client, topic string) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	n := 0
	running.Go(func() {
		for ; ctx.Err() == nil; n++ {
			r := &kgo.Record{Topic: topic, Key: fmt.Append(nil, n), Value: fmt.Append(nil, n)}
			if err := c.ProduceSync(context.WithoutCancel(ctx), r).FirstErr(); err != nil {
				t.Errorf("record %d: %v", n, err)
				return
			}
		}
	})
	return func() int {
		cancel()
		running.Wait()
		return n
	}
}

// partitionsOnDisk are the directories of a topic's partitions on a box.
func (s *servers) partitionsOnDisk(id uint64, topic string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(s.configs[id].Data, "topics"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), topic+"-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// Replicas move from one box to another while records come: all that were acknowledged are there, and the box that gave them
// away keeps nothing.
func TestReplicasMoveBetweenBoxes(t *testing.T) {
	s := threeBrokers(t)
	producer := s.kafka()
	admin := kadm.NewClient(producer)
	if _, err := admin.CreateTopic(t.Context(), 4, 2, nil, "t"); err != nil {
		t.Fatal(err)
	}
	assign := func(brokers ...int32) {
		t.Helper()
		var req kadm.AlterPartitionAssignmentsReq
		for p := range int32(4) {
			req.Assign("t", p, brokers)
		}
		got, err := admin.AlterPartitionAssignments(t.Context(), req)
		if err = errors.Join(err, got.Error()); err != nil {
			t.Fatal(err)
		}
	}
	settled := func(brokers ...int32) {
		t.Helper()
		s.eventually(fmt.Sprintf("t is on %v alone, and equal there", brokers), func() bool {
			for p := range int32(4) {
				var first []byte
				for i, id := range brokers {
					b := s.nodes[uint64(id)].broker
					cp := b.catalog.Current().Topic("t").Partition(p)
					r, err := b.topics.Lookup("t", p)
					if err != nil || cp.Reassigning() || !slices.Equal(cp.Replicas, brokers) || len(cp.ISR) != len(brokers) {
						return false
					}
					log := logBytes(t, r)
					if v := r.View(); v.HighWatermark != v.End || i > 0 && !bytes.Equal(first, log) {
						return false
					}
					first = log
				}
			}
			return true
		})
	}
	assign(1, 2)
	produce(t, producer, "t", 0, 400)
	settled(1, 2)
	const behindFlushes = "cairn_syncer_behind_flushes_total"
	before := s.metric(behindFlushes)
	produce(t, producer, "t", 400, 40)
	if n := s.metric(behindFlushes); n != before {
		t.Errorf("all are in sync, and %v flushes were of somebody behind", n-before)
	}

	stop := steady(t, producer, "t")
	assign(2, 3)
	s.eventually("the move is done", func() bool {
		got, err := admin.ListPartitionReassignments(t.Context(), nil)
		return err == nil && len(got) == 0
	})
	n := stop()
	settled(2, 3)
	if s.metric(behindFlushes) == before {
		t.Error("what the new replicas copied was flushed together with what others wait for")
	}
	s.eventually("box 1 keeps nothing", func() bool { return len(s.partitionsOnDisk(1, "t")) == 0 })
	seen := map[string]int{}
	reader := s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for records := 0; records < 440+n; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", records, 440+n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++; records++ })
	}
	for i := range max(440, n) {
		want := 0
		if i < 440 {
			want++
		}
		if i < n {
			want++
		}
		if seen[fmt.Sprint(i)] != want {
			t.Errorf("record %d came %d times and not %d", i, seen[fmt.Sprint(i)], want)
		}
	}
	if n == 0 {
		t.Error("nothing was produced during the move")
	}

	// Nothing moves to a box that is away.
	if err := s.nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	delete(s.nodes, 1)
	var far kadm.AlterPartitionAssignmentsReq
	far.Assign("t", 0, []int32{1, 2})
	s.eventually("box 1 is gone", func() bool {
		return s.each(func(n *Node) bool { return n.broker.catalog.Current().BrokerCount() == 2 })
	})
	got, err := admin.AlterPartitionAssignments(t.Context(), far)
	if err == nil {
		err = got.Error()
	}
	if !errors.Is(err, kerr.InvalidReplicaAssignment) {
		t.Errorf("a move to a box that is away: %v", err)
	}
	s.open(1)
	s.ready(1)
	settled(2, 3)
}
