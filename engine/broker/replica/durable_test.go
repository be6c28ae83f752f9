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
	"cairn/platform/vfs"
)

// raw appends a batch as it is.
func (g *rig) raw(raw []byte) *sent {
	s := &sent{}
	s.AppendRequest = AppendRequest{Batch: raw, Acks: -1, ExpectedEpoch: Any, Internal: true, Done: func(*AppendRequest) { s.answered++ }}
	g.r.Append(context.Background(), &s.AppendRequest)
	g.wait(s)
	if s.Err != nil {
		g.t.Fatal(s.Err)
	}
	return s
}

func txnBatch(t testing.TB, pid int64, seq int32) []byte { return txnBatchIn(t, pid, 0, seq) }

// txnBatchIn is of a producer's epoch.
func txnBatchIn(t testing.TB, pid int64, epoch int16, seq int32) []byte {
	opts := batch.NewOptions()
	opts.ProducerID, opts.ProducerEpoch, opts.BaseSequence, opts.Transactional = pid, epoch, seq, true
	b := batch.NewBuilder(opts)
	b.Append(1_700_000_000_000, nil, fmt.Appendf(nil, "%d/%d", pid, seq))
	raw, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func marker(t testing.TB, pid int64, typ batch.ControlType) []byte {
	opts := batch.NewOptions()
	opts.ProducerID, opts.ProducerEpoch = pid, 0
	raw, err := batch.BuildMarker(nil, opts, 1_700_000_000_000, batch.Marker{Type: typ, CoordinatorEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// An aborted transaction is known after a power cut that loses nothing that was acknowledged: a snapshot of producers behind its marker is
// durable with the flush, its row of the index with a checkpoint.
func TestAnAbortedTransactionIsNotForgotten(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	g.raw(txnBatch(t, 7, 0))
	g.raw(marker(t, 7, batch.Abort)) // at offset 1
	for i := range 30 {              // until a segment is begun, and a snapshot taken
		g.wait(g.send(-1, int32(10*i), 10, -1))
	}
	g.sched.RunFor(time.Second)
	before, err := g.r.View().Log.Aborted(0, g.r.View().End)
	if err != nil || len(before) != 1 {
		t.Fatal(before, err)
	}
	hw := g.r.View().HighWatermark
	for what, image := range map[string]*vfs.Mem{"killed": fs.CrashAll(), "power cut": fs.CrashStrict()} {
		g := start(t, image, 2, testConfig())
		v := g.r.View()
		after, err := v.Log.Aborted(0, v.End)
		if v.End < hw {
			t.Fatalf("%s: the log ends at %d", what, v.End)
		}
		if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: all %d acknowledged records are there; aborted before: %+v, after: %+v, %v", what, hw, before, after, err)
		}
	}
}

// Nor where its marker was the last of an append for which there was room: the rest began a segment, and was refused.
func TestTheRowOfHalfAnAppend(t *testing.T) {
	shown := 0
	for size := 60; size <= 120; size += 4 {
		fs := vfs.NewMem()
		cfg := testConfig()
		cfg.Log.SegmentBytes = 1024
		g := start(t, fs, 2, cfg)
		g.raw(txnBatch(t, 7, 0))         // 0
		g.raw(marker(t, 7, batch.Abort)) // 1: the index has its block of the device
		g.raw(txnBatch(t, 7, 1))         // 2
		fs.SetCapacity(1, 1)
		m := &sent{}
		m.AppendRequest = AppendRequest{Batch: marker(t, 7, batch.Abort), Acks: -1, ExpectedEpoch: Any, Internal: true, Done: func(*AppendRequest) { m.answered++ }}
		g.r.Append(context.Background(), &m.AppendRequest) // 3
		rest := g.send(1, 0, size, -1)
		g.wait(m, rest)
		fs.SetCapacity(1, 1<<40)
		g.sched.RunFor(time.Second)
		if m.Err != nil || rest.Err == nil {
			continue
		}
		shown++
		v := g.r.View()
		if rows, err := v.Log.Aborted(0, v.End); err != nil || len(rows) != 2 || rows[1].FirstOffset != 2 || rows[1].LastStableOffset != 4 {
			t.Errorf("size %d: the marker is acknowledged at 3, log %d..%d; aborted %+v, %v", size, v.Start, v.End, rows, err)
		}
	}
	if shown == 0 {
		t.Error("no append was written in part: the test shows nothing")
	}
}

// The row of an aborted transaction that was cut does not hide a committed one that has come to its place.
func TestAnAbortedTransactionThatWasCutStaysAway(t *testing.T) {
	bad, n := 0, 0
	for seed := range uint64(60) {
		fs := vfs.NewMem()
		g := start(t, fs, 1, testConfig())
		g.wait(g.send(-1, 0, 1, -1))     // 0
		g.raw(txnBatch(t, 7, 0))         // 1
		g.raw(marker(t, 7, batch.Abort)) // 2
		checkpoint(t, g)
		epoch := g.epoch
		g.r.Resign(epoch + 2)
		g.sched.RunFor(time.Second)
		cut := copied(t, g.r.View().Position(), 1)
		cut.Diverging = &partition.EpochEnd{Epoch: epoch, End: 1} // the new leader has the first record alone
		if err := g.take(cut); err != nil || g.r.View().End != 1 {
			t.Fatal(err, g.r.View().End)
		}
		for range 4 { // and a transaction of the same producer that was committed, and more until a segment is begun
			c := copied(t, g.r.View().Position(), g.r.View().End)
			at := g.r.View().End
			for i := range int64(30) {
				raw := txnBatch(t, 7, int32(at+i))
				if i == 29 {
					raw = marker(t, 7, batch.Commit)
				}
				batch.Stamp(raw, at+i, epoch+2)
				c.Batches = append(c.Batches, raw...)
			}
			if err := g.take(c); err != nil {
				t.Fatal(err)
			}
			g.sched.RunFor(time.Second)
		}
		end := g.r.View().End
		if rows, _ := g.r.View().Log.Aborted(0, end); len(rows) != 0 {
			t.Fatal(rows)
		}
		g = start(t, fs.Crash(rand.New(rand.NewPCG(seed, 1))), 2, testConfig())
		v := g.r.View()
		if v.End != end {
			t.Fatalf("the log ends at %d, flushed was %d", v.End, end)
		}
		n++
		if rows, err := v.Log.Aborted(0, v.End); err != nil || len(rows) != 0 {
			bad++
			t.Logf("seed %d: aborted: %+v, %v", seed, rows, err)
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d", bad, n)
	}
}

func checkpoint(t *testing.T, g *rig) {
	t.Helper()
	var err error
	called := false
	g.dir.Checkpoint(func(x error) { err, called = x, true })
	if !g.sched.RunUntil(time.Minute, func() bool { return called }) || err != nil {
		t.Fatal(called, err)
	}
}

// An open transaction of a log that is begun anew holds nobody up, wherever the power goes meanwhile.
func TestATransactionOfALogBegunAnewHoldsNobody(t *testing.T) {
	run := func(fs *vfs.Mem) (from int, g *rig) {
		g = start(t, fs, 1, testConfig())
		for i := range 12 {
			g.wait(g.send(-1, int32(10*i), 10, -1))
		}
		g.raw(txnBatch(t, 7, 0)) // open
		for i := range 30 {
			g.wait(g.send(-1, int32(10*i), 10, -1))
		}
		checkpoint(t, g)
		g.r.Resign(g.epoch + 2)
		g.sched.RunFor(time.Second)
		from = fs.Syncs()
		c := copied(t, g.r.View().Position(), 2000)
		c.Beyond, c.LogStart = true, 2000 // the leader's log begins behind the marker
		c.Done = func(*CopyRequest) {}
		g.r.Copy(c)
		g.sched.RunFor(time.Second)
		return from, g
	}
	fs := vfs.NewMem()
	from, g := run(fs)
	if v := g.r.View(); v.Start != 2000 || v.LastStable != 2000 {
		t.Fatal(v.Start, v.LastStable)
	}
	bad := 0
	for n := from + 1; n <= fs.Syncs(); n++ {
		cut := vfs.NewMem()
		cut.CrashAtSync(n)
		func() {
			defer func() { _ = recover() }()
			run(cut)
		}()
		for seed := range uint64(10) {
			g := start(t, cut.Crash(rand.New(rand.NewPCG(seed, 1))), 2, testConfig())
			if g.r.View().Start != 2000 {
				continue
			}
			g.wait(g.send(-1, 0, 10, -1))
			if v := g.r.View(); v.LastStable != v.HighWatermark {
				bad++
				t.Logf("power cut at sync %d of %d..%d, seed %d: log %d..%d, high watermark %d, last stable offset %d", n, from+1, fs.Syncs(), seed, v.Start, v.End, v.HighWatermark, v.LastStable)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d times", bad)
	}
}

// The end of a transaction is seen by a start also where both were deleted.
func TestAMarkerBelowTheStartIsSeen(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	g.raw(txnBatch(t, 7, 0))
	for i := range 30 { // a snapshot is taken
		g.wait(g.send(-1, int32(10*i), 10, -1))
	}
	g.raw(marker(t, 7, batch.Commit))
	g.wait(g.send(-1, 0, 10, -1))
	hw := g.r.View().HighWatermark
	done := false
	g.r.DeleteRecords(context.Background(), hw-5, func(_ int64, err error) { done = err == nil })
	if !g.sched.RunUntil(time.Minute, func() bool { return done }) {
		t.Fatal("not deleted")
	}
	if v := g.r.View(); v.LastStable != hw {
		t.Fatal(v.LastStable, hw)
	}
	g = start(t, fs.CrashAll(), 2, testConfig())
	g.wait(g.send(-1, 0, 10, -1))
	if v := g.r.View(); v.LastStable != v.HighWatermark {
		t.Errorf("killed: log %d..%d, high watermark %d, last stable offset %d", v.Start, v.End, v.HighWatermark, v.LastStable)
	}
}

// A producer goes on after retention has emptied the log, whatever stops the box then: a snapshot from before what is gone is not taken for
// its state. And its retries are known, for there is a snapshot at the log's new beginning.
func TestAProducerOutlivesItsRecords(t *testing.T) {
	prepare := func(t *testing.T) (*vfs.Mem, *rig) {
		fs := vfs.NewMem()
		g := start(t, fs, 1, testConfig())
		g.wait(g.send(1, 0, 10, -1))
		g.close() // with a snapshot at 10
		g = start(t, fs, 2, testConfig())
		g.wait(g.send(1, 10, 10, -1))
		g.deleteTo(-1)
		g.retain()
		checkpoint(t, g)
		return fs, g
	}
	goesOn := func(t *testing.T, g *rig, known bool) {
		t.Helper()
		if known {
			retry := g.send(1, 10, 10, -1)
			if g.wait(retry); retry.Err != nil || retry.BaseOffset != 10 {
				t.Errorf("the last batch again: offset %d, %v", retry.BaseOffset, retry.Err)
			}
		}
		next := g.send(1, 20, 10, -1)
		if g.wait(next); next.Err != nil {
			t.Error(next.Err)
		}
	}
	snapshot := "/data/t-0/00000000000000000020.snapshot"
	t.Run("not at all", func(t *testing.T) {
		_, g := prepare(t)
		goesOn(t, g, true)
	})
	t.Run("killed", func(t *testing.T) {
		fs, _ := prepare(t)
		goesOn(t, start(t, fs.CrashAll(), 3, testConfig()), true)
	})
	t.Run("power cut, the old segments are gone", func(t *testing.T) {
		fs, g := prepare(t)
		if _, err := g.dir.Sweep(100); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(50) {
			goesOn(t, start(t, fs.Crash(rand.New(rand.NewPCG(seed, 1))), 3, testConfig()), true)
		}
	})
	t.Run("power cut, another has written", func(t *testing.T) {
		fs, g := prepare(t)
		g.wait(g.send(2, 0, 1, -1))
		goesOn(t, start(t, fs.CrashStrict(), 3, testConfig()), true)
	})
	t.Run("killed, without the new snapshot", func(t *testing.T) {
		fs, _ := prepare(t)
		fs = fs.CrashAll()
		f, err := fs.Open("/data/t-0/00000000000000000010.snapshot", vfs.Create) // as an unclean start may find it
		if err == nil {
			_, err = f.WriteAt(snapshotOf(1, 0, 10), 0)
			_ = f.Close()
		}
		if err := errors.Join(err, fs.Remove(snapshot)); err != nil {
			t.Fatal(err)
		}
		goesOn(t, start(t, fs, 3, testConfig()), false)
	})
	t.Run("an append found no room", func(t *testing.T) {
		fs, g := prepare(t)
		fs.SetCapacity(1, 1)
		s := g.send(2, 0, 60, -1)
		if g.wait(s); !errors.Is(s.Err, seglog.ErrFull) {
			t.Fatal(s.Err)
		}
		fs.SetCapacity(1, 1<<40)
		goesOn(t, g, true)
	})
}

// snapshotOf describes a producer that has written one batch of n records, from offset on.
func snapshotOf(pid, offset int64, n int32) []byte {
	var p partition.Producers
	p.Appended(&batch.Header{ProducerID: pid, BaseOffset: offset, LastOffsetDelta: n - 1})
	return p.MarshalSnapshot(nil)
}

// So it does where the segment that is left was begun by a cut.
func TestAProducerOutlivesItsRecordsBeforeACut(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	g.wait(g.send(1, 0, 10, -1))
	g.close() // with a snapshot at 10
	g = start(t, fs, 2, testConfig())
	g.wait(g.send(1, 10, 10, -1), g.send(2, 0, 10, -1)) // 20..29 goes
	epoch := g.epoch
	g.r.Resign(epoch + 1)
	g.sched.RunFor(time.Second)
	cut := &CopyRequest{Asked: g.r.View().Position(), Answer: Answer{Diverging: &partition.EpochEnd{Epoch: epoch, End: 20}}}
	if err := g.take(cut); err != nil || g.r.View().End != 20 {
		t.Fatal(err, g.r.View().End)
	}
	g.lead(epoch + 2)
	g.wait(g.send(-1, 0, 1, -1))
	g.deleteTo(20)
	g.retain()
	checkpoint(t, g)
	for what, image := range map[string]*vfs.Mem{"killed": fs.CrashAll(), "power cut": fs.CrashStrict()} {
		g := start(t, image, 3, testConfig())
		retry, next := g.send(1, 10, 10, -1), g.send(1, 20, 10, -1)
		if g.wait(retry, next); retry.Err != nil || retry.BaseOffset != 10 || next.Err != nil || next.BaseOffset != 21 {
			t.Errorf("%s: the last batch again: offset %d, %v; the next: offset %d, %v", what, retry.BaseOffset, retry.Err, next.BaseOffset, next.Err)
		}
	}
}

// A transaction whose marker went with the log's records holds nobody up, though a snapshot from before has it open.
func TestATransactionThatEndedBeforeTheLogHoldsNobody(t *testing.T) {
	fs := vfs.NewMem()
	g := start(t, fs, 1, testConfig())
	g.raw(txnBatch(t, 7, 0))
	g.close() // with a snapshot at 1, where it is open
	g = start(t, fs, 2, testConfig())
	g.raw(marker(t, 7, batch.Commit))
	g.deleteTo(-1)
	g.retain()
	checkpoint(t, g)
	g = start(t, fs.CrashAll(), 3, testConfig())
	g.wait(g.send(-1, 0, 10, -1))
	if v := g.r.View(); v.LastStable != v.HighWatermark {
		t.Errorf("log %d..%d, high watermark %d, last stable offset %d", v.Start, v.End, v.HighWatermark, v.LastStable)
	}
}
