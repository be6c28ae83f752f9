package controller

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
)

// prompt fails the test if f takes long: what it does is linear, and would take minutes if it were not.
func prompt(t *testing.T, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("took %v", d)
	}
}

// Everything waits for the controller's one goroutine, so that no request may keep it for longer than its size.
func TestLargeRequestsAreLinear(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.create([]string{"wide", "p=10000", "rf=1"})
	for i := range 5000 {
		r.create([]string{fmt.Sprintf("_some.topic%d", i), "p=1", "rf=1"})
		if i%500 == 499 {
			r.settle()
		}
	}
	s := r.catalog.Current()
	if s.TopicCount() != 5001 {
		t.Fatal(r.out.String())
	}
	t.Run("AlterConfigs of many resources", func(t *testing.T) {
		var req AlterConfigs
		for i := range 200_000 {
			req.Resources = append(req.Resources, ResourceChange{Type: TopicResource, Name: fmt.Sprint(i % 199_999)})
		}
		prompt(t, func() {
			a := &alteration{req: req}
			a.step(&work{now: s}, &facts{})
			if len(a.results) != len(req.Resources) || !strings.Contains(show(a.results[0].Err), "at most once") ||
				show(a.results[199_999].Err) != show(a.results[0].Err) || strings.Contains(show(a.results[1].Err), "at most once") {
				t.Errorf("%v, %v", a.results[0], a.results[1])
			}
		})
	})
	t.Run("reassignments of a wide topic", func(t *testing.T) {
		var req AlterReassignments
		for i := range int32(50_000) {
			req.Partitions = append(req.Partitions, Reassignment{TopicPartition{"wide", i % 10_000}, []int32{0}})
		}
		prompt(t, func() {
			w := &work{now: s}
			g := &reassigning{req: req}
			if g.step(w, &facts{}) != ready || len(g.results) != 50_000 || g.results[7].Err != nil || len(w.ops) != 0 {
				t.Errorf("%v, %d operations", g.results[7], len(w.ops))
			}
		})
	})
	t.Run("names that might collide", func(t *testing.T) {
		prompt(t, func() {
			for i := range 100_000 {
				if err := CheckName(s, fmt.Sprintf("_new%d", i)); err != nil {
					t.Fatal(err)
				}
			}
		})
		if err := CheckName(s, "._some_topic7"[1:]); err == nil || !strings.Contains(err.Error(), "collides with existing topic: _some.topic7") {
			t.Error(err)
		}
	})
}

// Replicas that only change their order: one write for a topic, however many of its partitions are named.
func TestReassignmentsOfOneTopicAreOneWrite(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.register([]string{"1"})
	r.settle()
	r.create([]string{"t", "assign=0,1:0,1:0,1"})
	r.settle()
	g := &reassigning{req: AlterReassignments{Partitions: []Reassignment{
		{TopicPartition{"t", 0}, []int32{1, 0}}, {TopicPartition{"t", 2}, []int32{1, 0}}, {TopicPartition{"u", 0}, []int32{0}}, {TopicPartition{"t", 1}, []int32{0, 1}},
		{TopicPartition{"t", 0}, []int32{0}},
	}}}
	w := &work{now: r.catalog.Current()}
	if g.step(w, &facts{}) != ready || len(w.ops) != 1 {
		t.Fatalf("%d operations", len(w.ops))
	}
	for i, first := range []int32{1, 0, 1} {
		if got := w.now.Topic("t").Partitions[i].Replicas; got[0] != first || len(got) != 2 {
			t.Errorf("partition %d: %v", i, got)
		}
	}
	for i, ok := range []bool{true, true, false, true, false} {
		if (g.results[i].Err == nil) != ok {
			t.Errorf("%d: %v", i, g.results[i].Err)
		}
	}
}

// A wish that is planned before the elections must not take from them what they would have seen: a state that is written
// after a broker has registered says that the broker has forgotten nothing.
func TestAWishDoesNotHideAnUncleanStart(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	for _, id := range []string{"0", "1", "2"} {
		r.register([]string{id})
	}
	r.settle()
	r.create([]string{"t", "assign=0,1", "cairn.durability=replicated"})
	r.settle()
	r.register([]string{"1", "unclean"})
	s := r.catalog.Current()
	topic := s.Topic("t")
	for _, known := range []bool{true, false} {
		f := &facts{epochs: epochs{}}
		if known {
			f.epochs[0] = &brokerEpochs{brokerEpoch: s.Broker(0).Epoch, known: true}
		}
		_, state := moved(s, f, topic, 0, topic.Partitions[0], []int32{0, 2})
		if state == nil || len(state.ISR) != 1 || state.ISR[0] != 0 || len(state.ELR) != 0 || state.Leader != 0 || state.LeaderEpoch != 0 {
			t.Errorf("the leader's log known %v: %+v", known, state)
		}
	}
}

// The settings of a new topic are bounded as those of an old one are.
func TestSettingsOfANewTopicAreBounded(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.settle()
	r.create([]string{"t", "p=1", "leader.replication.throttled.replicas=" + strings.Repeat("1:1,", overrideBytesMax/4) + "1:1"})
	r.settle()
	if got := r.out.String(); !strings.Contains(got, "POLICY_VIOLATION") || r.catalog.Current().Topic("t") != nil {
		t.Error(got)
	}
}

// Numbers that would overflow on a small box add up all the same.
func TestPartitionsOfARequestAddUp(t *testing.T) {
	c := newCreation(CreateTopics{Topics: []NewTopic{
		{Name: "a", Partitions: math.MaxInt32, ReplicationFactor: 1}, {Name: "b", Partitions: math.MaxInt32, ReplicationFactor: 1},
	}}, nil)
	c.check()
	for name, topic := range c.topics {
		if topic.result == nil || !strings.Contains(show(topic.result.Err), "Excessively large") {
			t.Errorf("%s: %v", name, topic.result)
		}
	}
}

// A change of a topic that a sweep over all topics has already passed is not forgotten when the sweep ends.
func TestChangesDuringASweep(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.register([]string{"1"})
	r.register([]string{"2"})
	r.settle()
	r.create([]string{"a", "assign=1,2"})
	for i := range 20 {
		r.create([]string{fmt.Sprintf("t%d", i), "assign=" + strings.Repeat("0:", 199) + "0"})
	}
	r.settle()
	r.run([]string{"unregister", "2"})
	r.run([]string{"register", "2"})
	r.run([]string{"unregister", "1"})
	part := func() *catalog.Partition { return r.catalog.Current().Topic("a").Partitions[0] }
	if p := part(); p.Leader != catalog.NoLeader {
		t.Fatalf("%+v", p)
	}
	multis := 0
	r.tree.fail = func([]catalog.Op) (error, bool) {
		if multis++; multis == 2 {
			yes := "true"
			r.c.AlterConfigs(AlterConfigs{Incremental: true, Resources: []ResourceChange{{Type: TopicResource, Name: "a",
				Changes: []ConfigChange{{Name: "unclean.leader.election.enable", Value: &yes}}}}}, func([]ResourceResult) {})
		}
		return nil, false
	}
	r.run([]string{"register", "0"})
	if multis < 4 {
		t.Fatalf("the sweep took %d multis", multis)
	}
	if p := part(); p.Leader != 2 {
		t.Errorf("no election after it was allowed: %+v", p)
	}
}

// A topic too large for the tree, whose creation takes many multis, is refused itself; requests beside it and elections
// go on.
func TestFullForOneOfMany(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.settle()
	r.create([]string{"old", "p=3", "rf=1"})
	r.settle()
	r.out.Reset()
	r.tree.fail = func(ops []catalog.Op) (error, bool) {
		for _, op := range ops {
			if strings.HasPrefix(op.Path, catalog.TopicPath("fat")) {
				return catalog.ErrFull, false
			}
		}
		return nil, false
	}
	r.create([]string{"fat", "p=2000", "rf=1"})
	r.create([]string{"thin", "p=1", "rf=1"})
	r.run([]string{"register", "0"})
	got := r.out.String()
	if !strings.Contains(got, `create "fat": POLICY_VIOLATION`) || !strings.Contains(got, `create "thin": ok`) {
		t.Errorf("answered:\n%s", got)
	}
	s := r.catalog.Current()
	for i, p := range s.Topic("old").Partitions {
		if s.LeaderOf(p) != 0 {
			t.Errorf("partition %d has no leader", i)
		}
	}
}

// Elections that the tree does not take hold up nobody's request.
func TestFullForElections(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.settle()
	r.create([]string{"old", "p=3", "rf=1"})
	r.settle()
	r.out.Reset()
	r.tree.fail = func(ops []catalog.Op) (error, bool) {
		for _, op := range ops {
			if strings.HasPrefix(op.Path, catalog.TopicPath("old")) {
				return catalog.ErrFull, false
			}
		}
		return nil, false
	}
	r.run([]string{"register", "0"})
	r.create([]string{"thin", "p=1", "rf=1"})
	r.settle()
	r.clock.Advance(retryDelay)
	r.settle()
	if got := r.out.String(); !strings.Contains(got, `create "thin": ok`) {
		t.Errorf("answered: %q", got)
	}
	r.tree.fail = nil
	r.clock.Advance(fullDelay)
	r.settle()
	s := r.catalog.Current()
	if s.LeaderOf(s.Topic("old").Partitions[0]) != 0 {
		t.Error("no election once there was room")
	}
}
