package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/platform/vfs"
)

// What a full device took of a refused append is not found in the place of what was written there next, though that is lost with the
// power: others may have it already, in the same epoch.
func TestARefusedAppendIsNotFoundForAnother(t *testing.T) {
	refused := 0
	for seed := range uint64(100) {
		mem, plan := vfs.NewMem(), vfs.NewPlan()
		p := newPlayer(t, vfs.WithErrors(mem, plan))
		r, m := p.rig, p.m
		if err := p.append(3, 100); err != nil {
			t.Fatal(err)
		}
		r.mustFlush(p.l)
		plan.Arm(vfs.Fault{Ops: vfs.OpWrite, Name: suffixLog, Err: vfs.ErrNoSpace, WritePrefix: 1 << 20})
		if err := p.append(2, 100); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if plan.Injected() == 1 {
			refused++
		}
		m.batches = m.batches[:len(m.batches)-1]
		if err := p.append(1, 50); err != nil {
			t.Fatal(err)
		}
		l := restartOn(t, mem.Crash(rand.New(rand.NewPCG(seed, 1))), 2).open()
		for i, b := range readAll(t, l.View()) {
			if i >= len(m.batches) || !bytes.Equal(b, m.batches[i]) {
				t.Fatalf("seed %d: batch %d of the log is one that was refused", seed, i)
			}
		}
	}
	if refused == 0 {
		t.Fatal("nothing was refused")
	}
}

// A log that is begun anew has none of the epochs that it had, also after a power cut: its leader's are lower ones where a box has led
// that nobody followed.
func TestEpochsOfALogBegunAnewStayAway(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	m := &model{epoch: 5}
	p := &player{rig: r, m: m, l: r.create()}
	for range 4 {
		if err := p.append(1, 50); err != nil {
			t.Fatal(err)
		}
	}
	r.mustFlush(p.l)
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := p.startAnew(10); err != nil {
		t.Fatal(err)
	}
	m.epoch = 3 // what the leader has there
	for range 4 {
		if err := p.append(1, 50); err != nil {
			t.Fatal(err)
		}
	}
	r.mustFlush(p.l)
	before := fmt.Sprint(p.l.View().Epochs())
	for what, image := range map[string]*vfs.Mem{"strict": mem.CrashStrict(), "killed": mem.CrashAll()} {
		l := restartOn(t, image, 2).open()
		if v := l.View(); v.EndOffset() != 14 || fmt.Sprint(v.Epochs()) != before {
			t.Errorf("%s: log ends at %d; epochs before %s, after %v", what, v.EndOffset(), before, v.Epochs())
		}
	}
}

// everyCut has the power go at every sync that run makes after the ones that it returns the number of, and opens what is left of its log.
func everyCut(t *testing.T, run func(*vfs.Mem) (before int), seeds uint64, look func(l *Log, cut string)) {
	t.Helper()
	mem := vfs.NewMem()
	from := run(mem)
	for n := from + 1; n <= mem.Syncs()+1; n++ {
		for seed := range seeds {
			cut := vfs.NewMem()
			cut.CrashAtSync(n)
			run(cut)
			l := restartOn(t, cut.Crash(rand.New(rand.NewPCG(seed, 1))), 2).open()
			look(l, fmt.Sprintf("power cut at sync %d of %d..%d, seed %d", n, from+1, mem.Syncs(), seed))
		}
	}
}

// Nor has it a snapshot of the producers that it had, wherever the power goes while it is begun.
func TestSnapshotsOfALogBegunAnewStayAway(t *testing.T) {
	run := func(mem *vfs.Mem) int {
		r := mustRig(t, mem)
		m := &model{epoch: 1}
		p := &player{rig: r, m: m, l: r.create()}
		for range 6 {
			if err := p.append(1, 50); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.l.SaveProducerState(5, []byte("old")); err != nil {
			t.Fatal(err)
		}
		r.mustFlush(p.l)
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		n := mem.Syncs()
		_ = p.startAnew(10)
		return n
	}
	everyCut(t, run, 20, func(l *Log, cut string) {
		if offset, blob, ok, _ := l.ProducerState(10); ok && l.View().StartOffset() == 10 {
			t.Errorf("%s: the log begins at 10, state at %d: %q", cut, offset, blob)
		}
	})
}

// Wherever the power goes while the start is raised, or a box is killed, a log knows the leader epochs of all that it has.
func TestEpochsReachDownToTheStart(t *testing.T) {
	run := func(mem *vfs.Mem) int {
		r := mustRig(t, mem)
		m := &model{epoch: 1}
		p := &player{rig: r, m: m, l: r.create()}
		for range 4 {
			p.write(5, 50)
			m.epoch += 2
		}
		r.mustFlush(p.l)
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		n := mem.Syncs()
		_ = p.advance(13)
		return n
	}
	back := 0
	everyCut(t, run, 10, func(l *Log, cut string) {
		v, want := l.View(), "[{1 0} {3 5} {5 10} {7 15}]"
		if v.StartOffset() == 13 {
			want = "[{5 13} {7 15}]"
		} else {
			back++
		}
		if got := fmt.Sprint(v.Epochs()); got != want {
			t.Errorf("%s: the log has %d..%d and the epochs %s", cut, v.StartOffset(), v.EndOffset(), got)
		}
	})
	if back == 0 {
		t.Error("the start was always durable: the test shows nothing")
	}
}

// Nor where the start that was checkpointed lies beyond what has survived.
func TestSnapshotsBelowAStartBeyondTheEnd(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 5, 50)
	if err := l.SaveProducerState(5, []byte("with an open transaction")); err != nil {
		t.Fatal(err)
	}
	r.mustFlush(l)
	r.fill(l, 4, 50) // its marker is here; acknowledged from the page cache
	if err := l.AdvanceStart(8, func(error) {}); err != nil {
		t.Fatal(err)
	}
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	l = restartOn(t, mem.CrashStrict(), 2).open()
	if v := l.View(); v.StartOffset() != 8 || v.EndOffset() != 8 {
		t.Fatalf("%d..%d: the test shows nothing", v.StartOffset(), v.EndOffset())
	}
	if offset, blob, ok, _ := l.ProducerState(8); ok {
		t.Errorf("the log is empty and begins at 8, state at %d: %q", offset, blob)
	}
}

// A start is said to be durable when it is, also where the log is closed before the checkpoint is written, and finds no space for its indexes.
func TestAStartOfALogThatIsClosedMeanwhile(t *testing.T) {
	for _, full := range []bool{false, true} {
		mem := vfs.NewMem()
		r := mustRig(t, mem)
		l := r.create()
		r.fill(l, 8, 50)
		r.mustFlush(l)
		r.fill(l, 8, 50)
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		var told []error
		if err := l.AdvanceStart(5, func(err error) { told = append(told, err) }); err != nil {
			t.Fatal(err)
		}
		if full {
			mem.SetCapacity(1, 1)
		}
		if err := l.Close(); errors.Is(err, ErrFull) != full {
			t.Fatalf("close: %v", err)
		}
		mem.SetCapacity(1, 1<<40)
		r.sched.RunUntil(time.Minute, func() bool { return len(told) > 0 })
		start, _ := restartOn(t, mem.CrashStrict(), 2).dir.pointsOf(testTP)
		if len(told) != 1 || (told[0] == nil) != (start == 5) || full && !errors.Is(told[0], ErrClosed) || !full && told[0] != nil {
			t.Errorf("full %v: told %v, and the log begins at %d", full, told, start)
		}
	}
}

// Zeros, which a power cut leaves of a row of the transaction index that was not synced, are no row of producer 0.
func TestRowsOfZerosAreNoRows(t *testing.T) {
	bad := 0
	for seed := range uint64(200) {
		mem := vfs.NewMem()
		r := mustRig(t, mem)
		l := r.create()
		r.fill(l, 4, 50)
		r.mustFlush(l)
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		r.fill(l, 2, 50)
		if err := l.AppendAborted(AbortedTxn{ProducerID: 9, FirstOffset: 4, LastOffset: 5, LastStableOffset: 6}); err != nil {
			t.Fatal(err)
		}
		r.mustFlush(l) // names are durable, the row is not
		r2 := restartOn(t, mem.Crash(rand.New(rand.NewPCG(seed, 1))), 2)
		l = r2.open()
		if err := l.ResetAborted(3); err != nil { // what loadProducers does with a snapshot at 3, below the recovery point
			t.Fatal(err)
		}
		rows, err := l.View().Aborted(0, l.View().EndOffset())
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > 0 {
			bad++
			t.Logf("seed %d: %+v", seed, rows)
		}
	}
	if bad > 0 {
		t.Errorf("%d of 200", bad)
	}
}

// Rows that a start has cut stay away, though a checkpoint came between the opening and the cut.
func TestWhatResetAbortedCutStaysAway(t *testing.T) {
	bad, again := 0, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := vfs.NewMem()
		p := newPlayer(t, mem)
		r, m := p.rig, p.m
		p.write(6, 50)
		if err := p.l.AppendAborted(AbortedTxn{ProducerID: 9, FirstOffset: 3, LastOffset: 5, LastStableOffset: 6}); err != nil {
			t.Fatal(err)
		}
		r.mustFlush(p.l)
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := p.truncate(3); err != nil {
			t.Fatal(err)
		}
		mem = mem.Crash(rng)
		p.restart(mem, 2)
		r = p.rig
		if p.l.View().EndOffset() != 3 {
			continue
		}
		// A checkpoint comes between Dir.Open and the walk over the batches: Open asks for one by itself (Dir.flushed(Verified)).
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		if rows, _ := p.l.View().Aborted(0, 3); len(rows) > 0 {
			again++
		}
		if err := p.l.ResetAborted(0); err != nil {
			t.Fatal(err)
		}
		m.epoch++
		p.write(5, 50)
		if err := p.l.SaveProducerState(8, []byte("new")); err != nil {
			t.Fatal(err)
		}
		r.mustFlush(p.l)
		if err := r.checkpoint(); err != nil { // the recovery point is 8: everything before is vouched for
			t.Fatal(err)
		}
		r = restartOn(t, mem.Crash(rng), 3)
		l := r.open()
		from, _, _, _ := l.ProducerState(l.View().EndOffset())
		if err := l.ResetAborted(from); err != nil {
			t.Fatal(err)
		}
		if rows, _ := l.View().Aborted(0, l.View().EndOffset()); len(rows) > 0 {
			bad++
			t.Logf("seed %d: recovery point 8, from %d: %+v", seed, from, rows)
		}
	}
	t.Logf("rows back after the first cut: %d", again)
	if bad > 0 {
		t.Errorf("%d times", bad)
	}
}

// A high watermark that a truncation or a power cut has lowered does not come back: what is written there since is not acknowledged by it.
func TestHighWatermarkBeyondACutStaysAway(t *testing.T) {
	for _, how := range []string{"truncated", "lost"} {
		mem := vfs.NewMem()
		p := newPlayer(t, mem)
		r, m := p.rig, p.m
		p.write(3, 50)
		r.mustFlush(p.l)
		p.write(3, 50)
		p.l.SetHighWatermark(6) // as with Durability Replicated
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		if how == "lost" {
			mem = mem.CrashStrict()
			p.restart(mem, 2)
			r = p.rig
			m.batches = m.batches[:3]
		} else if err := p.truncate(3); err != nil {
			t.Fatal(err)
		}
		p.l.SetHighWatermark(3)
		m.epoch++
		p.write(3, 50)
		r.mustFlush(p.l)
		r = restartOn(t, mem.CrashAll(), 3)
		l := r.open()
		if hw, _ := r.dir.HighWatermark(testTP); hw > 3 {
			t.Errorf("%s: the high watermark is %d (log %d, epochs %v), acknowledged was 3", how, min(hw, l.View().EndOffset()), l.View().EndOffset(), l.View().Epochs())
		}
	}
}

// A log that a checkpoint knows has its topic's id, also when nothing of it was flushed.
func TestTopicIDOfALogThatTheCheckpointKnows(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	if err := l.TruncateFullyAndStartAt(10); err != nil { // a new follower whose leader's log begins at 10
		t.Fatal(err)
	}
	l.SetHighWatermark(10) // reload
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	r2 := restartOn(t, mem.CrashStrict(), 2)
	_, err := r2.dir.Open(testTP, r2.cfg)
	_, known := r2.dir.HighWatermark(testTP)
	if err != nil {
		t.Errorf("known to the checkpoint: %v; %v", known, err)
	}
}

// A log begins inside a batch, or, where that finds no room, empty at its start; what holds no start changes nothing.
func TestALogBegunInsideABatch(t *testing.T) {
	mem, plan := vfs.NewMem(), vfs.NewPlan()
	p := newPlayer(t, vfs.WithErrors(mem, plan))
	p.write(3, 50)
	inside := makeBatch(20, 4, 10, 50, 1, 1) // 20..29
	for _, start := range []int64{19, 20, 30} {
		if _, err := p.l.StartInside(p.clk.Now(), start, inside); !errors.Is(err, ErrInvalid) || p.l.View().EndOffset() != 3 {
			t.Fatalf("from %d: %v, end %d", start, err, p.l.View().EndOffset())
		}
	}
	plan.Arm(vfs.Fault{Ops: vfs.OpWrite, Name: "20" + suffixLog, Err: vfs.ErrNoSpace})
	if _, err := p.l.StartInside(p.clk.Now(), 25, inside); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if v := p.l.View(); v.StartOffset() != 25 || v.EndOffset() != 25 || v.FirstOffset() != 25 || p.l.FlushedEnd() != 25 {
		t.Fatalf("without room: first offset %d, %d..%d, flushed to %d", v.FirstOffset(), v.StartOffset(), v.EndOffset(), p.l.FlushedEnd())
	}
	if _, err := p.l.StartInside(p.clk.Now(), 25, inside); err != nil {
		t.Fatal(err)
	}
	p.mustFlush(p.l)
	before := p.l.View()
	if before.StartOffset() != 25 || before.EndOffset() != 30 || fmt.Sprint(before.Epochs()) != "[{4 25}]" {
		t.Fatalf("%d..%d, epochs %v", before.StartOffset(), before.EndOffset(), before.Epochs())
	}
	l := restartOn(t, mem.CrashStrict(), 2).open()
	if v := l.View(); v.StartOffset() != 25 || v.EndOffset() != 30 || fmt.Sprint(v.Epochs()) != fmt.Sprint(before.Epochs()) {
		t.Errorf("after a power cut: %d..%d, epochs %v", v.StartOffset(), v.EndOffset(), v.Epochs())
	}
}
