package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

func TestAnAppendIsAnsweredAfterItsFlush(t *testing.T) {
	g := start(t, vfs.NewMem(), 1, testConfig())
	syncs := g.fs.Syncs()
	s := g.send(-1, 0, 3, -1)
	g.wait(s)
	if s.Err != nil || s.BaseOffset != 0 || s.LogAppendTime != -1 {
		t.Fatalf("%+v", s.AppendRequest)
	}
	if g.fs.Syncs() == syncs {
		t.Fatal("answered without a flush")
	}
	if v := g.r.View(); v.HighWatermark != 3 || v.End != 3 || v.LastStable != 3 {
		t.Fatalf("%+v", v)
	}
	g.close()
}

func TestManyAppendsShareFlushesAndWrites(t *testing.T) {
	g := start(t, vfs.NewMem(), 2, testConfig())
	syncs := g.fs.Syncs()
	var all []*sent
	for i := range 64 {
		all = append(all, g.send(1, int32(i), 1, -1))
	}
	g.wait(all...)
	for i, s := range all {
		if s.Err != nil || s.BaseOffset != int64(i) {
			t.Fatalf("append %d: offset %d, %v", i, s.BaseOffset, s.Err)
		}
	}
	if n := g.fs.Syncs() - syncs; n > 16 {
		t.Fatalf("64 appends took %d flushes", n)
	}
	g.close()
}

// Behaviour 23: a retry is answered with its first offset, also after a restart, and a gap is refused.
func TestRetriesAcrossARestart(t *testing.T) {
	fs := vfs.NewMem()
	for _, clean := range []bool{true, false} {
		g := start(t, fs, 3, testConfig())
		pid := int64(10)
		if !clean {
			pid = 11
		}
		var all []*sent
		for i := range 5 {
			all = append(all, g.send(pid, int32(i*2), 2, -1))
		}
		g.wait(all...)
		if clean {
			g.close()
		} else {
			fs.PowerOff()
			fs = fs.CrashStrict()
		}
		g = start(t, fs, 4, testConfig())
		for _, first := range all {
			again := g.send(pid, first.seq, first.n, -1)
			g.wait(again)
			if again.Err != nil || again.BaseOffset != first.BaseOffset {
				t.Fatalf("clean %v: retry of %d: offset %d instead of %d, %v", clean, first.seq, again.BaseOffset, first.BaseOffset, again.Err)
			}
		}
		gap := g.send(pid, 100, 1, -1)
		g.wait(gap)
		if !errors.Is(gap.Err, partition.ErrOutOfOrderSequence) {
			t.Fatalf("gap: %v", gap.Err)
		}
		index(t, g.values())
		g.close()
	}
}

func TestRefusals(t *testing.T) {
	cfg := testConfig()
	cfg.InSyncMin, cfg.BatchBytesMax = 2, 200
	g := start(t, vfs.NewMem(), 5, cfg)
	few := g.send(-1, 0, 1, -1)
	large := g.send(-1, 0, 50, 1)
	one := g.send(-1, 0, 1, 1)
	stale := g.send(-1, 0, 1, 1)
	g.wait(few, large, one, stale)
	if !errors.Is(few.Err, partition.ErrNotEnoughReplicas) || few.BaseOffset != -1 {
		t.Errorf("acks=all with one of two replicas: %v", few.Err)
	}
	if !errors.Is(large.Err, ErrTooLarge) {
		t.Errorf("large batch: %v", large.Err)
	}
	if one.Err != nil || one.BaseOffset != 0 {
		t.Errorf("acks=1 ignores the minimum: %v", one.Err)
	}
	g.r.Resign(g.epoch + 1)
	after := g.send(-1, 0, 1, 1)
	g.wait(after)
	if !errors.Is(after.Err, partition.ErrNotLeader) {
		t.Errorf("after Resign: %v", after.Err)
	}
	g.close()
}

func TestLongPollsWakeWhenTheViewMoves(t *testing.T) {
	g := start(t, vfs.NewMem(), 6, testConfig())
	woken := map[string]int{}
	wait := func(name string) *Waiter {
		w := NewWaiter(func() { woken[name]++ })
		g.r.Await(context.Background(), g.r.View(), w)
		return w
	}
	g.sched.RunFor(time.Second)
	wait("append")
	wait("cancelled").Cancel()
	g.sched.RunFor(time.Second)
	if len(woken) != 0 {
		t.Fatalf("woken by nothing: %v", woken)
	}
	g.wait(g.send(-1, 0, 1, 1))
	if woken["append"] != 1 || woken["cancelled"] != 0 {
		t.Fatalf("%v", woken)
	}
	wait("resign")
	g.r.Resign(g.epoch)
	g.sched.RunFor(time.Second)
	wait("close")
	g.close()
	if woken["resign"] != 1 || woken["close"] != 1 {
		t.Fatalf("%v", woken)
	}
}

func TestDeleteRecordsAndRetention(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig()
	cfg.Log.RetentionBytes = 4096
	g := start(t, fs, 7, cfg)
	for i := range 100 {
		g.wait(g.send(1, int32(i*10), 10, -1))
	}
	start64 := int64(-2)
	g.r.DeleteRecords(context.Background(), 15, func(s int64, err error) {
		if err != nil {
			t.Error(err)
		}
		start64 = s
	})
	g.sched.RunUntil(time.Minute, func() bool { return start64 != -2 })
	if start64 != 15 || g.r.View().Start != 15 {
		t.Fatalf("start %d, view %d", start64, g.r.View().Start)
	}
	var refused error
	g.r.DeleteRecords(context.Background(), 1001, func(_ int64, err error) { refused = err })
	g.sched.RunUntil(time.Minute, func() bool { return refused != nil })
	if !errors.Is(refused, seglog.ErrOutOfRange) {
		t.Fatal(refused)
	}
	var removed *seglog.Removed
	g.r.Retain(true, func(r seglog.Removed, err error) {
		if err != nil {
			t.Error(err)
		}
		removed = &r
	})
	g.sched.RunUntil(time.Minute, func() bool { return removed != nil })
	if removed.Segments == 0 || g.r.View().Start != removed.StartOffset || removed.StartOffset <= 15 {
		t.Fatalf("retention removed %+v, view starts at %d", removed, g.r.View().Start)
	}
	g.close()
}

func TestAnIdlePartitionLetsGo(t *testing.T) {
	g := start(t, vfs.NewMem(), 8, testConfig())
	g.wait(g.send(-1, 0, 1, -1))
	g.sched.RunFor(time.Duration(idleTicks+2) * tickInterval)
	if g.sched.Step() {
		t.Fatal("an idle shard still wakes")
	}
	g.close()
}

// One that finds no space for its indexes when it is to let go stays as it is, and lets go when there is some again.
func TestAnIdlePartitionWithoutSpace(t *testing.T) {
	fs := vfs.NewMem()
	cfg := *testConfig()
	cfg.Log.IndexInterval = 1
	g := start(t, fs, 8, &cfg)
	for i := range int32(3) {
		g.wait(g.send(1, i, 1, -1))
	}
	fs.SetCapacity(1, 1)
	g.sched.RunFor(time.Duration(idleTicks+4) * tickInterval)
	if v := g.r.View(); v.Err != nil {
		t.Fatalf("it has failed: %v", v.Err)
	}
	fs.SetCapacity(1, 1<<40)
	g.sched.RunFor(2 * tickInterval)
	if g.sched.Step() {
		t.Fatal("it does not let go when there is space")
	}
	g.close()
}

func TestAFullDeviceRefusesAndRecovers(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 9, testConfig())
	g.wait(g.send(1, 0, 1, -1))
	fs.SetCapacity(1, 1)
	full := g.send(1, 1, 2000, -1)
	g.wait(full)
	if !errors.Is(full.Err, seglog.ErrFull) {
		t.Fatalf("on a full device: %v", full.Err)
	}
	fs.SetCapacity(1, 1<<40)
	again := g.send(1, 1, 2000, -1)
	g.wait(again)
	if again.Err != nil || again.BaseOffset != 1 {
		t.Fatalf("after space returned: offset %d, %v", again.BaseOffset, again.Err)
	}
	if n := len(index(t, g.values())); n != 2001 {
		t.Fatalf("%d records", n)
	}
	g.close()
}

// Whatever a power cut leaves behind: acknowledged records are there, once and in order, and every producer that goes on
// where it was not answered adds nothing twice.
func TestPowerCuts(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	for seed := range uint64(rounds) {
		powerCut(t, seed)
	}
}

func powerCut(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewMem()
	acked := map[string]bool{}
	unsure := map[int64][]*sent{} // by producer: the batches that were not answered, in order
	next := map[int64]int32{}
	for range 3 {
		g := start(t, fs, seed, testConfig())
		var open []*sent
		note := func(s *sent) {
			if s.answered > 0 && s.Err == nil {
				for i := range s.n {
					acked[fmt.Sprintf("%d/%d", s.pid, int(s.seq)+i)] = true
				}
			}
		}
		for pid := range int64(3) { // a producer repeats what was not answered
			for _, s := range unsure[pid] {
				again := g.send(pid, s.seq, s.n, -1)
				g.wait(again)
				if again.Err != nil {
					t.Fatalf("seed %d: repeat: %v", seed, again.Err)
				}
				note(again)
			}
		}
		clear(unsure)
		cut := 20 + rng.IntN(200)
		for range cut {
			switch rng.IntN(3) {
			case 0:
				pid, n := rng.Int64N(3), 1+rng.IntN(20)
				if pending(open, pid) >= 5 {
					continue // as many as clients send
				}
				open = append(open, g.send(pid, next[pid], n, int16(-1+2*rng.IntN(2))))
				next[pid] += int32(n)
			default:
				g.sched.Step()
			}
		}
		for _, s := range open {
			note(s)
			if s.answered == 0 {
				unsure[s.pid] = append(unsure[s.pid], s)
			} else if s.Err != nil {
				t.Fatalf("seed %d: refused: %v", seed, s.Err)
			}
		}
		fs.PowerOff()
		fs = fs.Crash(rng)
		checkAcknowledged(t, fs, seed, acked)
	}
	g := start(t, fs, seed, testConfig())
	g.sched.RunFor(time.Second)
	where := index(t, g.values())
	for pid := range int64(3) {
		last := -1
		for i := 0; ; i++ {
			at, ok := where[fmt.Sprintf("%d/%d", pid, i)]
			if !ok {
				break
			}
			if at < last {
				t.Fatalf("seed %d: record %d/%d stands before its predecessor", seed, pid, i)
			}
			last = at
		}
	}
	g.close()
}

func pending(open []*sent, pid int64) int {
	n := 0
	for _, s := range open {
		if s.pid == pid && s.answered == 0 {
			n++
		}
	}
	return n
}

// checkAcknowledged opens what a crash left, without writing to it any more than a start does.
func checkAcknowledged(t *testing.T, fs *vfs.Mem, seed uint64, acked map[string]bool) {
	t.Helper()
	copied := fs.CrashAll()
	g := start(t, copied, seed, testConfig())
	g.sched.RunFor(time.Second)
	where := index(t, g.values())
	for v := range acked {
		if _, ok := where[v]; !ok {
			t.Fatalf("seed %d: acknowledged record %s is lost", seed, v)
		}
	}
	g.close()
}

func BenchmarkAppend(b *testing.B) {
	b.ReportAllocs()
	rt := mailbox.NewThreads(clock.System())
	sy := syncer.New(rt, syncer.Config{Name: "d"})
	dir, err := seglog.OpenDir(seglog.DirConfig{Path: b.TempDir(), ClusterID: "c", NodeID: 1, Limits: limits.Derive(0).Storage}, seglog.Deps{FS: vfs.OS(), Syncer: sy, Random: rand.NewChaCha8([32]byte{})})
	if err != nil {
		b.Fatal(err)
	}
	cfg := testConfig()
	cfg.Log = seglog.DefaultConfig()
	log, err := dir.Create(tp, seglog.ID{1}, cfg.Log)
	if err != nil {
		b.Fatal(err)
	}
	shards := NewShards(ShardsConfig{Count: 1, QueueMax: 1000, StageBytesMax: 256 << 10, WaitersMax: 100}, Deps{Runtime: rt})
	r, err := shards.Open(log, 0, cfg)
	if err != nil {
		b.Fatal(err)
	}
	led := make(chan error, 1)
	r.Lead(1, partition.Membership{InSync: []int32{1}}, func(_ int32, err error) { led <- err })
	if err := <-led; err != nil {
		b.Fatal(err)
	}
	builder := batch.NewBuilder(batch.NewOptions())
	builder.Append(1, nil, make([]byte, 1024))
	const inFlight = 64
	free := make(chan *AppendRequest, inFlight)
	for range inFlight {
		raw, _ := builder.Build(nil)
		free <- &AppendRequest{Batch: raw, Acks: -1, ExpectedEpoch: Any, Done: func(a *AppendRequest) { free <- a }}
	}
	ctx := context.Background()
	b.SetBytes(1024)
	for b.Loop() {
		r.Append(ctx, <-free)
	}
	for range inFlight {
		<-free
	}
}
