package kafkaserver

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *client) fetch(version int16, req *kmsg.FetchRequest) *kmsg.FetchResponse {
	c.t.Helper()
	return ask(c, version, req, kmsg.NewPtrFetchResponse())
}

func TestFetchEveryVersion(t *testing.T) {
	r := newRig(t)
	id := r.topic("t", 1)
	c := r.dial()
	c.produce("t", 0, "a", "b")
	c.produce("t", 0, "c")
	for version := int16(4); version <= 18; version++ {
		req := fetchRequest("t", 1, 0)
		req.Topics[0].TopicID = id
		resp := c.fetch(version, req)
		p := resp.Topics[0].Partitions[0]
		if got := valuesOf(t, p.RecordBatches); !slices.Equal(got, []string{"a", "b", "c"}) { // behaviour 29: may begin before the offset
			t.Errorf("v%d: %v", version, got)
		}
		if p.HighWatermark != 3 || p.LastStableOffset != 3 || p.ErrorCode != 0 || p.AbortedTransactions != nil || p.PreferredReadReplica != -1 {
			t.Errorf("v%d: %+v", version, p)
		}
	}
}

// Behaviour 28: one whole batch comes in any case; other limits are kept; fetch.max.bytes bounds it all.
func TestBehaviour28Limits(t *testing.T) {
	r := newRig(t)
	r.topic("t", 3)
	c := r.dial()
	value := string(make([]byte, 1000))
	for p := range int32(3) {
		for range 4 {
			c.produce("t", p, value)
		}
	}
	counts := func(maxBytes, partitionMax int32) []int {
		req := fetchRequest("t", 0, 0, 1, 2)
		req.MaxBytes = maxBytes
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = partitionMax
		}
		var n []int
		for _, p := range c.fetch(11, req).Topics[0].Partitions {
			n = append(n, len(valuesOf(t, p.RecordBatches)))
		}
		return n
	}
	if got := counts(1<<20, 1<<20); !slices.Equal(got, []int{4, 4, 4}) {
		t.Error(got)
	}
	if got := counts(1, 1<<20); !slices.Equal(got, []int{1, 0, 0}) {
		t.Error("one batch beyond the limit:", got)
	}
	if got := counts(1<<20, 1); !slices.Equal(got, []int{1, 0, 0}) {
		t.Error("one batch beyond the partition's limit:", got)
	}
	if got := counts(1<<20, 2300); !slices.Equal(got, []int{2, 2, 2}) {
		t.Error("the partition's limit:", got)
	}
	if got := counts(5000, 1<<20); !slices.Equal(got, []int{4, 0, 0}) {
		t.Error("the request's limit:", got)
	}
	if got := counts(-5, -5); !slices.Equal(got, []int{1, 0, 0}) {
		t.Error("negative limits:", got)
	}
	r.mu.Lock()
	r.settings.FetchMaxBytes = 1
	r.mu.Unlock()
	if got := counts(1<<20, 1<<20); !slices.Equal(got, []int{1, 0, 0}) {
		t.Error("fetch.max.bytes:", got)
	}
}

// Behaviour 30: a long poll wakes when the high watermark moves, answers at once on an error, and when its time is
// over.
func TestBehaviour30LongPoll(t *testing.T) {
	r := newRig(t)
	r.topic("t", 2)
	c, producer := r.dial(), r.dial()
	poll := func(wait time.Duration, minBytes int32, partitions ...int32) *kmsg.FetchRequest {
		req := fetchRequest("t", 0, partitions...)
		req.MaxWaitMillis, req.MinBytes = int32(wait.Milliseconds()), minBytes
		return req
	}
	start := time.Now()
	c.send(12, poll(20*time.Second, 1, 0, 1))
	r.wait("the poll", func() bool { return r.open.Load() == 2 })
	producer.produce("t", 1, "x")
	resp := receive(c, 12, kmsg.NewPtrFetchResponse())
	if got := valuesOf(t, resp.Topics[0].Partitions[1].RecordBatches); len(got) != 1 || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", got, time.Since(start))
	}
	// Not enough bytes yet: it goes on waiting.
	c.send(12, poll(20*time.Second, 200, 0))
	producer.produce("t", 0, "y")
	producer.produce("t", 0, string(make([]byte, 200)))
	resp = receive(c, 12, kmsg.NewPtrFetchResponse())
	if got := valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches); len(got) != 2 {
		t.Errorf("%d values", len(got))
	}
	// Time over: what there is.
	start = time.Now()
	resp = c.fetch(12, poll(30*time.Millisecond, 1<<20, 0))
	if got := valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches); len(got) != 2 || time.Since(start) < 30*time.Millisecond {
		t.Errorf("%d values after %v", len(got), time.Since(start))
	}
	// An error is told at once.
	start = time.Now()
	resp = c.fetch(12, poll(20*time.Second, 1<<20, 0, 9))
	if code := resp.Topics[0].Partitions[1].ErrorCode; code != 3 || time.Since(start) > 5*time.Second {
		t.Errorf("code %d after %v", code, time.Since(start))
	}
	// Leadership lost while waiting, or just before: who knows the epoch is not left with a follower.
	lost := poll(20*time.Second, 1<<20, 0)
	lost.Topics[0].Partitions[0].CurrentLeaderEpoch = r.replica("t", 0).View().LeaderEpoch
	c.send(12, lost)
	r.replica("t", 0).Resign(2)
	resp = receive(c, 12, kmsg.NewPtrFetchResponse())
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 6 && code != 74 {
		t.Errorf("code %d", code)
	}
}

// A parked poll whose client goes away gives everything back.
func TestParkedFetchOfADeadClient(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	req := fetchRequest("t", 0, 0)
	req.MaxWaitMillis = 60_000
	c.send(12, req)
	r.wait("the poll", func() bool { used, _ := r.budget.load(); return used > 0 })
	_ = c.conn.Close()
	r.wait("the end of the connection", func() bool { return r.open.Load() == 0 })
	r.wait("memory given back", func() bool { used, _ := r.budget.load(); return used == 0 })
	r.dial().produce("t", 0, "wakes nobody")
}

// Behaviours 32 and 33: offsets and epochs.
func TestBehaviour32And33OffsetsAndEpochs(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	for range 4 {
		c.produce("t", 0, "v")
	}
	done := make(chan error, 1)
	r.replica("t", 0).DeleteRecords(context.Background(), 2, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.wait("the new start", func() bool { return r.replica("t", 0).View().Start == 2 })
	for _, x := range []struct {
		name                 string
		offset               int64
		epoch, fetchedEpoch  int32
		code                 int16
		n                    int
		diverging, logStart_ int64
	}{
		{"below the start", 1, -1, -1, 1, 0, -1, 2},
		{"at the start", 2, -1, -1, 0, 2, -1, 2},
		{"at the end", 4, -1, -1, 0, 0, -1, 2},
		{"beyond the end", 5, -1, -1, 1, 0, -1, 2},
		{"present epoch", 2, 1, -1, 0, 2, -1, 2},
		{"old epoch", 2, 0, -1, 74, 0, -1, -1},
		{"future epoch", 2, 2, -1, 75, 0, -1, -1},
		{"last fetched in this epoch", 3, 1, 1, 0, 1, -1, 2},
		{"diverged", 6, 1, 1, 0, 0, 4, 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			req := fetchRequest("t", x.offset, 0)
			req.Topics[0].Partitions[0].CurrentLeaderEpoch = x.epoch
			req.Topics[0].Partitions[0].LastFetchedEpoch = x.fetchedEpoch
			p := c.fetch(12, req).Topics[0].Partitions[0]
			if p.ErrorCode != x.code || len(valuesOf(t, p.RecordBatches)) != x.n || p.DivergingEpoch.EndOffset != x.diverging || p.LogStartOffset != x.logStart_ {
				t.Errorf("%+v", p)
			}
		})
	}
}

// Behaviour 31: read_committed gets a list of aborted transactions that is not null.
func TestBehaviour31ReadCommitted(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	c.produce("t", 0, "v")
	req := fetchRequest("t", 0, 0)
	req.IsolationLevel = 1
	p := c.fetch(12, req).Topics[0].Partitions[0]
	if p.AbortedTransactions == nil || len(p.AbortedTransactions) != 0 || len(valuesOf(t, p.RecordBatches)) != 1 {
		t.Errorf("%+v", p)
	}
}

func TestBehaviour13TopicIDs(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	req := fetchRequest("t", 0, 0)
	req.Topics[0].TopicID = [16]byte{9}
	if p := c.fetch(13, req).Topics[0].Partitions[0]; p.ErrorCode != 100 {
		t.Errorf("unknown id: %d", p.ErrorCode)
	}
	r.declare("t", 1, rigBroker) // the catalog has a new topic of that name; the log here is the old one's
	if p := c.fetch(12, req).Topics[0].Partitions[0]; p.ErrorCode != 6 {
		t.Errorf("old log: %d", p.ErrorCode)
	}
}

// told is what an incremental answer says: partition, code, number of values.
func told(t *testing.T, resp *kmsg.FetchResponse) string {
	out := fmt.Sprintf("%d:", resp.ErrorCode)
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			out += fmt.Sprintf(" %d/%d/%d", p.Partition, p.ErrorCode, len(valuesOf(t, p.RecordBatches)))
		}
	}
	return out
}

// Behaviour 27: sessions.
func TestBehaviour27Sessions(t *testing.T) {
	r := newRig(t)
	r.topic("t", 3)
	c := r.dial()
	c.produce("t", 1, "a")
	begin := fetchRequest("t", 0, 0, 1, 2)
	begin.SessionEpoch = 0
	resp := c.fetch(12, begin)
	id := resp.SessionID
	if id == 0 || told(t, resp) != "0: 0/0/0 1/0/1 2/0/0" {
		t.Fatalf("session %d, %s", id, told(t, resp))
	}
	next := func(epoch int32, change func(*kmsg.FetchRequest)) string {
		req := fetchRequest("t", 0)
		req.Topics, req.SessionID, req.SessionEpoch = nil, id, epoch
		if change != nil {
			change(req)
		}
		return told(t, c.fetch(12, req))
	}
	moveTo := func(p int32, offset int64) func(*kmsg.FetchRequest) {
		return func(req *kmsg.FetchRequest) { req.Topics = fetchRequest("t", offset, p).Topics }
	}
	steps := []struct {
		name   string
		epoch  int32
		change func(*kmsg.FetchRequest)
		want   string
	}{
		{"the same records again, nothing of the others", 1, nil, "0: 1/0/1"},
		{"position moved: nothing to tell", 2, moveTo(1, 1), "0:"},
		{"wrong epoch", 9, nil, "71:"},
		{"a partition is forgotten", 3, func(req *kmsg.FetchRequest) {
			f := kmsg.NewFetchRequestForgottenTopic()
			f.Topic, f.Partitions = "t", []int32{0}
			req.ForgottenTopics = append(req.ForgottenTopics, f)
		}, "0:"},
		{"one that is new is told once", 4, moveTo(0, 0), "0: 0/0/0"},
		{"an error", 5, moveTo(0, 99), "0: 0/1/0"},
		{"the error again", 6, nil, "0: 0/1/0"},
		{"the error is over, which is told", 7, moveTo(0, 0), "0: 0/0/0"},
		{"and not again", 8, nil, "0:"},
		{"topic ids in a session without", 9, nil, ""},
	}
	for _, s := range steps[:len(steps)-1] {
		if got := next(s.epoch, s.change); got != s.want {
			t.Fatalf("%s: %s, want %s", s.name, got, s.want)
		}
	}
	byID := fetchRequest("t", 0)
	byID.Topics, byID.SessionID, byID.SessionEpoch = nil, id, 9
	if resp := c.fetch(13, byID); resp.ErrorCode != 106 {
		t.Errorf("mixed ids: %d", resp.ErrorCode)
	}
	c.produce("t", 2, "b")
	if got := next(9, nil); got != "0: 2/0/1" {
		t.Errorf("new records: %s", got)
	}
	diverged := func(req *kmsg.FetchRequest) {
		moveTo(0, 6)(req)
		req.Topics[0].Partitions[0].LastFetchedEpoch = 1
	}
	for i, change := range []func(*kmsg.FetchRequest){diverged, moveTo(0, 0)} { // a follower has cut its log, and is told that it agrees now
		if got := next(10+int32(i), change); got != "0: 0/0/0 2/0/1" {
			t.Errorf("step %d of a follower whose log diverges: %s", i, got)
		}
	}
	inEpoch := func(req *kmsg.FetchRequest) {
		moveTo(0, 0)(req)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 1
	}
	for i, want := range []string{"0: 0/0/0 2/0/1", "0: 2/0/1"} {
		if got := next(12+int32(i), inEpoch); got != want {
			t.Errorf("asked in an epoch for the %d. time: %s, want %s", i+1, got, want)
		}
	}
	end := fetchRequest("t", 0, 0)
	end.SessionID, end.SessionEpoch = id, -1
	if resp := c.fetch(12, end); resp.SessionID != 0 || resp.ErrorCode != 0 {
		t.Errorf("final: session %d, code %d", resp.SessionID, resp.ErrorCode)
	}
	if got := next(14, nil); got != "70:" {
		t.Errorf("after the end: %s", got)
	}
	if n := r.sessions.count(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// Sessions are bounded: a full cache refuses with session id 0, and an old session makes room.
func TestSessionsAreBounded(t *testing.T) {
	draws := int32(0)
	f := newFetchSessions(limits.Kafka{FetchSessionsMax: 2, FetchSessionPartitionsMax: 5}, func() int32 { draws++; return draws })
	begin := func(now time.Duration, partitions ...int32) *fetchSession {
		req := fetchRequest("t", 0, partitions...)
		req.Version = 12
		return f.begin(now, req)
	}
	a, b := begin(1, 0, 1), begin(2, 0)
	if a == nil || b == nil || begin(3, 0) != nil {
		t.Fatal("two sessions fit, a third does not")
	}
	if c := begin(sessionIdleMin+1, 0, 1, 2, 3); c == nil || f.byID[a.id] != nil || f.byID[b.id] == nil {
		t.Error("the oldest should have made room")
	}
	if begin(10*sessionIdleMin, 0, 1, 2, 3, 4, 5) != nil {
		t.Error("more partitions than there may be")
	}
	more := fetchRequest("t", 0, 5, 6, 7, 8)
	more.Version, more.SessionID, more.SessionEpoch = 12, b.id, 1
	if s, code := f.next(10*sessionIdleMin, more); s != nil || code != codeFetchSessionIDNotFound {
		t.Error("a session grew beyond the maximum")
	}
	if f.partitions != 4 || f.count() != 1 {
		t.Errorf("%d partitions in %d sessions", f.partitions, f.count())
	}
}

// Partitions of a session that gave records stand behind the others next time, so that none starves.
func TestBehaviour28Rotation(t *testing.T) {
	r := newRig(t)
	r.topic("t", 3)
	c := r.dial()
	value := string(make([]byte, 1000))
	for p := range int32(3) {
		for range 3 {
			c.produce("t", p, value)
		}
	}
	req := fetchRequest("t", 0, 0, 1, 2)
	req.SessionEpoch, req.MaxBytes = 0, 1
	resp := c.fetch(12, req)
	seen := map[int32]int{}
	for epoch := int32(1); epoch <= 6; epoch++ {
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				seen[p.Partition] += len(valuesOf(t, p.RecordBatches))
			}
		}
		next := fetchRequest("t", 0)
		next.Topics, next.SessionID, next.SessionEpoch, next.MaxBytes = nil, resp.SessionID, epoch, 1
		resp = c.fetch(12, next)
	}
	for p := range int32(3) {
		if seen[p] != 2 {
			t.Errorf("records by partition: %v", seen)
			break
		}
	}
}

// A fetch at the wrong box is told the leader from version 16 on.
func TestFetchNamesTheLeader(t *testing.T) {
	r := newRig(t)
	id := r.declare("away", 1, 2)
	r.broker(2, "other.example", 9094)
	req := fetchRequest("away", 0, 0)
	req.Topics[0].TopicID = id
	resp := r.dial().fetch(16, req)
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 6 || p.CurrentLeader.LeaderID != 2 || len(resp.Brokers) != 1 || resp.Brokers[0].Host != "other.example" {
		t.Errorf("%+v %+v", p, resp.Brokers)
	}
}

// BenchmarkFetch fetches 64 KiB from a file, by sendfile.
func BenchmarkFetch(b *testing.B) {
	r := newRig(b, onDisk(b.TempDir()))
	r.topic("t", 1)
	c := r.dial()
	_ = c.conn.SetDeadline(time.Time{})
	c.produce("t", 0, string(make([]byte, 64<<10)))
	frame := c.frame(12, fetchRequest("t", 0, 0))
	answer := make([]byte, 128<<10)
	b.ReportAllocs()
	b.SetBytes(64 << 10)
	for b.Loop() {
		roundTrip(b, c.conn, frame, answer)
	}
	if r.sent.SendfileBytes() == 0 {
		b.Error("not sent by sendfile")
	}
}
