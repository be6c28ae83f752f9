package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/kafkaserver"
	"cairn/engine/broker/replica"
	"cairn/platform/clock"
)

// deleteRecords asks for the deletion of what is before an offset in each partition of topic t, and returns what was refused.
func deleteRecords(t *testing.T, admin *kadm.Client, partitions int32, at int64, timeout int32) error {
	t.Helper()
	admin.SetTimeoutMillis(timeout)
	offsets := kadm.Offsets{}
	for p := range partitions {
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

// What was deleted is gone on every replica when the answer comes, so that no leader after this one brings it back. A follower that
// does not follow holds the answer up; a box that is not there does not, and follows when it is back.
func TestRecordsAreDeletedOnAllReplicas(t *testing.T) {
	s, producer := threeBrokersWritten(t, 3, 300)
	admin := kadm.NewClient(producer)
	remove := func(at int64, timeout int32) error { return deleteRecords(t, admin, 3, at, timeout) }
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

// Who is away and may lead when it is back is waited for: the records would be back with it.
func TestADeletionWaitsForWhoMayLead(t *testing.T) {
	s := threeBrokers(t)
	producer := s.kafka()
	admin := kadm.NewClient(producer)
	two := "2"
	if _, err := admin.CreateTopic(t.Context(), 1, 2, map[string]*string{"min.insync.replicas": &two}, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, producer, "t", 0, 50)
	s.eventually("both replicas in sync", func() bool {
		return s.each(func(n *Node) bool { return len(n.broker.catalog.Current().Topic("t").Partition(0).ISR) == 2 })
	})
	snapshot := s.nodes[1].broker.catalog.Current()
	p := snapshot.Topic("t").Partition(0)
	away := uint64(p.Replicas[0] + p.Replicas[1] - snapshot.LeaderOf(p))
	s.stop(away)
	s.eventually("a replica out of sync that may lead", func() bool {
		return s.each(func(n *Node) bool { return len(n.broker.catalog.Current().Topic("t").Partition(0).ELR) == 1 })
	})
	if err := deleteRecords(t, admin, 1, 10, 1000); !errors.Is(err, kerr.RequestTimedOut) {
		t.Fatalf("a replica that may lead is away, and the answer is %v", err)
	}
	s.open(away)
	s.ready(away)
	if err := deleteRecords(t, admin, 1, 10, 20_000); err != nil {
		t.Fatal(err)
	}
	for _, id := range p.Replicas {
		r, err := s.nodes[uint64(id)].broker.topics.Lookup("t", 0)
		if err != nil {
			t.Fatal(err)
		}
		if start := r.View().Start; start != 10 {
			t.Errorf("box %d begins at %d", id, start)
		}
	}
}

// Where there is no other replica nothing is waited for, neither a box nor the ensemble.
func TestADeletionOfAnOnlyReplicaWaitsForNobody(t *testing.T) {
	s := threeBrokers(t)
	producer := s.kafka()
	if _, err := kadm.NewClient(producer).CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, producer, "t", 0, 50)
	snapshot := s.nodes[1].broker.catalog.Current()
	b := s.nodes[uint64(snapshot.LeaderOf(snapshot.Topic("t").Partition(0)))].broker
	b.recent = func(func(error)) { t.Error("the ensemble is asked") }
	for range 100 {
		got := make(chan []bool, 1)
		b.awaitStarts(t.Context(), []kafkaserver.LogStart{{Topic: "t", Offset: 10}}, time.Hour, func(late []bool) { got <- late })
		if late := <-got; late[0] {
			t.Fatal("an only replica is late")
		}
	}
}

// What a box says of the replicas that it is asked about: those that have followed are not held up by one that has not, and a box that
// stops, or a partition that is closed, is an end of the wait and no more.
func TestWhatABoxSaysOfItsStarts(t *testing.T) {
	s, _ := threeBrokersWritten(t, 3, 30)
	b := s.nodes[1].broker
	id := b.catalog.Current().Topic("t").ID
	const never = int64(1) << 40
	answers := make(chan reply, 300)
	ask := func(wait int64, parts ...startAsked) {
		b.answerStarts(&startsAsked{parts, wait}, func(r reply) { answers <- r })
	}
	for _, first := range []startAsked{{id, 0, never}, {id, 0, 0}} {
		ask(200, first, startAsked{id, 1, 0}, startAsked{catalog.UUID{1}, 1, never}, startAsked{id, 2, never}, startAsked{id, 99, never})
		want := []int{3}
		if first.Offset == never {
			want = []int{0, 3}
		}
		if r := <-answers; !slices.Equal(r.Late, want) {
			t.Errorf("late: %v, want %v", r.Late, want)
		}
	}
	ask(0, make([]startAsked, startsMax+1)...)
	if r := <-answers; r.Code != kerr.InvalidRequest.Code {
		t.Errorf("a question about %d partitions is answered %+v", startsMax+1, r)
	}

	registered := b.brokerEpoch.Swap(0) // as before its logs are open
	ask(0, startAsked{catalog.UUID{1}, 0, 0}, startAsked{id, 0, 0}, startAsked{id, 99, 0})
	if r := <-answers; !slices.Equal(r.Late, []int{0, 1, 2}) {
		t.Errorf("late where the box is not registered: %v", r.Late)
	}
	b.brokerEpoch.Store(registered)

	const questions = 2 * 100
	for range questions / 2 {
		ask(60_000, startAsked{id, 1, 0}, startAsked{id, 0, never})
		ask(60_000, startAsked{id, 2, never}, startAsked{id, 1, 0})
	}
	r, err := b.topics.Lookup("t", 2)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	r.Close(false, func(err error) { closed <- err })
	<-closed
	s.stop(1)
	for range questions {
		if r := <-answers; len(r.Late) == 0 {
			t.Fatal("a replica has followed to where no record is")
		}
	}
}

// A box that stops has closed its logs before it hears no more: they are there all the same.
func TestABoxThatStopsHasFollowedNothing(t *testing.T) {
	s, _ := threeBrokersWritten(t, 2, 30)
	b := s.nodes[1].broker
	id := b.catalog.Current().Topic("t").ID
	if err := b.topics.Close(); err != nil {
		t.Fatal(err)
	}
	answers := make(chan reply, 1)
	b.answerStarts(&startsAsked{[]startAsked{{id, 0, 5}, {id, 1, 0}}, 100}, func(r reply) { answers <- r })
	if r := <-answers; !slices.Equal(r.Late, []int{0, 1}) {
		t.Errorf("late: %v", r.Late)
	}
}

// A box that cannot follow is asked in peace, a request's wait ends when it says, and with the box.
func TestAWaitForStartsEnds(t *testing.T) {
	s, _ := threeBrokersWritten(t, 1, 30)
	snapshot := s.nodes[1].broker.catalog.Current()
	lead := uint64(snapshot.LeaderOf(snapshot.Topic("t").Partition(0)))
	other := lead%3 + 1
	r, err := s.nodes[other].broker.topics.Lookup("t", 0)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	r.Close(false, func(err error) { closed <- err }) // from now on it says at once that it does not follow
	<-closed
	before := s.asked.Load()
	leader := s.nodes[lead].broker
	wait := func(ctx context.Context, d time.Duration) chan []bool {
		got := make(chan []bool, 1)
		leader.awaitStarts(ctx, []kafkaserver.LogStart{{Topic: "t", Offset: 5}}, d, func(late []bool) { got <- late })
		return got
	}
	began := time.Now()
	if late := <-wait(t.Context(), time.Second); !late[0] {
		t.Error("a closed replica has followed")
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("a wait of a second has ended after %v", took)
	}
	if n := s.asked.Load() - before; n > 2*int64(time.Since(began)/startsAgain+1) { // two boxes are asked
		t.Errorf("%d questions in a second", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := wait(ctx, time.Hour)
	cancel()
	<-got
	got = wait(t.Context(), time.Hour)
	s.stop(lead)
	<-got
}

// A deletion may be over before it waits: without time, and for a client that has gone.
func TestAWaitThatIsOverBeforeItBegins(t *testing.T) {
	n := &Node{}
	n.deps.Clock = clock.System()
	n.boxes = &boxes{}
	b := &broker{n: n, catalog: catalog.New(catalog.Base{}, nil)}
	b.recent = func(done func(error)) { done(nil) }
	b.running, b.stop = context.WithCancel(context.Background())
	defer b.stop()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3000 {
		for _, ctx := range []context.Context{gone, context.Background()} {
			answered := make(chan int, 1)
			b.awaitStarts(ctx, []kafkaserver.LogStart{{Topic: "t"}}, 0, func(late []bool) { answered <- len(late) })
			select {
			case <-answered:
			case <-time.After(10 * time.Second):
				t.Fatal("not answered")
			}
		}
	}
}
