package controller

import (
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
)

// started is a room whose controller leads, with brokers, behind some commands.
func started(brokers int, commands ...[]string) *room {
	r := newRoom(1, Config{PartitionsMax: 5000})
	r.run([]string{"lead"})
	for i := range brokers {
		r.run([]string{"register", string(rune('0' + i))})
	}
	for _, c := range commands {
		r.run(c)
	}
	return r
}

// A change of in-sync replicas behind a reassignment of the same new partition, in one multi, names an old state: it is refused, and
// nothing waits for it.
func TestInSyncBehindAReassignment(t *testing.T) {
	r := started(4, []string{"create", "t", "assign=0,1"})
	s := r.catalog.Current()
	topic, before := s.Topic("t"), r.tree.multis
	p := topic.Partition(0)
	reassigned, asked := false, false
	r.c.AlterReassignments(AlterReassignments{Timeout: time.Minute, Partitions: []Reassignment{{TopicPartition{"t", 0}, []int32{0, 2}}}},
		func(x []PartitionResult) { reassigned = x[0].Err == nil })
	r.c.AlterInSync(AlterInSync{Broker: 0, BrokerEpoch: s.Broker(0).Epoch, Partitions: []InSyncChange{{
		Topic: topic.ID, Partition: 0, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, InSync: []InSyncReplica{{0, s.Broker(0).Epoch}}}}},
		func(x []InSyncResult) { asked = x[0].Err != nil })
	r.settle()
	if !reassigned || !asked || r.tree.multis > before+2 {
		t.Fatalf("reassigned: %v, in sync refused: %v, %d multis", reassigned, asked, r.tree.multis-before)
	}
}

// Who is eligible with a larger min.insync.replicas alone is not any more in the moment in which a smaller one holds: the leader
// acknowledges without it from then on.
func TestASmallerMinimumEndsEligibleLeaders(t *testing.T) {
	for name, alter := range map[string][]string{
		"topic":   {"alter", "topic", "t", "min.insync.replicas=1"},
		"cluster": {"alter", "broker", "", "min.insync.replicas=1"},
	} {
		t.Run(name, func(t *testing.T) {
			create := []string{"create", "t", "assign=1,2"}
			if name == "topic" {
				create = append(create, "min.insync.replicas=2")
			}
			r := started(3, []string{"alter", "broker", "", "min.insync.replicas=2"}, create, []string{"insync", "1", "t:0", "1"})
			if p := r.catalog.Current().Topic("t").Partition(0); len(p.ELR) != 1 {
				t.Fatalf("eligible before: %v", p.ELR)
			}
			seen := false
			r.catalog.OnChange(func(_, s *catalog.Snapshot) {
				topic := s.Topic("t")
				if p := topic.Partition(0); topic.Settings.EffectiveMinISR(p.Factor()) == 1 {
					seen = true
					if len(p.ELR) > 0 {
						t.Errorf("broker 1 may acknowledge alone, and %v may be elected", p.ELR)
					}
				}
			})
			r.run(alter)
			if !seen {
				t.Fatalf("not altered: %s", r.out.String())
			}
		})
	}
}

// The setting may be applied by a controller of an older build, which leaves them as they were.
func TestEligibleLeadersOfALargerMinimum(t *testing.T) {
	r := started(3, []string{"create", "t", "assign=1,2", "min.insync.replicas=2"}, []string{"insync", "1", "t:0", "1"})
	r.tree.apply([]catalog.Op{set(catalog.TopicConfigPath("t"), catalog.EncodeConfig(map[string]string{"min.insync.replicas": "1"}))})
	r.run([]string{"unregister", "1"})
	if p := r.catalog.Current().Topic("t").Partition(0); p.Leader == 2 {
		t.Fatalf("broker 2 leads, which lacks what broker 1 has acknowledged alone: %+v", p)
	}
}

// A topic that is deleted before the request that makes it is done does not come back.
func TestATopicDeletedWhileItIsMadeStaysDeleted(t *testing.T) {
	r := started(2)
	r.mute = true
	r.run([]string{"register", "2"}) // it does not say what its logs hold: nothing is led by it yet
	var answer *CreatedTopic
	r.c.CreateTopics(CreateTopics{Timeout: 20 * time.Second, Topics: []NewTopic{{Name: "t", Partitions: -1, ReplicationFactor: -1,
		Assignments: []Assignment{{0, []int32{0}}, {1, []int32{2}}}}}}, func(x []CreatedTopic) { answer = &x[0] })
	r.settle()
	if r.catalog.Current().Topic("t") == nil || answer != nil {
		t.Fatal("it is not there, or done already")
	}
	before := r.tree.multis
	r.run([]string{"delete", "t"})
	r.settle()
	if r.catalog.Current().Topic("t") != nil || answer == nil || answer.Err == nil || r.tree.multis > before+10 {
		t.Fatalf("answered %+v, %d multis: %s", answer, r.tree.multis-before, r.out.String())
	}
}

// offline has a broker say which partitions it cannot serve.
func (r *room) offline(broker int32, list map[catalog.UUID][]int32) {
	b := *r.catalog.Current().Broker(broker)
	b.Offline = list
	r.tree.apply([]catalog.Op{set(b.Registration().Path, b.Registration().Data)})
	r.settle()
}

// A replica that stays offline on a disk that works is left to its box: nothing is begun anew, time and again, where it is. How long it
// was offline says nothing of another one there.
func TestAReplicaThatStaysOffline(t *testing.T) {
	r := started(3, []string{"create", "auto", "p=2"})
	topic := func() *catalog.Topic { return r.catalog.Current().Topic("auto") }
	r.offline(2, map[catalog.UUID][]int32{topic().ID: {0}})
	for range 11 {
		r.run([]string{"advance", "1m"})
	}
	before, epoch := r.tree.multis, topic().Partition(0).LeaderEpoch
	r.offline(2, map[catalog.UUID][]int32{topic().ID: {0, 1}})
	other := topic().Partition(1).LeaderEpoch
	for range 30 {
		r.run([]string{"advance", "2s"})
	}
	if p := topic().Partition(0); p.LeaderEpoch != epoch || slices.Contains(p.ISR, 2) {
		t.Fatalf("%d multis, epoch %d → %d: %+v", r.tree.multis-before, epoch, p.LeaderEpoch, p)
	}
	if p := topic().Partition(1); p.LeaderEpoch != other {
		t.Fatalf("the other one: %d multis, epoch %d → %d: %+v", r.tree.multis-before, other, p.LeaderEpoch, p)
	}
	r.run([]string{"register", "3"}) // a box that has none of it
	for range 30 {
		r.run([]string{"advance", "2s"})
	}
	if p := topic().Partition(0); slices.Contains(p.Target(), 2) {
		t.Fatalf("not moved to another box: %+v", p)
	}
	if p := topic().Partition(1); !slices.Contains(p.Target(), 2) {
		t.Fatalf("moved after a minute: %+v", p)
	}
}

// The last one that counts may have forgotten something, and leads again all the same: nobody knows more. Also where it had left the
// ISR before it stopped.
func TestTheLastReplicaThatMayHaveForgotten(t *testing.T) {
	r := started(1, []string{"create", "memory", "assign=0", "cairn.durability=replicated"})
	r.offline(0, map[catalog.UUID][]int32{r.catalog.Current().Topic("memory").ID: {0}})
	if p := r.catalog.Current().Topic("memory").Partition(0); p.Leader != catalog.NoLeader || len(p.ISR) != 0 || len(p.ELR) != 1 {
		t.Fatalf("offline: %+v", p)
	}
	r.run([]string{"unregister", "0"})
	r.run([]string{"register", "0", "unclean"})
	if p := r.catalog.Current().Topic("memory").Partition(0); p.Leader != 0 {
		t.Fatalf("nobody leads: %+v", p)
	}
}

// A broker that cannot serve its replica, though it has the log directory, neither leads nor is in sync, and is let in again once it
// can.
func TestAReplicaThatItsBrokerCannotServe(t *testing.T) {
	r := started(3, []string{"create", "t", "assign=0,1,2:1,0,2"})
	say := func(offline map[catalog.UUID][]int32) { r.offline(0, offline) }
	partition := func(i int32) *catalog.Partition { return r.catalog.Current().Topic("t").Partition(i) }
	say(map[catalog.UUID][]int32{r.catalog.Current().Topic("t").ID: {0}})
	if p := partition(0); p.Leader != 1 || slices.Contains(p.ISR, 0) || p.LeaderEpoch != 1 {
		t.Fatalf("%+v", p)
	}
	if p := partition(1); len(p.ISR) != 3 {
		t.Fatalf("another partition: %+v", p)
	}
	r.run([]string{"insync", "1", "t:0", "0,1,2"})
	r.run([]string{"elect", "preferred", "t:0"})
	if p := partition(0); p.Leader != 1 || slices.Contains(p.ISR, 0) {
		t.Fatalf("let in though it is offline: %+v\n%s", p, r.out.String())
	}
	say(nil)
	r.run([]string{"insync", "1", "t:0", "0,1,2"})
	if p := partition(0); len(p.ISR) != 3 {
		t.Fatalf("not let in again: %+v\n%s", p, r.out.String())
	}
}
