package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/platform/vfs"
)

// What a completion says can be read from the view at once.
func TestTheViewIsPublishedBeforeTheAnswer(t *testing.T) {
	g := start(t, vfs.NewMem(), 1, testConfig())
	told := 0
	g.r.Lead(g.epoch+1, partition.Membership{InSync: []int32{1}}, func(_ int32, err error) {
		told++
		if v := g.r.View(); err != nil || !v.Leader || v.LeaderEpoch != g.epoch+1 {
			t.Errorf("led in %d: the view says %v %d, %v", g.epoch+1, v.Leader, v.LeaderEpoch, err)
		}
	})
	g.wait(g.send(-1, 0, 10, -1))
	g.r.DeleteRecords(context.Background(), 7, func(start int64, err error) {
		told++
		if v := g.r.View(); err != nil || start != 7 || v.Start != 7 {
			t.Errorf("deleted up to %d: the view starts at %d, %v", start, v.Start, err)
		}
	})
	if g.sched.RunUntil(time.Minute, func() bool { return told == 2 }); told != 2 {
		t.Fatalf("%d of 2 answered", told)
	}
	g.close()
}

// A retry beside its original must not be acknowledged when the original is not written.
func TestARetryBesideAnOriginalThatFails(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig()
	cfg.Log.SegmentBytes = 1024 // the next batch begins a segment, which needs a block of the device
	g := start(t, fs, 2, cfg)
	g.wait(g.send(1, 0, 60, -1))
	fs.SetCapacity(1, 1)
	first, retry := g.send(1, 60, 60, -1), g.send(1, 60, 60, -1) // one step takes both
	g.wait(first, retry)
	if !errors.Is(first.Err, seglog.ErrFull) || !errors.Is(retry.Err, seglog.ErrFull) {
		t.Fatalf("on a full device: %v, its retry: %v", first.Err, retry.Err)
	}
	fs.SetCapacity(1, 1<<40)
	again, twice := g.send(1, 60, 60, -1), g.send(1, 60, 60, -1)
	g.wait(again, twice)
	if again.Err != nil || twice.Err != nil || again.BaseOffset != 60 || twice.BaseOffset != 60 {
		t.Fatalf("after space returned: offset %d %v, its retry %d %v", again.BaseOffset, again.Err, twice.BaseOffset, twice.Err)
	}
	if n := len(index(t, g.values())); n != 120 {
		t.Fatalf("%d records", n)
	}
	g.close()
}

// A producer's batch that is followed by another is refused before anything is noted of it.
func TestAProducersBatchIsAloneInItsAppend(t *testing.T) {
	g := start(t, vfs.NewMem(), 3, testConfig())
	build := func(seq int32) []byte {
		opts := batch.NewOptions()
		opts.ProducerID, opts.ProducerEpoch, opts.BaseSequence = 5, 0, seq
		b := batch.NewBuilder(opts)
		b.Append(1_700_000_000_000, nil, fmt.Appendf(nil, "5/%d", seq))
		raw, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	s := &sent{}
	s.AppendRequest = AppendRequest{Batch: append(build(0), build(9)...), Acks: -1, ExpectedEpoch: Any, Done: func(*AppendRequest) { s.answered++ }}
	g.r.Append(context.Background(), &s.AppendRequest)
	g.wait(s)
	if !errors.Is(s.Err, batch.ErrCorrupt) {
		t.Fatal(s.Err)
	}
	one := g.send(5, 0, 1, -1)
	g.wait(one)
	if got := g.values(); one.Err != nil || len(got) != 1 {
		t.Fatalf("%v, the log holds %d records", one.Err, len(got))
	}
	g.close()
}

// DeleteRecords is what people do when the device is full: it may be refused there, and harms nothing.
func TestDeleteRecordsOnAFullDevice(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 4, testConfig())
	g.wait(g.send(1, 0, 10, -1))
	fs.SetCapacity(1, 1)
	remove := func(to int64) (err error) {
		done := false
		g.r.DeleteRecords(context.Background(), to, func(_ int64, e error) { err, done = e, true })
		if !g.sched.RunUntil(time.Minute, func() bool { return done }) {
			t.Fatal("never answered")
		}
		return err
	}
	if err := remove(5); !errors.Is(err, seglog.ErrFull) {
		t.Fatalf("on a full device: %v", err)
	}
	fs.SetCapacity(1, 1<<40)
	if err := remove(6); err != nil {
		t.Fatal(err)
	}
	s := g.send(1, 10, 1, -1)
	if g.wait(s); s.Err != nil || g.r.View().Start != 6 {
		t.Fatalf("append: %v, start %d", s.Err, g.r.View().Start)
	}
	g.close()
}

// A deletion whose start becomes durable after another leader has had the log cut below it moves nothing: the log begins where it was cut, goes
// on from there, and who asked for the deletion is sent to the leader.
func TestADeletionThatEndsAfterACut(t *testing.T) {
	g := start(t, vfs.NewMem(), 8, testConfig())
	for i := range int32(6) {
		g.wait(g.send(-1, i, 1, -1))
	}
	var deleted error
	answered := 0
	g.r.DeleteRecords(context.Background(), 4, func(_ int64, err error) { deleted, answered = err, answered+1 })
	g.r.Resign(g.epoch + 1) // the checkpoint is under way, and another box leads that has two records
	asked := Position{Epoch: g.epoch + 1, Offset: 6, LastEpoch: g.epoch}
	if err := g.take(&CopyRequest{Asked: asked, Answer: Answer{Diverging: &partition.EpochEnd{Epoch: g.epoch, End: 2}}}); err != nil {
		t.Fatal(err)
	}
	if answered > 0 {
		t.Fatal("the start was durable before the cut: the test does not test")
	}
	g.sched.RunUntil(time.Minute, func() bool { return answered > 0 })
	if !errors.Is(deleted, partition.ErrNotLeader) || answered != 1 {
		t.Fatalf("answered %d times: %v", answered, deleted)
	}
	if v := g.r.View(); v.Err != nil || v.Start != 2 || v.End != 2 || v.Log.EndOffset() != 2 {
		t.Fatalf("start %d, end %d, the log ends at %d, %v", v.Start, v.End, v.Log.EndOffset(), v.Err)
	}
	if err := g.take(copied(t, g.r.View().Position(), 2, g.epoch+1)); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	if v := g.r.View(); v.Start != 2 || v.End != 3 || v.Vouches != 3 {
		t.Fatalf("start %d, end %d, vouches for %d", v.Start, v.End, v.Vouches)
	}
	g.close()
}

// A power cut at a stop may tear the snapshot of an empty partition; that is no reason to refuse it.
func TestATornSnapshotAtOffsetZero(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 5, testConfig())
	g.close()
	f, err := fs.Open("/data/t-0/00000000000000000000.snapshot", vfs.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(3), f.Close()); err != nil {
		t.Fatal(err)
	}
	g = start(t, fs, 6, testConfig())
	g.wait(g.send(1, 0, 1, -1))
	g.close()
}

// A partition is durable soon after it is led, although nobody has written to it.
func TestAnEmptyPartitionIsFlushed(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 7, testConfig())
	g.sched.RunFor(time.Second)
	fs.PowerOff()
	for _, name := range []string{"partition.metadata", "00000000000000000000.log"} {
		if info, err := fs.CrashStrict().Stat("/data/t-0/" + name); err != nil || name == "partition.metadata" && info.Size == 0 {
			t.Fatalf("%s after a power cut: %+v %v", name, info, err)
		}
	}
}

// One seed gives one trace only if a partition has the same shard in every run.
func TestPartitionsHaveTheirShard(t *testing.T) {
	a, b := Shards{shards: make([]*shard, 8)}, Shards{shards: make([]*shard, 8)}
	used := map[int]bool{}
	for i := range int32(64) {
		p := seglog.TopicPartition{Topic: fmt.Sprint("t", i/8), Partition: i % 8}
		if a.pick(p) != b.pick(p) {
			t.Fatalf("%v is in shards %d and %d", p, a.pick(p), b.pick(p))
		}
		used[a.pick(p)] = true
	}
	if len(used) != 8 {
		t.Fatalf("%d of 8 shards are used", len(used))
	}
}

// A settings change back and forth while a flush is under way stops nothing.
func TestDurabilityBackAndForth(t *testing.T) {
	g := start(t, vfs.NewMem(), 9, testConfig())
	replicated := *testConfig()
	replicated.Durability = partition.Replicated
	var all []*sent
	for i := range 50 {
		all = append(all, g.send(1, int32(i), 1, -1))
		if i%3 == 1 {
			g.r.SetConfig(&replicated)
		} else {
			g.r.SetConfig(testConfig())
		}
		g.sched.Step()
	}
	g.wait(all...)
	for _, s := range all {
		if s.Err != nil {
			t.Fatal(s.Err)
		}
	}
	g.close()
}
