package seglog

import (
	"errors"
	"math/rand/v2"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// A producers' state beyond the end does not come back: not with a crash before its removal was durable, and not with
// another one after the log has grown past it.
func TestStateBeyondTheEndStaysAway(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 12, 100)
	if err := l.SaveProducerState(10, []byte("of the old records")); err != nil {
		t.Fatal(err)
	}
	r.mustFlush(l)
	if err := l.Truncate(4); err != nil {
		t.Fatal(err)
	}
	mem = mem.CrashStrict() // before the flush that makes the removal durable

	r = mustRig(t, mem)
	l = r.open()
	if end := l.View().EndOffset(); end >= 10 {
		t.Fatalf("the log ends at %d: the test shows nothing", end)
	}
	if offset, _, ok, _ := l.ProducerState(100); ok {
		t.Fatalf("a state at offset %d, the log ends at %d", offset, l.View().EndOffset())
	}
	r.cfg.SegmentBytes = 1 << 20
	if err := l.SetConfig(r.cfg); err != nil {
		t.Fatal(err)
	}
	r.fill(l, 12, 100)
	r.mustFlush(l)

	r = mustRig(t, mem.CrashStrict())
	l = r.open()
	if end := l.View().EndOffset(); end < 10 {
		t.Fatalf("the log ends at %d: the test shows nothing", end)
	}
	if offset, blob, ok, _ := l.ProducerState(100); ok {
		t.Errorf("a state at offset %d of records that are gone: %q", offset, blob)
	}
}

// Names that only look like offsets are nobody's.
func TestNamesThatAreNoOffsets(t *testing.T) {
	for _, name := range []string{"+0000000000000000001.log", "-0000000000000000001.log", "0x000000000000000001.log", "0000000000000000000_.log"} {
		if offset, _, ok := parseOffsetName(name); ok {
			t.Errorf("%s is taken for offset %d", name, offset)
		}
	}
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 3, 100)
	r.stop(l)
	overwrite(t, mem, "/data/orders-0/+0000000000000000001.log", 0, []byte("x"))
	r = mustRig(t, mem)
	if got := readAll(t, r.open().View()); len(got) != 3 {
		t.Errorf("%d batches", len(got))
	}
}

// A log that is open is not opened once more: its recovery would cut what the first one is writing.
func TestAnOpenLogIsNotOpened(t *testing.T) {
	mem := vfs.NewMem()
	plan := vfs.NewPlan()
	r := mustRig(t, vfs.WithErrors(mem, plan))
	l := r.create()
	r.fill(l, 3, 100)
	r.mustFlush(l)
	*plan = *vfs.NewPlan(vfs.Fault{Ops: vfs.OpAll, Name: "orders-0", Sticky: true})
	if _, err := r.dir.Open(testTP, r.cfg); !errors.Is(err, ErrExist) || plan.Injected() != 0 {
		t.Fatalf("%v after %d operations", err, plan.Injected())
	}
	plan.Disarm()
	r.fill(l, 3, 100)
	r.mustFlush(l)
}

// A file that could not be removed for lack of space (a copy-on-write file system needs some) is removed later.
func TestASweepThatFoundNoSpaceGoesOn(t *testing.T) {
	mem := vfs.NewMem()
	plan := vfs.NewPlan()
	r := mustRig(t, vfs.WithErrors(mem, plan))
	l := r.create()
	r.fill(l, 12, 200)
	r.mustFlush(l)
	second := l.View().segs[1].base
	if removed, err := l.TrimTo(r.clk.Now(), second, l.FlushedEnd()); err != nil || removed.Segments != 1 {
		t.Fatalf("%+v, %v", removed, err)
	}
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	*plan = *vfs.NewPlan(vfs.Fault{Ops: vfs.OpRemove, Name: suffixLog, Err: vfs.ErrNoSpace})
	if err := r.sweep(); !errors.Is(err, ErrFull) || plan.Injected() != 1 {
		t.Fatalf("%v, %d faults", err, plan.Injected())
	}
	if err := r.sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := mem.Stat(segment0 + suffixLog); !errors.Is(err, vfs.ErrNotExist) {
		t.Errorf("the segment is still there: %v", err)
	}
}

// What a full device took of a refused append is gone for good, also when the power goes behind a segment that was begun since and a
// recovery point that has passed it: its bytes are not found at the end of a sealed segment.
func TestARefusedAppendDoesNotComeBack(t *testing.T) {
	for seed := range uint64(40) {
		mem := vfs.NewMem()
		plan := vfs.NewPlan()
		r := mustRig(t, vfs.WithErrors(mem, plan))
		l := r.create()
		m := &model{epoch: 1}
		p := &player{rig: r, m: m, l: l}
		for range 4 { // enough for an entry in the index
			if err := p.append(1, 100); err != nil {
				t.Fatal(err)
			}
		}
		r.mustFlush(l)
		plan.Arm(vfs.Fault{Ops: vfs.OpWrite, Name: suffixLog, Err: vfs.ErrNoSpace, WritePrefix: -1})
		if err := p.append(1, 100); !errors.Is(err, ErrFull) || plan.Injected() != 1 {
			t.Fatalf("%v, %d faults", err, plan.Injected())
		}
		m.batches = m.batches[:len(m.batches)-1]
		for range 6 {
			if err := p.append(1, 900); err != nil {
				t.Fatal(err)
			}
		}
		r.mustFlush(l)
		if err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		after, err := newRig(t, mem.Crash(rand.New(rand.NewPCG(seed, 1))), seed)
		if err != nil {
			t.Fatal(err)
		}
		v := after.open().View()
		m.verifyLive(t, v)
		if err := v.Scan(0, v.EndOffset(), func(*batch.Header, []byte) error { return nil }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// What a truncation has cut is gone for good, also when the power goes before the cut is durable, and again behind a recovery that has
// cut it a second time and a recovery point that has passed it: its bytes are not found at the end of a sealed segment.
func TestWhatWasCutDoesNotComeBack(t *testing.T) {
	again := 0
	for seed := range uint64(100) {
		mem := vfs.NewMem()
		p := newPlayer(t, mem)
		m := p.m
		write := func(n int) {
			t.Helper()
			p.write(n, 100)
			p.mustFlush(p.l)
			if err := p.checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		fail := func() {
			t.Helper()
			mem = mem.Crash(rand.New(rand.NewPCG(seed, 1)))
			p.restart(mem, seed)
		}
		write(6)
		if err := p.truncate(3); err != nil {
			t.Fatal(err)
		}
		fail()
		if p.l.View().EndOffset() != 3 {
			continue // nothing of the truncation was durable: the next copy finds the old log, and cuts it
		}
		if p.l.Recovery().Cut {
			again++
		}
		m.epoch++
		write(3)
		fail()
		v := p.l.View()
		m.verifyLive(t, v)
		if err := v.Scan(0, v.EndOffset(), func(*batch.Header, []byte) error { return nil }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if again == 0 {
		t.Fatal("no recovery had anything to cut")
	}
}

// A snapshot of producers that was taken beyond where the log was cut, by a truncation or by a crash, is not found again when records
// have come to its offset once more: it would be taken for their state. What was written since may survive a power cut that nothing
// was flushed before.
func TestASnapshotBeyondTheEndDoesNotComeBack(t *testing.T) {
	for how, cut := range map[string]func(p *player, restart func()) error{
		"truncated": func(p *player, _ func()) error { return p.truncate(3) },
		"truncated to nothing": func(p *player, _ func()) error {
			if err := p.truncate(0); err != nil {
				return err
			}
			return p.append(3, 100)
		},
		"begun anew": func(p *player, _ func()) error { return p.startAnew(3) },
		"lost":       func(_ *player, restart func()) error { restart(); return nil },
	} {
		t.Run(how, func(t *testing.T) {
			survived := 0
			for seed := range uint64(200) {
				mem := vfs.NewMem()
				rng := rand.New(rand.NewPCG(seed, 1))
				p := newPlayer(t, mem)
				m := p.m
				restart := func() {
					t.Helper()
					mem = mem.Crash(rng)
					p.restart(mem, seed)
				}
				p.write(3, 100)
				p.mustFlush(p.l)
				p.write(3, 100)
				if err := p.l.SaveProducerState(6, []byte("old")); err != nil {
					t.Fatal(err)
				}
				if how != "lost" {
					p.mustFlush(p.l)
				}
				if err := cut(p, restart); err != nil {
					t.Fatal(err)
				}
				if p.l.View().EndOffset() != 3 {
					continue // nothing was lost
				}
				m.batches = m.batches[:min(len(m.batches), 3)]
				m.epoch++
				p.write(3, 100)
				restart()
				if p.l.View().EndOffset() != 6 || p.l.View().LatestEpoch() != m.epoch {
					continue // the new records are lost
				}
				survived++
				if offset, blob, ok, err := p.l.ProducerState(6); err != nil || ok && offset == 6 {
					t.Fatalf("seed %d: the state at offset %d is %q, %v", seed, offset, blob, err)
				}
			}
			if survived == 0 {
				t.Fatal("no record has survived: the test shows nothing")
			}
		})
	}
}
