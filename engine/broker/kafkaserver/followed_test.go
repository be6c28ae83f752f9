package kafkaserver

import (
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// asking is a follower's request for partitions of t from an offset, in epoch 1, that waits. In a session that is there it knows
// that their logs begin at 0.
func asking(session, epoch int32, wait time.Duration, offset int64, partitions ...int32) *kmsg.FetchRequest {
	req := waiting(offset)
	req.SessionID, req.SessionEpoch, req.MaxWaitMillis = session, epoch, int32(wait.Milliseconds())
	one := req.Topics[0].Partitions[0]
	if session != 0 {
		one.LogStartOffset = 0
	}
	req.Topics[0].Partitions = nil
	for _, p := range partitions {
		one.Partition = p
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, one)
	}
	if len(partitions) == 0 {
		req.Topics = nil
	}
	return req
}

// partitionsIn are the partitions that an answer tells of.
func partitionsIn(resp *kmsg.FetchResponse) (partitions []int32) {
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			partitions = append(partitions, p.Partition)
		}
	}
	slices.Sort(partitions)
	return partitions
}

// lookedAt is how many partitions of the one session the next look is about, and how many are at rest.
func (r *rig) lookedAt() (looked, resting int) {
	sessions := r.Server.follows
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	for _, s := range sessions.byID {
		s.followed.mu.Lock()
		for e := s.order.Front(); e != nil; e = e.Next() {
			switch p := e.Value.(*sessionPartition); {
			case p.held || p.noted:
				looked++
			case p.watcher != nil:
				resting++
			}
		}
		s.followed.mu.Unlock()
	}
	return looked, resting
}

// A follower's session looks at partitions with news alone, and misses none: records wake its request, a high watermark is told
// when the request ends anyway, and what was forgotten is not told.
func TestAFollowersIdlePartitionsAreLeftAlone(t *testing.T) {
	const partitions = 50
	r := newRig(t)
	r.topic("t", partitions)
	second := partition.Member{Broker: 2, Epoch: 20}
	var all []int32
	for p := range int32(partitions) {
		all = append(all, p)
		r.replica("t", p).Lead(1, partition.Membership{Epoch: 1, Replicas: []partition.Member{second}, InSync: []int32{rigBroker, 2}}, func(int32, error) {})
		r.wait("two in sync", func() bool { return r.replica("t", p).View().InSync == 2 })
	}
	producer, follower := r.dial(), r.dialBox(2)
	begin := follower.fetch(11, asking(0, 0, 0, 0, all...))
	if got := partitionsIn(begin); !slices.Equal(got, all) {
		t.Fatalf("a new session tells of %v", got)
	}
	id, epoch := begin.SessionID, int32(0)
	ask := func(wait time.Duration, offset int64, partitions ...int32) {
		epoch++
		follower.send(11, asking(id, epoch, wait, offset, partitions...))
	}
	answer := func() *kmsg.FetchResponse {
		t.Helper()
		resp := receive(follower, 11, kmsg.NewPtrFetchResponse())
		if resp.ErrorCode != 0 {
			t.Fatalf("error %d", resp.ErrorCode)
		}
		return resp
	}

	ask(20*time.Second, 0)
	r.wait("the request to wait", func() bool { return r.parked() == 1 })
	if looked, resting := r.lookedAt(); looked != 0 || resting != partitions {
		t.Fatalf("%d partitions are looked at and %d rest while nothing happens", looked, resting)
	}
	producer.produceAcks(1, "t", 7, "a")
	if got := partitionsIn(answer()); !slices.Equal(got, []int32{7}) {
		t.Fatalf("after a record in partition 7: %v", got)
	}
	ask(20*time.Second, 1, 7)
	r.wait("the request to wait", func() bool { return r.parked() == 1 })
	if looked, resting := r.lookedAt(); looked > 1 || resting < partitions-1 {
		t.Fatalf("%d partitions are looked at and %d rest after one had news", looked, resting)
	}

	ask(20*time.Second, 0) // ends the wait of the one before, and is the one that waits now
	answer()
	r.wait("all to rest", func() bool {
		looked, resting := r.lookedAt()
		return looked == 0 && resting == partitions && r.parked() == 1
	})
	r.replica("t", 7).Vouch(second, 1, 1)
	r.wait("the high watermark", func() bool { return r.replica("t", 7).View().HighWatermark == 1 })
	if r.parked() != 1 {
		t.Fatal("a high watermark has woken the request")
	}
	ask(200*time.Millisecond, 0) // ends the wait of the one before
	resp := answer()
	if got := partitionsIn(resp); !slices.Equal(got, []int32{7}) || resp.Topics[0].Partitions[0].HighWatermark != 1 {
		t.Fatalf("after the high watermark of partition 7: %v", got)
	}
	if got := partitionsIn(answer()); len(got) != 0 {
		t.Fatalf("at the end of a wait without news: %v", got)
	}

	forgets := asking(id, epoch+1, 100*time.Millisecond, 0)
	forgotten := kmsg.NewFetchRequestForgottenTopic()
	forgotten.Topic, forgotten.Partitions = "t", []int32{9}
	forgets.ForgottenTopics = append(forgets.ForgottenTopics, forgotten)
	epoch++
	producer.produceAcks(1, "t", 9, "b")
	follower.send(11, forgets)
	if got := partitionsIn(answer()); len(got) != 0 {
		t.Fatalf("a forgotten partition is told: %v", got)
	}
	// A leader that is none any more is said at once, and again until the follower forgets it.
	ask(20*time.Second, 0)
	r.wait("the request to wait", func() bool { return r.parked() == 1 })
	r.replica("t", 3).Resign(2)
	for range 2 {
		resp := answer()
		if got := partitionsIn(resp); !slices.Equal(got, []int32{3}) || resp.Topics[0].Partitions[0].ErrorCode == 0 {
			t.Fatalf("after the leadership of partition 3: %v", got)
		}
		ask(20*time.Second, 0)
	}
}

// A follower that was told nothing yet of this leadership is told at once, in a session that begins and in one that goes on: it is not in
// sync before. So is a start of the log that has moved: whoever has deleted records waits for all that follow.
func TestAFollowerIsToldAtOnceWhatOthersWaitFor(t *testing.T) {
	r := newRig(t)
	r.topic("t", 2)
	producer, follower := r.dial(), r.dialBox(2)
	begin := follower.fetch(11, asking(0, 0, time.Hour, 0, 0))
	if got := partitionsIn(begin); !slices.Equal(got, []int32{0}) {
		t.Fatalf("a new session tells of %v", got)
	}
	answered := func(req *kmsg.FetchRequest, want int32) {
		t.Helper()
		if got := partitionsIn(follower.fetch(11, req)); !slices.Equal(got, []int32{want}) {
			t.Fatalf("an answer tells of %v", got)
		}
	}
	news := asking(begin.SessionID, 1, time.Hour, 0, 1)
	news.Topics[0].Partitions[0].LogStartOffset = -1
	answered(news, 1)
	producer.produceAcks(1, "t", 0, "a")
	answered(asking(begin.SessionID, 2, time.Hour, 0), 0)

	follower.send(11, asking(begin.SessionID, 3, time.Hour, 1, 0))
	r.wait("the request to wait", func() bool { return r.parked() == 1 })
	r.replica("t", 0).DeleteRecords(t.Context(), 1, func(int64, error) {})
	resp := receive(follower, 11, kmsg.NewPtrFetchResponse())
	if got := partitionsIn(resp); !slices.Equal(got, []int32{0}) || resp.Topics[0].Partitions[0].LogStartOffset != 1 {
		t.Fatalf("after a deletion in partition 0: %v", got)
	}
	follower.send(11, asking(begin.SessionID, 4, time.Hour, 0))
	r.wait("the request to wait, for it was told", func() bool { return r.parked() == 1 })
}

// What moves after the last look of a request, and before its answer, is told with the next: of a high watermark no watcher wakes.
func TestNewsBetweenTheLookAndTheAnswerAreToldNext(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	second, rep := partition.Member{Broker: 2, Epoch: 20}, r.replica("t", 0)
	rep.Lead(1, partition.Membership{Epoch: 1, Replicas: []partition.Member{second}, InSync: []int32{rigBroker, 2}}, func(int32, error) {})
	r.wait("two in sync", func() bool { return rep.View().InSync == 2 })
	r.dial().produceAcks(1, "t", 0, "a")

	f, c := &followed{}, &sessionPartition{key: partitionKey{topic: "t"}, told: true}
	look := func(parts []fetchPart) []fetchPart {
		f.take(parts, func(c *sessionPartition) { parts = append(parts, fetchPart{cached: c}) })
		for i := range parts {
			p, v := &parts[i], rep.View()
			p.view, p.offset, p.highWatermark = v, v.End, v.HighWatermark
			f.watch(t.Context(), p.cached, rep, v)
		}
		return parts
	}
	noted := func() bool { f.mu.Lock(); defer f.mu.Unlock(); return c.noted }
	f.note(c, false)
	before := look(nil)
	rep.Vouch(second, 1, 1)
	r.wait("the high watermark to be noted", noted)
	f.giveBack(before, (*fetchPart).rests)
	after := look(nil)
	if len(before) != 1 || before[0].highWatermark != 0 || len(after) != 1 || after[0].highWatermark != 1 {
		t.Fatalf("looked at before: %+v, after: %+v", before, after)
	}
	r.dial().produceAcks(1, "t", 0, "b")
	r.wait("the record to be noted", noted)
	after = look(after) // the request has waited, and looks once more
	rep.Vouch(second, 1, 2)
	r.wait("the next high watermark to be noted", noted)
	after = look(after)
	f.giveBack(after, (*fetchPart).rests)
	if again := look(nil); len(after) != 1 || after[0].highWatermark != 2 || len(again) != 0 {
		t.Fatalf("looked at last: %+v, and again: %+v", after, again)
	}
}

// What an answer had no room for comes with the next ones: all partitions in turn, none before the others have had theirs.
func TestAFollowersFullAnswersStarveNobody(t *testing.T) {
	r := newRig(t)
	r.topic("t", 3)
	producer, follower := r.dial(), r.dialBox(2)
	for p := range int32(3) {
		for range 3 {
			producer.produceAcks(1, "t", p, "a")
		}
	}
	offsets := map[int32]int64{}
	begin := asking(0, 0, 0, 0, 0, 1, 2)
	begin.MaxBytes = 1
	resp := follower.fetch(11, begin)
	id := resp.SessionID
	for epoch := int32(1); epoch <= 9; epoch++ {
		req := asking(id, epoch, 0, 0)
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if n := len(valuesOf(t, p.RecordBatches)); n > 0 {
					offsets[p.Partition] += int64(n)
					req.Topics = asking(id, epoch, 0, offsets[p.Partition], p.Partition).Topics
				}
			}
		}
		if round := int64(epoch+2) / 3; offsets[0] > round || offsets[1] > round || offsets[2] > round {
			t.Fatalf("after %d answers the follower has come to %v", epoch, offsets)
		}
		req.MaxBytes = 1
		resp = follower.fetch(11, req)
	}
	if offsets[0] != 3 || offsets[1] != 3 || offsets[2] != 3 {
		t.Fatalf("the follower has come to %v", offsets)
	}
}

// A box's session ends with its connection, or when the connection begins another, and leaves nothing at the replicas.
func TestAFollowersSessionEndsWithItsConnection(t *testing.T) {
	r := newRig(t)
	r.topic("t", 3)
	follower := r.dialBox(2)
	first := follower.fetch(11, asking(0, 0, 0, 0, 0, 1, 2)).SessionID
	r.Server.follows.mu.Lock()
	s := r.Server.follows.byID[first]
	r.Server.follows.mu.Unlock()
	follower.fetch(11, asking(0, 0, 0, 0, 0, 1))
	if n := r.Server.follows.count(); n != 1 {
		t.Fatalf("%d sessions of one connection", n)
	}
	for e := s.order.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*sessionPartition); p.watcher != nil {
			t.Errorf("partition %d of an ended session is watched", p.key.partition)
		}
	}
	_ = follower.conn.Close()
	r.wait("the session to end", func() bool { return r.Server.follows.count() == 0 })
}

// Clients hold as many sessions as they may, and a follower has one yet: without, it copies nothing. What lets it have one is whose
// connection it is: a client that calls itself a broker gets none, and neither asks in a follower's session nor ends it.
func TestAFollowerHasASessionWhateverClientsHold(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.FetchSessionsMax, l.FetchSessionPartitionsMax = 2, 2 }))
	r.topic("t", 2)
	begin := fetchRequest("t", 0, 0)
	begin.SessionEpoch, begin.ReplicaID = 0, 2
	for range 2 {
		if r.dial().fetch(11, begin).SessionID == 0 {
			t.Fatal("a client without session")
		}
	}
	follower, client := r.dialBox(2), r.dial()
	id := follower.fetch(11, asking(0, 0, 0, 0, 0, 1)).SessionID
	if id == 0 {
		t.Fatal("a follower is given no session")
	}
	if client.fetch(11, begin).SessionID != 0 {
		t.Error("a client that calls itself a broker has a session beyond what clients may hold")
	}
	if code := client.fetch(11, asking(id, 1, 0, 0)).ErrorCode; code != codeFetchSessionIDNotFound {
		t.Errorf("a client asks in a follower's session: error %d", code)
	}
	for _, epoch := range []int32{sessionEpochInitial, sessionEpochFinal} {
		client.fetch(11, asking(id, epoch, 0, 0, 0))
	}
	if resp := follower.fetch(11, asking(id, 1, 0, 0)); resp.ErrorCode != 0 || resp.SessionID != id {
		t.Errorf("a follower's session that a client has named: error %d, session %d", resp.ErrorCode, resp.SessionID)
	}
}

// Boxes' sessions have a bound of their own, within which a connection may begin another at any time.
func TestFollowersSessionsAreBounded(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.FollowSessionsMax, l.FollowSessionPartitionsMax = 2, 3 }))
	r.topic("t", 4)
	first, second, third := r.dialBox(2), r.dialBox(3), r.dialBox(4)
	begins := func(c *client, partitions ...int32) bool {
		return c.fetch(11, asking(0, 0, 0, 0, partitions...)).SessionID != 0
	}
	if !begins(first, 0, 1) || !begins(second, 0) {
		t.Fatal("two sessions fit")
	}
	if begins(third, 0) {
		t.Error("a third does not")
	}
	for range 2 {
		if !begins(first, 0, 1) {
			t.Error("a connection's own session is in the way of its next")
		}
	}
	if begins(first, 0, 1, 2) {
		t.Error("more partitions than there may be")
	}
	if !begins(third, 0, 1) {
		t.Error("a session that could not begin is in the way")
	}
}
