package group

import (
	"strconv"
	"testing"
	"time"

	"cairn/engine/limits"
)

// BenchmarkCommit is the work of one commit of ten partitions, record included, without the append.
func BenchmarkCommit(b *testing.B) {
	s := New(DefaultSettings(), limits.Derive(256<<20).Group)
	now := Time{Mono: time.Second, Wall: 1_767_225_600_000}
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		q := &Commit{Target: Target{Group: "g", Ticket: 1}, Version: 9, Generation: -1, Retention: -1}
		topic := CommitTopic{Topic: "topic"}
		for p := range int32(10) {
			topic.Partitions = append(topic.Partitions, CommitPartition{Partition: p, Offset: n, LeaderEpoch: -1})
		}
		q.Topics = []CommitTopic{topic}
		s.Step(now, q)
		_, number, _ := s.Seal()
		s.Committed(number)
		s.TakeReplies()
	}
}

// BenchmarkHeartbeat is one heartbeat of one of a thousand members.
func BenchmarkHeartbeat(b *testing.B) {
	s := New(DefaultSettings(), limits.Derive(1<<30).Group)
	now := Time{Mono: time.Second, Wall: 1_767_225_600_000}
	var ids []string
	for i := range 1000 {
		n := strconv.Itoa(i)
		s.Step(now, &Join{Target: Target{Group: "g", Ticket: Ticket(i + 1)}, Version: 3, ClientID: "c", Session: 10 * time.Second,
			ProtocolType: "consumer", Protocols: []Protocol{{Name: "range"}}, Unique: n})
		ids = append(ids, "c-"+n)
	}
	s.Tick(Time{Mono: 10 * time.Second, Wall: now.Wall})
	s.TakeReplies()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		now.Mono += time.Microsecond
		s.Step(now, &Heartbeat{Target: Target{Group: "g", Ticket: 1}, Generation: 1, MemberID: ids[n%len(ids)]})
		s.Tick(now)
		s.TakeReplies()
	}
}
