package replica

import (
	"errors"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/partition"
	"cairn/platform/vfs"
)

// What a replica has vouched for counts in the leader epoch in which it did. So the controller makes a new epoch where a replica begins
// anew on another disk of its box: nothing else tells the leader that it is not the old one, and what the old one still says is not heard.
func TestWhatWasVouchedForEndsWithTheLeaderEpoch(t *testing.T) {
	g := start(t, vfs.NewMem(), 4, testConfig())
	var proposed []partition.Member
	g.r.shard.deps.Propose = func(_ *Replica, _, _ int32, isr []partition.Member, done func(bool)) {
		proposed = append(proposed, isr...)
		done(false) // not eligible: its log directory is gone
	}
	two, three := partition.Member{Broker: 2, Epoch: 20}, partition.Member{Broker: 3, Epoch: 30}
	lead := func(epoch, partitionEpoch int32, isr ...int32) {
		done := false
		g.r.Lead(epoch, partition.Membership{Epoch: partitionEpoch, Replicas: []partition.Member{two, three}, InSync: isr, InSyncMin: 2},
			func(_ int32, err error) {
				if done = true; err != nil {
					t.Error(err)
				}
			})
		g.sched.RunUntil(time.Minute, func() bool { return done })
	}
	first := g.epoch + 1
	lead(first, 1, 1, 2, 3)
	s := g.send(-1, 0, 3, -1)
	g.sched.RunFor(time.Second)
	g.r.Vouch(two, first, 3)
	g.r.Vouch(three, first, 3)
	g.wait(s)
	lead(first, 2, 1, 2) // the disk of box 3 has died; its box lives
	g.r.Vouch(two, first, 3)
	g.sched.RunFor(time.Minute)
	if !slices.Contains(proposed, three) {
		t.Fatalf("in the same epoch the leader proposes %v: it knows of no disks", proposed)
	}
	lead(first+1, 3, 1, 2) // its replica begins anew
	proposed = nil
	g.r.Vouch(two, first+1, 3)
	g.r.Vouch(three, first, 3)
	g.r.Vouch(three, first+1, 0)
	g.sched.RunFor(time.Minute)
	if slices.Contains(proposed, three) {
		t.Fatal("the leader proposes box 3, which has vouched for nothing on its new disk")
	}
	g.r.Vouch(three, first+1, 3)
	g.sched.RunFor(time.Minute)
	if !slices.Contains(proposed, three) {
		t.Fatalf("the leader proposes %v, and box 3 has everything", proposed)
	}
	g.close()
}

// acks=1 is answered when this box has flushed; acks=all when every replica in sync has said so, as many as must be.
func TestAcksWithFollowers(t *testing.T) {
	cfg := testConfig()
	cfg.InSyncMin = 2
	g := start(t, vfs.NewMem(), 3, cfg)
	second, third := partition.Member{Broker: 2, Epoch: 20}, partition.Member{Broker: 3, Epoch: 30}
	m := partition.Membership{Epoch: 1, Replicas: []partition.Member{second, third}, InSync: []int32{1, 2}, InSyncMin: 2}
	lead := func() {
		g.r.Lead(1, m, func(_ int32, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		g.sched.RunFor(time.Second)
	}
	lead()
	one, all := g.send(-1, 0, 1, 1), g.send(-1, 1, 1, -1)
	g.wait(one)
	g.sched.RunFor(time.Second)
	if one.Err != nil || all.answered > 0 || g.r.View().HighWatermark != 0 {
		t.Fatalf("acks=1: %v; acks=all answered %d times; high watermark %d", one.Err, all.answered, g.r.View().HighWatermark)
	}
	for _, wrong := range []struct {
		m      partition.Member
		epoch  int32
		offset int64
	}{{partition.Member{Broker: 2, Epoch: 19}, 1, 2}, {second, 0, 2}, {second, 2, 2}, {second, 1, 3}, {third, 1, 2}, {second, 1, 1}} {
		g.r.Vouch(wrong.m, wrong.epoch, wrong.offset)
	}
	g.sched.RunFor(time.Second)
	if all.answered > 0 || g.r.View().HighWatermark != 1 {
		t.Fatalf("acks=all answered %d times, high watermark %d", all.answered, g.r.View().HighWatermark)
	}
	g.r.Vouch(second, 1, 2)
	g.wait(all)
	if all.Err != nil || g.r.View().HighWatermark != 2 {
		t.Fatalf("%v, high watermark %d", all.Err, g.r.View().HighWatermark)
	}
	// One is left in sync, of two that must be: nothing more is acknowledged to all, and acks=1 goes on.
	m.Epoch, m.InSync = 2, []int32{1}
	lead()
	one, all = g.send(-1, 2, 1, 1), g.send(-1, 3, 1, -1)
	g.wait(one, all)
	g.sched.RunFor(time.Second)
	if one.Err != nil || !errors.Is(all.Err, partition.ErrNotEnoughReplicas) || g.r.View().HighWatermark != 2 {
		t.Fatalf("acks=1: %v; acks=all: %v; high watermark %d", one.Err, all.Err, g.r.View().HighWatermark)
	}
	g.close()
}

// A replica in sync of which nothing is heard leaves, also where nobody writes, and what is acknowledged without it is seen; the controller is
// asked again where it refuses. Before, and when all that are in sync have vouched, the partition costs nothing.
func TestASilentReplicaOfAnIdlePartitionLeaves(t *testing.T) {
	g := start(t, vfs.NewMem(), 1, testConfig())
	silent, other := partition.Member{Broker: 2, Epoch: 20}, partition.Member{Broker: 3, Epoch: 30}
	m := partition.Membership{Epoch: 1, Replicas: []partition.Member{silent, other}, InSync: []int32{1, 2, 3}}
	proposed, refusals := 0, 2
	g.r.shard.deps.Propose = func(_ *Replica, _, partitionEpoch int32, isr []partition.Member, done func(bool)) {
		if proposed++; partitionEpoch != m.Epoch || len(isr) != 1 || isr[0] != other {
			t.Errorf("%v is to stay in sync, on top of %d", isr, partitionEpoch)
		}
		if refusals--; refusals >= 0 {
			done(false)
		}
	}
	rests := func(when string) {
		t.Helper()
		g.sched.RunFor(time.Duration(idleTicks+2) * tickInterval)
		if g.sched.Step() {
			t.Fatalf("%s: an idle shard still wakes", when)
		}
	}
	lead := func() {
		g.r.Lead(g.epoch+1, m, func(_ int32, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	one := g.send(-1, 0, 3, 1)
	g.wait(one)
	rests("with nobody else")
	lead()
	g.sched.RunFor(time.Second)
	late := g.send(-1, 3, 1, 1)
	g.wait(late)
	g.r.Vouch(other, g.epoch+1, 4)
	g.sched.RunFor(25 * time.Second)
	if v := g.r.View(); proposed > 0 || v.HighWatermark != 3 {
		t.Fatalf("%d proposals before it is late, high watermark %d", proposed, v.HighWatermark)
	}
	g.sched.RunFor(25 * time.Second)
	if proposed != 3 {
		t.Fatalf("%d proposals, of which two were refused", proposed)
	}
	rests("while a change is on its way")
	m.Epoch, m.InSync = 2, []int32{1, 3}
	lead()
	g.sched.RunFor(time.Second)
	if v := g.r.View(); v.HighWatermark != 4 {
		t.Fatalf("high watermark %d", v.HighWatermark)
	}
	rests("when it has left")
	g.r.Vouch(other, g.epoch+1, 4) // said once more
	g.sched.RunFor(time.Millisecond)
	if g.sched.Step() {
		t.Fatal("a voucher that says nothing new wakes the shard")
	}
	if proposed != 3 {
		t.Fatalf("%d proposals", proposed)
	}
	g.close()
}

// The same in an epoch in which nothing was ever written.
func TestANewLeaderOfAnIdlePartitionWaits(t *testing.T) {
	g := start(t, vfs.NewMem(), 1, testConfig())
	member := partition.Member{Broker: 2, Epoch: 20}
	m := partition.Membership{Epoch: 1, Replicas: []partition.Member{member}, InSync: []int32{1, 2}}
	for _, hears := range []bool{true, false} {
		proposed := 0
		g.r.shard.deps.Propose = func(*Replica, int32, int32, []partition.Member, func(bool)) { proposed++ }
		g.sched.RunFor(10 * time.Minute) // idle
		g.epoch++
		g.r.Lead(g.epoch, m, func(_ int32, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		g.sched.RunFor(20 * time.Second)
		if hears {
			g.r.Vouch(member, g.epoch, 0)
		}
		g.sched.RunFor(time.Minute)
		if hears != (proposed == 0) || proposed > 1 {
			t.Fatalf("heard of %v: %d proposals", hears, proposed)
		}
		if g.sched.Step() {
			t.Fatalf("heard of %v: an idle shard still wakes", hears)
		}
	}
	g.close()
}

// A batch that is sent again to a partition at rest, whose original is not acknowledged, is answered in time.
func TestARetryAtAPartitionAtRestIsAnswered(t *testing.T) {
	g := start(t, vfs.NewMem(), 1, testConfig())
	m := partition.Membership{Epoch: 1, Replicas: []partition.Member{{Broker: 2, Epoch: 20}}, InSync: []int32{1, 2}}
	g.r.shard.deps.Propose = func(*Replica, int32, int32, []partition.Member, func(bool)) {} // the controller does not answer
	g.epoch++
	g.r.Lead(g.epoch, m, func(_ int32, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		s := g.send(7, 0, 1, -1)
		if g.wait(s); !errors.Is(s.Err, ErrTimeout) {
			t.Fatal(s.Err)
		}
		g.sched.RunFor(10 * time.Minute)
		if g.sched.Step() {
			t.Fatal("the partition does not rest: the test shows nothing")
		}
	}
	g.close()
}
