package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/platform/vfs"
)

// copied builds an answer with batches of one record each, of the given epochs.
func copied(t *testing.T, asked Position, highWatermark int64, epochs ...int32) *CopyRequest {
	t.Helper()
	c := &CopyRequest{Asked: asked, Answer: Answer{HighWatermark: highWatermark}}
	for i, epoch := range epochs {
		b := batch.NewBuilder(batch.NewOptions())
		b.Append(1_700_000_000_000, nil, fmt.Appendf(nil, "1/%d", asked.Offset+int64(i)))
		raw, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		batch.Stamp(raw, asked.Offset+int64(i), epoch)
		c.Batches = append(c.Batches, raw...)
	}
	return c
}

// take hands a follower an answer, and waits until it is taken.
func (g *rig) take(c *CopyRequest) error {
	g.t.Helper()
	done := 0
	c.Done = func(*CopyRequest) { done++ }
	g.r.Copy(c)
	if !g.sched.RunUntil(time.Second, func() bool { return done > 0 }) || done != 1 {
		g.t.Fatalf("done %d times", done)
	}
	return c.Err
}

// following is a partition that follows in epoch 5, and has two records of epoch 1 and one of epoch 3.
func following(t *testing.T) *rig {
	t.Helper()
	g := start(t, vfs.NewMem(), 1, testConfig())
	g.r.Resign(5)
	g.sched.RunFor(time.Second)
	if err := g.take(copied(t, g.r.View().Position(), 2, 1, 1, 3)); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	return g
}

// Nothing, in the first epoch, is something to vouch for: the leader takes a follower in by its word alone.
func TestAnEmptyFollowerVouches(t *testing.T) {
	g := start(t, vfs.NewMem(), 1, testConfig())
	empty := seglog.TopicPartition{Topic: "empty"}
	log, err := g.dir.Create(empty, seglog.ID{2}, testConfig().Log)
	if err != nil {
		t.Fatal(err)
	}
	if g.r, err = g.shards.Open(log, 0, testConfig()); err != nil {
		t.Fatal(err)
	}
	g.r.Resign(0)
	g.sched.RunFor(time.Second)
	if err := g.take(copied(t, g.r.View().Position(), 0)); err != nil || g.r.View().Vouches != 0 {
		t.Fatalf("%v, vouches for %d", err, g.r.View().Vouches)
	}
	if g.vouched != 1 {
		t.Fatalf("it has told so %d times", g.vouched)
	}
	if err := g.take(copied(t, g.r.View().Position(), 0)); err != nil || g.vouched != 1 {
		t.Fatalf("%v, and the same again: %d times", err, g.vouched)
	}
}

func TestAFollowerTakesWhatItAskedFor(t *testing.T) {
	g := following(t)
	asked := g.r.View().Position()
	if asked != (Position{Epoch: 5, Offset: 3, LastEpoch: 3}) {
		t.Fatalf("%+v", asked)
	}
	if v := g.r.View(); v.HighWatermark != 2 || v.Vouches != 3 || v.Leader {
		t.Fatalf("high watermark %d, vouches for %d, leads %v", v.HighWatermark, v.Vouches, v.Leader)
	}
	half := copied(t, asked, 2, 3, 5)
	half.Batches = half.Batches[:len(half.Batches)-1]
	if err := g.take(half); err != nil || g.r.View().End != 4 {
		t.Fatalf("%v, end %d", err, g.r.View().End)
	}
	if err := g.take(copied(t, asked, 9, 4)); err != nil || g.r.View().End != 4 || g.r.View().HighWatermark != 2 {
		t.Fatalf("an answer to an older question: %v, end %d, high watermark %d", err, g.r.View().End, g.r.View().HighWatermark)
	}
	g.close()
}

// What a leader cannot have is refused, and nothing of it is in the log.
func TestAFollowerTakesNothingDamaged(t *testing.T) {
	g := following(t)
	asked := g.r.View().Position()
	flipped := copied(t, asked, 3, 3, 3)
	flipped.Batches[len(flipped.Batches)-1] ^= 1
	old := asked
	old.Epoch = 4
	for name, c := range map[string]struct {
		req  *CopyRequest
		want error
	}{
		"a bit that fell over":         {flipped, batch.ErrCorrupt},
		"an epoch that goes back":      {copied(t, asked, 3, 3, 1), batch.ErrCorrupt},
		"an epoch above the leader's":  {copied(t, asked, 3, 6), batch.ErrCorrupt},
		"an answer of an older leader": {copied(t, old, 3, 3), partition.ErrFenced},
		"no common epoch":              {&CopyRequest{Asked: asked, Answer: Answer{Diverging: &partition.EpochEnd{Epoch: -1, End: -1}}}, partition.ErrNoCommonEpoch},
	} {
		if err := g.take(c.req); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if v := g.r.View(); v.End != 3 || v.HighWatermark != 2 || v.Err != nil {
			t.Fatalf("%s: end %d, high watermark %d, %v", name, v.End, v.HighWatermark, v.Err)
		}
	}
	if err := g.take(copied(t, asked, 3, 3)); err != nil || g.r.View().End != 4 {
		t.Fatalf("%v, end %d", err, g.r.View().End)
	}
	g.close()
}

// A flush that began before the log was cut says nothing about what was copied since.
func TestAFlushOfBeforeATruncation(t *testing.T) {
	g := following(t)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{Diverging: &partition.EpochEnd{Epoch: 1, End: 2}}}); err != nil {
		t.Fatal(err)
	}
	if v := g.r.View(); v.End != 2 || v.Vouches != -1 {
		t.Fatalf("end %d, vouches for %d", v.End, v.Vouches)
	}
	if err := g.take(copied(t, g.r.View().Position(), 2, 4, 4)); err != nil {
		t.Fatal(err)
	}
	g.r.shard.onFlushed(g.r, 3, nil)
	if v := g.r.View(); v.Vouches != 2 {
		t.Fatalf("vouches for %d after a flush of what was cut", v.Vouches)
	}
	g.sched.RunFor(time.Second)
	if v := g.r.View(); v.Vouches != 4 {
		t.Fatalf("vouches for %d in the end", v.Vouches)
	}
	g.close()
}

// A box that led without a record, and follows now, may copy records of an older epoch than it led in.
func TestAnEpochWithoutRecordsIsForgotten(t *testing.T) {
	g := following(t)
	g.lead(6)
	g.r.Resign(7)
	g.sched.RunFor(time.Second)
	if err := g.take(copied(t, g.r.View().Position(), 2, 4, 4)); err != nil {
		t.Fatal(err)
	}
	if p := g.r.View().Position(); p != (Position{Epoch: 7, Offset: 5, LastEpoch: 4}) {
		t.Fatalf("%+v", p)
	}
	g.close()
}

// copyAll hands a follower batches in one answer, one record each.
func (g *rig) copyAll(raws ...[]byte) {
	g.t.Helper()
	asked := g.r.View().Position()
	c := &CopyRequest{Asked: asked, Answer: Answer{HighWatermark: asked.Offset + int64(len(raws))}}
	for i, raw := range raws {
		batch.Stamp(raw, asked.Offset+int64(i), 3)
		c.Batches = append(c.Batches, raw...)
	}
	if err := g.take(c); err != nil {
		g.t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
}

// One answer may have the end of a transaction and the producer's next: they are noted in the log's order.
func TestAFollowerCopiesTwoTransactions(t *testing.T) {
	g := following(t)
	g.copyAll(txnBatch(t, 7, 0), marker(t, 7, batch.Commit), txnBatch(t, 7, 1)) // 3 4 | 5 is open
	if v := g.r.View(); v.HighWatermark != 6 || v.LastStable != 5 {
		t.Errorf("high watermark %d, last stable offset %d: the second transaction is open", v.HighWatermark, v.LastStable)
	}
	g.copyAll(marker(t, 7, batch.Abort)) // 6
	if rows, err := g.r.View().Log.Aborted(0, 7); err != nil || len(rows) != 1 || rows[0].FirstOffset != 5 {
		t.Errorf("aborted %+v, %v, want the transaction at 5", rows, err)
	}
	g.close()
}

// So it may where the producer's epoch has risen in between.
func TestAFollowerKeepsAProducersNewEpoch(t *testing.T) {
	g := following(t)
	g.copyAll(txnBatch(t, 7, 0), marker(t, 7, batch.Abort), txnBatchIn(t, 7, 1, 0), txnBatchIn(t, 7, 1, 1))
	if p := g.r.own.state.Producers.Get(7); p.Epoch != 1 || p.LastSequence() != 1 || p.TxnFirstOffset != 5 {
		t.Errorf("the producer is %+v", *p)
	}
	g.lead(6)
	g.raw(txnBatchIn(t, 7, 1, 2))
	zombie := &sent{}
	zombie.AppendRequest = AppendRequest{Batch: txnBatch(t, 7, 1), Acks: -1, ExpectedEpoch: Any, Done: func(*AppendRequest) { zombie.answered++ }}
	g.r.Append(context.Background(), &zombie.AppendRequest)
	if g.wait(zombie); !errors.Is(zombie.Err, partition.ErrInvalidProducerEpoch) {
		t.Errorf("a batch of the old epoch: %v", zombie.Err)
	}
	g.close()
}

// A leader whose log begins beyond the follower's end: the follower starts anew there, and follows its start later.
func TestAFollowerThatIsTooFarBehindStartsAnew(t *testing.T) {
	g := following(t)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{Beyond: true, LogStart: 100}}); err != nil {
		t.Fatal(err)
	}
	p := g.r.View().Position()
	if p != (Position{Epoch: 5, Offset: 100, LastEpoch: -1}) {
		t.Fatalf("%+v", p)
	}
	more := copied(t, p, 102, 4, 4)
	more.LogStart = 101
	if err := g.take(more); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{HighWatermark: 102, LogStart: 101}}); err != nil {
		t.Fatal(err)
	}
	if v := g.r.View(); v.Start != 101 || v.End != 102 || v.HighWatermark != 102 {
		t.Fatalf("start %d, end %d, high watermark %d", v.Start, v.End, v.HighWatermark)
	}
	g.close()
}

// A follower whose log begins behind the end of its leader's, as after deletions and an unclean election, cuts its log there, and goes on: its
// state and its log begin where they were cut, also after a start.
func TestAFollowerIsCutBelowItsStart(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	g.r.Resign(5)
	g.sched.RunFor(time.Second)
	if err := g.take(copied(t, g.r.View().Position(), 6, 1, 1, 1, 1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{HighWatermark: 6, LogStart: 4}}); err != nil {
		t.Fatal(err)
	}
	if v := g.r.View(); v.Start != 4 || v.End != 6 || v.HighWatermark != 6 {
		t.Fatalf("start %d, end %d, high watermark %d", v.Start, v.End, v.HighWatermark)
	}
	g.r.Resign(6) // the leader of epoch 6 has two records of epoch 1
	g.sched.RunFor(time.Second)
	cut := &CopyRequest{Asked: g.r.View().Position(), Answer: Answer{HighWatermark: 2, Diverging: &partition.EpochEnd{Epoch: 1, End: 2}}}
	if err := g.take(cut); err != nil {
		t.Fatal(err)
	}
	begins := func(v *View, end int64) {
		t.Helper()
		if v.Err != nil || v.Start != 2 || v.Log.StartOffset() != 2 || v.End != end || v.Log.EndOffset() != end {
			t.Fatalf("start %d, end %d; of the log %d, %d; %v", v.Start, v.End, v.Log.StartOffset(), v.Log.EndOffset(), v.Err)
		}
	}
	begins(g.r.View(), 2)
	if err := g.take(copied(t, g.r.View().Position(), 3, 6)); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	if begins(g.r.View(), 3); g.r.View().Vouches != 3 {
		t.Fatalf("vouches for %d", g.r.View().Vouches)
	}
	g.close()
	g = start(t, fs, 2, testConfig())
	begins(g.r.View(), 3)
	g.close()
}

// A new replica of a partition whose records are all gone vouches for the leader's start when it would be there after a power cut, too.
func TestAStartIsVouchedForWhenItIsDurable(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	added := seglog.TopicPartition{Topic: "added"}
	log, err := g.dir.Create(added, seglog.ID{2}, testConfig().Log)
	if err != nil {
		t.Fatal(err)
	}
	if g.r, err = g.shards.Open(log, 0, testConfig()); err != nil {
		t.Fatal(err)
	}
	g.r.Resign(3)
	if err := g.take(&CopyRequest{Asked: Position{Epoch: 3, LastEpoch: -1}, Answer: Answer{Beyond: true, LogStart: 100}}); err != nil {
		t.Fatal(err)
	}
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{HighWatermark: 100, LogStart: 100}}); err != nil {
		t.Fatal(err)
	}
	if !g.sched.RunUntil(time.Minute, func() bool { return g.r.View().Vouches >= 0 }) || g.r.View().Vouches != 100 {
		t.Fatalf("vouches for %d", g.r.View().Vouches)
	}
	after := start(t, fs.CrashStrict(), 2, testConfig())
	log, err = after.dir.Open(added, testConfig().Log)
	if err != nil || log.TopicID() != (seglog.ID{2}) || log.View().StartOffset() != 100 || log.View().EndOffset() != 100 {
		t.Fatalf("after a power cut: %v", err)
	}
	g.close()
}

// follow asks a leader once, and takes its answer.
func (g *rig) follow(leader *rig) error {
	g.t.Helper()
	asked := g.r.View().Position()
	answer, err := leader.r.View().Answer(asked, 1<<20, true)
	if err != nil {
		g.t.Fatal(err)
	}
	c := &CopyRequest{Asked: asked, Answer: answer}
	if answer.Span.File != nil {
		c.Batches = make([]byte, answer.Span.Length)
		if _, err := answer.Span.File.ReadAt(c.Batches, answer.Span.Position); err != nil {
			g.t.Fatal(err)
		}
		answer.Span.Release()
	}
	return g.take(c)
}

// A leader whose log begins inside a batch, after DeleteRecords, is copied from the batch's base on, and the records before its start do not
// come back: neither by the copy, nor by a power cut amid it.
func TestALogThatBeginsInsideABatchIsCopied(t *testing.T) {
	l := start(t, vfs.NewMem(), 1, testConfig())
	l.lead(2)
	l.wait(l.send(7, 0, 10, -1)) // one batch, 0..9
	l.deleteTo(5)
	for name, prepare := range map[string]func(f *rig){
		"a new follower":                     func(*rig) {},
		"a follower whose records end there": func(f *rig) { f.wait(f.send(-1, 0, 5, -1)) },
		"a follower that begins, empty, there": func(f *rig) {
			f.r.Resign(1)
			f.sched.RunFor(time.Second)
			asked := f.r.View().Position()
			if err := f.take(&CopyRequest{Asked: asked, Answer: Answer{Beyond: true, LogStart: 5}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		run := func(fs *vfs.Mem) (from int, f *rig, err error) {
			f = start(t, fs, 2, testConfig())
			prepare(f)
			checkpoint(t, f)
			f.r.Resign(2)
			f.sched.RunFor(time.Second)
			from = fs.Syncs()
			for range 3 {
				err = errors.Join(err, f.follow(l))
				f.sched.RunFor(time.Second)
			}
			return from, f, err
		}
		fs := vfs.NewMem()
		from, f, err := run(fs)
		if v := f.r.View(); err != nil || v.Start != 5 || v.HighWatermark != 10 || v.End != 10 || v.Vouches != 10 {
			t.Fatalf("%s: start %d, high watermark %d, end %d, vouches for %d: %v", name, v.Start, v.HighWatermark, v.End, v.Vouches, err)
		}
		here, there := f.r.View(), l.r.View()
		c := trio{t: t}
		if !bytes.Equal(c.bytes(&holder{r: f.r}), c.bytes(&holder{r: l.r})) || fmt.Sprint(here.Log.Epochs()) != fmt.Sprint(there.Log.Epochs()) {
			t.Errorf("%s: other bytes or epochs than the leader's: %v, %v", name, here.Log.Epochs(), there.Log.Epochs())
		}
		for n := from + 1; n <= fs.Syncs()+1; n++ {
			for seed := range uint64(5) {
				cut := vfs.NewMem()
				cut.CrashAtSync(n)
				_, _, _ = run(cut) // a box without power takes nothing
				v := start(t, cut.Crash(rand.New(rand.NewPCG(seed, 1))), 3, testConfig()).r.View()
				if v.End > 5 && v.Start != 5 {
					t.Errorf("%s: power cut at sync %d of %d..%d: the log has %d..%d", name, n, from+1, fs.Syncs(), v.Start, v.End)
				}
			}
		}
		f.lead(3)
		again, next := f.send(7, 0, 10, -1), f.send(7, 10, 1, -1)
		if f.wait(again, next); again.Err != nil || again.BaseOffset != 0 || next.Err != nil || next.BaseOffset != 10 {
			t.Errorf("%s: the batch again: offset %d, %v; the next: offset %d, %v", name, again.BaseOffset, again.Err, next.BaseOffset, next.Err)
		}
		f.close()
	}
}

// While a deletion is not durable yet, the log has let go of the records, and of the epochs that they had: a follower is answered from where
// the log begins.
func TestADeletionIsToldAsSoonAsTheLogHasLetGo(t *testing.T) {
	l := start(t, vfs.NewMem(), 1, testConfig())
	l.wait(l.send(7, 0, 10, -1), l.send(7, 10, 10, -1))
	for range 3 { // each in an epoch of its own
		l.lead(l.epoch + 1)
		l.epoch++
		l.wait(l.send(-1, 0, 10, -1))
	}
	deleted := false
	l.r.DeleteRecords(context.Background(), 35, func(int64, error) { deleted = true })
	pending := l.send(-1, 0, 1, -1) // publishes the view meanwhile
	if !l.sched.RunUntil(time.Second, func() bool { v := l.r.View(); return deleted || v.Log.StartOffset() == 35 }) || deleted {
		t.Fatal("nothing was published before the deletion was durable: the test shows nothing")
	}
	v := l.r.View()
	if a, err := v.Answer(Position{Epoch: l.epoch, Offset: 32, LastEpoch: l.epoch - 2}, 1<<20, true); err != nil || !a.Beyond || a.LogStart != 35 {
		t.Errorf("a follower before the start: %+v, %v", a, err)
	}
	a, err := v.Answer(Position{Epoch: l.epoch, Offset: 35, LastEpoch: l.epoch - 2}, 1<<20, true)
	if err != nil || a.LogStart != 35 {
		t.Errorf("a follower at the start, in the middle of a batch: %+v, %v", a, err)
	}
	a.Span.Release()
	l.wait(pending)
	l.close()
}

// On a full device the follower of such a leader keeps what it has, and goes on when there is room.
func TestALogThatBeginsInsideABatchOnAFullDevice(t *testing.T) {
	l := start(t, vfs.NewMem(), 1, testConfig())
	l.wait(l.send(7, 0, 10, -1))
	l.deleteTo(5)
	fs := vfs.NewMem()
	f := start(t, fs, 2, testConfig())
	f.r.Resign(l.epoch)
	f.sched.RunFor(time.Second)
	if err := f.follow(l); err != nil || f.r.View().End != 5 {
		t.Fatalf("%v, end %d", err, f.r.View().End)
	}
	fs.SetCapacity(1, 1)
	if err := f.follow(l); !errors.Is(err, seglog.ErrFull) {
		t.Fatal(err)
	}
	if v := f.r.View(); v.Start != 5 || v.End != 5 || v.Err != nil {
		t.Fatalf("%d..%d, %v", v.Start, v.End, v.Err)
	}
	fs.SetCapacity(1, 1<<40)
	if err := f.follow(l); err != nil || f.r.View().End != 10 || f.r.View().Start != 5 {
		t.Fatalf("%v, %d..%d", err, f.r.View().Start, f.r.View().End)
	}
	f.close()
}

// Who is not in sync vouches for nothing before it has the leader's start on its disk, and tries again where there was no room.
func TestWhoIsNotInSyncHasTheStartBeforeItVouches(t *testing.T) {
	for _, behind := range []bool{true, false} {
		fs := vfs.NewMem()
		g := start(t, fs, 1, testConfig())
		g.r.Resign(5)
		g.sched.RunFor(time.Second)
		answer := func(n int, logStart int64) {
			t.Helper()
			c := copied(t, g.r.View().Position(), 4, slices.Repeat([]int32{1}, n)...)
			c.LogStart, c.Behind = logStart, behind
			if err := g.take(c); err != nil {
				t.Fatal(err)
			}
		}
		answer(4, 0)
		g.sched.RunFor(time.Second)
		if v := g.r.View(); v.Vouches != 4 {
			t.Fatalf("vouches for %d", v.Vouches)
		}
		told := g.vouched
		fs.SetCapacity(1, 1)
		answer(0, 3)
		g.sched.RunFor(20 * time.Second)
		want := int64(4)
		if behind {
			want = -1
		}
		if v := g.r.View(); v.Start != 3 || v.Vouches != want {
			t.Errorf("behind %v: from %d on, vouches for %d without room for the start", behind, v.Start, v.Vouches)
		}
		fs.SetCapacity(1, 1<<40)
		g.sched.RunFor(2 * tickInterval)
		if v := g.r.View(); v.Vouches != 4 || g.vouched != told+1 {
			t.Errorf("behind %v: vouches for %d when there is room, told %d times", behind, v.Vouches, g.vouched-told)
		}
		g.sched.RunFor(time.Duration(idleTicks+2) * tickInterval)
		if g.sched.Step() {
			t.Errorf("behind %v: an idle shard still wakes", behind)
		}
		g.close()
	}
}

// Nor does it where it let go by itself of what the leader lets go of, when it led, or by retention.
func TestWhoLetGoByItselfHasThatStartOnItsDisk(t *testing.T) {
	for _, by := range []string{"deletion", "retention"} {
		fs := vfs.NewMem()
		cfg := testConfig()
		cfg.Log.RetentionBytes = 4096
		g := start(t, fs, 7, cfg)
		for i := range int32(50) {
			g.wait(g.send(1, i*10, 10, -1))
		}
		fs.SetCapacity(1, 1)
		done := false
		if by == "deletion" {
			g.r.DeleteRecords(context.Background(), 15, func(int64, error) { done = true })
			g.sched.RunUntil(time.Minute, func() bool { return done })
			g.r.Resign(g.epoch + 1)
		} else {
			g.r.Resign(g.epoch + 1)
			g.r.Retain(true, func(seglog.Removed, error) { done = true })
		}
		g.sched.RunUntil(time.Minute, func() bool { return done })
		g.sched.RunUntil(time.Second, func() bool { return !g.r.View().Leader })
		v := g.r.View()
		if v.Start == 0 || !done {
			t.Fatalf("%s: the log begins at %d", by, v.Start)
		}
		c := copied(t, v.Position(), 1)
		c.LogStart, c.HighWatermark, c.Behind = v.Start, v.End, true
		if err := g.take(c); err != nil {
			t.Fatal(err)
		}
		g.sched.RunFor(3 * tickInterval)
		if n := g.r.View().Vouches; n != -1 {
			t.Errorf("%s: vouches for %d without room for the start", by, n)
		}
		fs.SetCapacity(1, 1<<40)
		g.sched.RunFor(2 * tickInterval)
		if n := g.r.View().Vouches; n != v.End {
			t.Errorf("%s: vouches for %d of %d when there is room", by, n, v.End)
		}
		g.close()
	}
}

// A follower whose high watermark moves because less is asked of what is acknowledged follows the leader's start as far, and vouches: nothing
// else may ever come.
func TestOtherDurabilityLetsAStartBeFollowed(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	g.r.Resign(5)
	g.sched.RunFor(time.Second)
	c := copied(t, g.r.View().Position(), 4, 1, 1, 1, 1)
	c.LogStart, c.Behind = 3, true
	taken, cfg := false, *testConfig()
	cfg.Durability = partition.Replicated
	c.Done = func(*CopyRequest) { taken = true }
	g.r.Copy(c)
	if !g.sched.RunUntil(time.Second, func() bool { return taken }) || g.r.View().Start != 0 {
		t.Fatalf("the log begins at %d before a flush: the test shows nothing", g.r.View().Start)
	}
	g.r.SetConfig(&cfg)
	g.sched.RunFor(time.Second)
	if v := g.r.View(); v.Start != 3 || v.Vouches != 4 {
		t.Errorf("the log begins at %d, and it vouches for %d", v.Start, v.Vouches)
	}
	g.close()
}

func TestALeaderAnswersFollowers(t *testing.T) {
	g := following(t)
	g.lead(6)
	v := g.r.View()
	at := func(epoch int32, offset int64, last int32) Position {
		return Position{Epoch: epoch, Offset: offset, LastEpoch: last}
	}
	for name, c := range map[string]struct {
		p       Position
		want    error
		diverge *partition.EpochEnd
		beyond  bool
		bytes   bool
	}{
		"older epoch":                      {p: at(5, 0, -1), want: partition.ErrFenced},
		"newer epoch":                      {p: at(7, 0, -1), want: partition.ErrUnknownEpoch},
		"no epoch yet":                     {p: at(-1, 0, -1), want: partition.ErrFenced},
		"from the beginning":               {p: at(6, 0, -1), bytes: true},
		"the end":                          {p: at(6, 3, 3)},
		"longer in an older epoch":         {p: at(6, 3, 1), diverge: &partition.EpochEnd{Epoch: 1, End: 2}},
		"an epoch that is not here":        {p: at(6, 3, 2), diverge: &partition.EpochEnd{Epoch: 1, End: 2}},
		"beyond the end":                   {p: at(6, 9, 3), diverge: &partition.EpochEnd{Epoch: 3, End: 3}},
		"beyond the end without a record":  {p: at(6, 9, -1), beyond: true},
		"behind, with all epochs the same": {p: at(6, 1, 1), bytes: true},
	} {
		a, err := v.Answer(c.p, 1<<20, true)
		if !errors.Is(err, c.want) || (a.Diverging == nil) != (c.diverge == nil) || a.Diverging != nil && *a.Diverging != *c.diverge ||
			a.Beyond != c.beyond || (a.Span.Length > 0) != c.bytes {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		a.Span.Release()
	}
	g.close()
}
