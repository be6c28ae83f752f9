package node

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/replica"
)

// What was deleted is gone on every replica when the answer comes, so that no leader after this one brings it back. A follower that
// does not follow holds the answer up; a box that is not there does not, and follows when it is back.
func TestRecordsAreDeletedOnAllReplicas(t *testing.T) {
	s := threeBrokers(t)
	producer := s.kafka()
	admin := kadm.NewClient(producer)
	if _, err := admin.CreateTopic(t.Context(), 3, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, producer, "t", 0, 300)
	s.whole("t")
	remove := func(at int64, timeout int32) error {
		admin.SetTimeoutMillis(timeout)
		offsets := kadm.Offsets{}
		for p := range int32(3) {
			offsets.AddOffset("t", p, at, -1)
		}
		got, err := admin.DeleteRecords(t.Context(), offsets)
		got.Each(func(r kadm.DeleteRecordsResponse) {
			if r.Err == nil && r.LowWatermark != at {
				t.Errorf("partition %d: low watermark %d, asked for %d", r.Partition, r.LowWatermark, at)
			}
			err = errors.Join(err, r.Err)
		})
		return err
	}
	replicaOn := func(id uint64, partition int32) *replica.Replica {
		r, err := s.nodes[id].broker.topics.Lookup("t", partition)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	begins := func(at int64) {
		t.Helper()
		for id := range s.nodes {
			for p := range int32(3) {
				if start := replicaOn(id, p).View().Start; start != at {
					t.Errorf("box %d: partition %d begins at %d after the answer about %d", id, p, start, at)
				}
			}
		}
	}
	for at := int64(1); at <= 20; at++ {
		if err := remove(at, 10_000); err != nil {
			t.Fatal(err)
		}
		begins(at)
	}

	s.nodes[1].broker.fetcher.Close()
	if err := remove(30, 500); !errors.Is(err, kerr.RequestTimedOut) {
		t.Fatalf("one replica has not followed, and the answer is %v", err)
	}
	s.stop(1)
	s.open(1)
	s.ready(1)
	if err := remove(30, 10_000); err != nil {
		t.Fatal(err)
	}
	begins(30)

	s.stop(3)
	if err := remove(40, 10_000); err != nil {
		t.Fatal(err)
	}
	begins(40)
	s.open(3)
	s.ready(3)
	s.whole("t")
	begins(40)
}
