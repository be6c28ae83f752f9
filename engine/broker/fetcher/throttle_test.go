package fetcher

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// A replica that is throttled and not in sync is copied at the rate; others on the way are not.
func TestThrottledFollower(t *testing.T) {
	const size, count, rate = 100_000, 20, 200_000
	copied := func(inSync bool) (throttled, other time.Duration) {
		c := newCluster(t, 5, 2)
		for _, b := range c.boxes {
			b.fetcher.Close()
			b.fetcher = New(Config{BrokerID: b.id}, Deps{Runtime: c.sched, Leaders: b, Throttled: func(topic string, p int32) (int64, bool) {
				return rate, topic == "t" && p == 0
			}})
			b.fetcher.Registered(b.epoch)
		}
		c.open(0, 1)
		c.open(1, 1)
		c.down = true
		for n := range int32(2) {
			c.lead(n, 1, 2, inSync)
			for range count {
				value := make([]byte, size)
				random := rand.NewChaCha8([32]byte{byte(n)})
				_, _ = random.Read(value)
				b := batch.NewBuilder(batch.NewOptions())
				b.Append(1_700_000_000_000, nil, value)
				raw, err := b.Build(nil)
				if err != nil {
					t.Fatal(err)
				}
				done := false
				c.boxes[1].replicas[Key{seglog.ID{7}, n}].Append(context.Background(), &replica.AppendRequest{
					Batch: raw, Acks: 1, ExpectedEpoch: replica.Any, Done: func(a *replica.AppendRequest) {
						if done = true; a.Err != nil {
							t.Error(a.Err)
						}
					}})
				if !c.sched.RunUntil(time.Minute, func() bool { return done }) {
					t.Fatal("not appended")
				}
			}
		}
		c.down = false
		began := c.sched.Clock().Now().Mono
		whole := func(n int32) func() bool {
			return func() bool { return c.boxes[2].replicas[Key{seglog.ID{7}, n}].View().End == count }
		}
		if !c.sched.RunUntil(time.Minute, whole(1)) {
			t.Fatal("the other is never copied")
		}
		other = c.sched.Clock().Now().Mono - began
		if !c.sched.RunUntil(time.Minute, whole(0)) {
			t.Fatal("never copied")
		}
		return c.sched.Clock().Now().Mono - began, other
	}
	// 2 MB at 200 kB/s, of which one second's are free, and the last answer is not waited for.
	if throttled, other := copied(false); throttled < 7*time.Second || throttled > 15*time.Second || other > 2*time.Second {
		t.Errorf("not in sync: %v, and the other one %v", throttled, other)
	}
	if throttled, _ := copied(true); throttled > time.Second {
		t.Errorf("in sync: %v", throttled)
	}
}
